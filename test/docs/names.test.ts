import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as moeKernels from "moe-kernels";
import * as bench from "moe-kernels/bench";
import * as gguf from "moe-kernels/gguf";
import * as parallel from "moe-kernels/parallel";
import * as safetensors from "moe-kernels/safetensors";
import * as testing from "moe-kernels/testing";
import { describe, expect, test } from "vitest";
import { userDocuments } from "./documents.js";

// What users can name stands in the documentation.

const everything = userDocuments.map(({ text }) => text).join("\n");
const errors = readFileSync("docs/errors.md", "utf8");

test("every error code", () => {
  const codes = [...readFileSync("lib/core/errors.ts", "utf8").matchAll(/^ {2}\| "([A-Z_]+)"/gm)].map(
    ([, code]) => code,
  );
  expect(codes.length).toBeGreaterThan(10);
  expect(codes.filter((code) => !errors.includes(`| \`${code}\` |`))).toEqual([]);
});

test("every environment variable that is read", () => {
  const sources = ["lib", "native", "scripts"].flatMap((folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => readFileSync(join(entry.parentPath, entry.name), "utf8")),
  );
  const read = sources.flatMap((text) =>
    [...text.matchAll(/(?:variables\.find\("|process\.env\.|\{ (?=[^}]*\} = process\.env))(MOE_\w+)/g)].map(
      ([, name]) => name as string,
    ),
  );
  expect(new Set(read).size).toBeGreaterThan(7);
  expect([...new Set(read)].filter((name) => !errors.includes(`| \`${name}\` |`))).toEqual([]);
});

describe.each(Object.entries({ moeKernels, safetensors, gguf, parallel, testing, bench }))("%s", (_, module) => {
  test("every function and class that it exports", () => {
    const names = Object.keys(module);
    expect(names.length).toBeGreaterThan(2);
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(everything))).toEqual([]);
  });
});
