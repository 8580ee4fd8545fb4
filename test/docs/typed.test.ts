import { join, resolve } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import { codeBlocks, userDocuments } from "./documents.js";

// Every program of JavaScript in the documentation is TypeScript too, once its own parameters and empty objects have types.

/** What TypeScript says where a parameter or an empty object needs a type. */
const needsType = [7005, 7006, 7019, 7031, 7034, 7053];

const guide = join("docs", "guides", "verify_your_own_kernel.md");
const blocks = userDocuments.flatMap(codeBlocks).filter(({ language }) => language === "js");
const programs = blocks.map(({ path, line, code }) => ({
  file: resolve("build", `${path.replace(/\W+/g, "_")}_${line}.mts`),
  code: path === guide ? withSubject(code) : code,
}));

/** The subject, declared as one: its operators' parameters need no types then. */
function withSubject(code: string): string {
  const typed = code.replace("const subject = {", "const subject: Subject = {");
  return typed === code ? code : `import type { Subject } from "moe-kernels/testing";\n${typed}`;
}

test("programs compile in TypeScript", () => {
  const sources = new Map(programs.map(({ file, code }) => [file, code]));
  const withTypes = new Set(programs.filter(({ code }) => code.includes(": Subject = ")).map(({ file }) => file));
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
    module: ts.ModuleKind.NodeNext,
    strict: true,
    noEmit: true,
    types: ["node"],
  };
  const host = ts.createCompilerHost(options);
  const readFile = host.readFile.bind(host);
  const fileExists = host.fileExists.bind(host);
  host.readFile = (file) => sources.get(file) ?? readFile(file);
  host.fileExists = (file) => sources.has(file) || fileExists(file);
  const problems = ts
    .getPreEmitDiagnostics(ts.createProgram([...sources.keys()], options, host))
    .filter(({ code, file }) => !needsType.includes(code) || withTypes.has(file?.fileName ?? ""))
    .map(({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`);
  expect(problems).toEqual([]);
  expect(withTypes.size).toBe(1);
  expect(sources.size).toBeGreaterThan(30);
});
