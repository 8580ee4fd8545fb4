import { describe, expect, test } from "vitest";
import { families } from "../../lib/checkpoint/families/registry.js";
import { architectureNames } from "../../lib/checkpoint/gguf/architectures.js";
import { documents } from "./documents.js";

const textOf = (path: string) => documents.find((document) => document.path === path)?.text as string;

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
