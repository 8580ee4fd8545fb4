import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

// The declarations of what this package exports, as the compiler sees them.

export const repository = fileURLToPath(new URL("../..", import.meta.url));
export const modules = {
  "moe-kernels": "index.ts",
  "moe-kernels/safetensors": "checkpoint/safetensors/index.ts",
  "moe-kernels/gguf": "checkpoint/gguf/index.ts",
  "moe-kernels/parallel": "parallel/index.ts",
  "moe-kernels/testing": "testing/index.ts",
  "moe-kernels/bench": "bench/index.ts",
};
export const entries = Object.values(modules).map((name) => join(repository, "lib", name));

const { options } = ts.parseJsonConfigFileContent(
  ts.readConfigFile(join(repository, "tsconfig.json"), ts.sys.readFile).config,
  ts.sys,
  repository,
);
const program = ts.createProgram(entries, options);
export const checker = program.getTypeChecker();

export function resolved(symbol: ts.Symbol): ts.Symbol {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

/** The exports of a module: names and symbols. */
export function exportsOf(entry: string): ReadonlyMap<string, ts.Symbol> {
  const module = checker.getSymbolAtLocation(program.getSourceFile(entry) as ts.SourceFile) as ts.Symbol;
  return new Map(checker.getExportsOfModule(module).map((symbol) => [symbol.name, resolved(symbol)]));
}

/** Whether something is declared in this package. */
export function isOurs(declaration: ts.Node | undefined): boolean {
  return declaration?.getSourceFile().fileName.startsWith(join(repository, "lib")) ?? false;
}

/** Whether a declaration is not part of the published types. */
export function isHidden(node: ts.Node): boolean {
  if (ts.getJSDocTags(node).some(({ tagName }) => tagName.text === "internal")) return true;
  if (ts.canHaveModifiers(node)) {
    if (ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword)) return true;
  }
  return ts.isClassElement(node) && node.name !== undefined && ts.isPrivateIdentifier(node.name);
}
