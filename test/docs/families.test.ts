import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { families } from "../../lib/checkpoint/families/registry.js";
import { architectureNames } from "../../lib/checkpoint/gguf/architectures.js";

const textOf = (name: string) => readFileSync(join(import.meta.dirname, "..", "..", name), "utf8");

describe("the documents name every", () => {
  const named = new Set(Array.from(textOf("docs/checkpoints.md").matchAll(/`([^`]+)`/g), ([, name]) => name));

  test("family", () => {
    expect([...families.keys()].filter((name) => !named.has(name))).toEqual([]);
  });

  test("architecture of GGUF files", () => {
    expect(architectureNames.filter((name) => !named.has(name))).toEqual([]);
  });

  test("number of them", () => {
    const changes = textOf("CHANGELOG.md").replace(/\s+/g, " ");
    expect(changes).toContain(`directories of ${families.size} model families`);
    expect(changes).toContain(`GGUF files of ${architectureNames.length} architectures`);
  });
});
