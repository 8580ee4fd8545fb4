import { resolve } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";

// Doc comments name the errors of every function, and of every method of a class, that takes arguments or may fail otherwise.

/** Whether a doc comment speaks of errors, or says that there is nothing to say. */
const speaks = /@throws|\b(throws|rejects?)\b|^As \{@link|Idempotent/i;

/** What throws nothing, and what a class says of all its methods. */
const without = ["isMoeError", "listDevices", "ConfigFields.", "ShardedCheckpoint.has", "SplitGguf.has"];

test("doc comments name errors", () => {
  const files = ["index.ts", "checkpoint/safetensors/index.ts", "checkpoint/gguf/index.ts"].map((file) =>
    resolve("lib", file),
  );
  const program = ts.createProgram(files, {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    types: ["node"],
  });
  const checker = program.getTypeChecker();
  const exported = new Set(
    files.flatMap((file) => {
      const module = checker.getSymbolAtLocation(program.getSourceFile(file) as ts.SourceFile) as ts.Symbol;
      return checker
        .getExportsOfModule(module)
        .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol));
    }),
  );
  const methodsOf = (symbol: ts.Symbol) =>
    [...(symbol.members?.values() ?? []), ...(symbol.exports?.values() ?? [])]
      .filter(({ declarations, name }) => !/^(__|#)/.test(name) && declarations?.some(ts.isMethodDeclaration))
      .map((method) => ({ name: `${symbol.name}.${method.name}`, symbol: method }));
  const callable = [...exported].flatMap((symbol) => {
    if (symbol.flags & ts.SymbolFlags.Function) return [{ name: symbol.name, symbol }];
    return symbol.flags & ts.SymbolFlags.Class ? methodsOf(symbol) : [];
  });
  expect(callable.length).toBeGreaterThan(150);
  const silent = callable.filter(({ name, symbol }) => {
    const tags = symbol.getJsDocTags(checker).map((tag) => `@${tag.name}`);
    if (tags.includes("@internal") || without.some((one) => name.startsWith(one))) return false;
    const text = ts.displayPartsToString(symbol.getDocumentationComment(checker));
    return !speaks.test([text, ...tags].join("\n"));
  });
  expect(silent.map(({ name }) => name)).toEqual([]);
});
