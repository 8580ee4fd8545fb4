import { join, resolve } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import { codeBlocks, userDocuments } from "./documents.js";

// The guide's programs are TypeScript too, once the subject is declared as one.

const guide = join("docs", "guides", "verify_your_own_kernel.md");
const programs = userDocuments
  .filter(({ path }) => path === guide)
  .flatMap(codeBlocks)
  .filter(({ language }) => language === "js")
  .map(({ line, code }) => ({ file: resolve("build", `guide_line_${line}.mts`), code }));

test("programs of subjects compile in TypeScript", () => {
  const sources = new Map(
    programs.map(({ file, code }) => {
      const typed = code.replace("const subject = {", "const subject: Subject = {");
      return [file, `import type { Subject } from "moe-kernels/testing";\n${typed}`];
    }),
  );
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
  const problems = ts.getPreEmitDiagnostics(ts.createProgram([...sources.keys()], options, host));
  expect(problems.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))).toEqual([]);
  expect(sources.size).toBe(3);
});
