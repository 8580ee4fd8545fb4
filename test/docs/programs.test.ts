import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runProgram } from "../support/run_program.js";
import { ServingProcess } from "../support/serving_process.js";
import { type CodeBlock, codeBlocks, commandsIn, documents, userDocuments } from "./documents.js";
import { writeModels } from "./models.js";

// Every block of JavaScript in the README and in docs/ runs as it stands, in a folder with tiny models of the names that they
// load. A block after a line that is only a path quotes that file.

const blocks = userDocuments.flatMap(codeBlocks);

/** The file that a block quotes. */
function quoted({ before }: CodeBlock): string | undefined {
  return /^`([^`]+)`:$/.exec(before)?.[1];
}

let directory: string;
let server: ServingProcess;
beforeAll(async () => {
  mkdirSync("build", { recursive: true });
  directory = mkdtempSync(join("build", "docs-")); // inside the package, so that its own name can be imported
  await writeModels(directory);
  copyFileSync(join("examples", "verify_your_kernel", "peer.mjs"), join(directory, "peer.mjs"));
  // A program of the documentation uses what this command of the same page serves.
  const [command] = documents.flatMap(({ text }) => commandsIn(text)).filter((text) => text.includes("experts.sock"));
  server = new ServingProcess((command as string).replace(/^npx moe-kernels serve /, "").split(" "), directory);
  await server.address();
});
afterAll(async () => {
  expect(await server.end()).toEqual([0, null]);
  rmSync(directory, { recursive: true });
});

const programs = blocks
  .filter((block) => ["js", "javascript"].includes(block.language) && !quoted(block))
  .map(({ path, line, code }) => ({ place: `${path}:${line}`, code }));

test.each(programs)("$place runs", ({ place, code }) => {
  const file = `${place.replace(/\W+/g, "_")}.mjs`;
  const { status, stdout, stderr } = runProgram(directory, file, code);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).not.toBe("");
});

test("no program has `using`, which Node parses from version 24 on", () => {
  expect(programs.filter(({ code }) => /\busing \w+ =/.test(code)).map(({ place }) => place)).toEqual([]);
});

describe("quoted code", () => {
  const quotations = blocks.flatMap((block) => {
    const file = quoted(block);
    return file === undefined ? [] : [{ place: `${block.path}:${block.line}`, file, code: block.code }];
  });

  test.each(quotations)("$place stands in $file", ({ file, code }) => {
    expect(readFileSync(file, "utf8")).toContain(code);
  });

  test("is all code of other languages", () => {
    const languages = ["js", "ts", "text"];
    const others = blocks.filter((block) => !languages.includes(block.language) && quoted(block) === undefined);
    expect(others.map(({ path, line, language }) => `${path}:${line} ${language}`)).toEqual([]);
    expect(quotations.length).toBeGreaterThan(3);
  });
});

test("the README has two examples, and most documents have one", () => {
  expect(programs.filter(({ place }) => place.startsWith("README.md")).length).toBe(2);
  expect(programs.length).toBeGreaterThan(20);
});
