import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ts from "typescript";
import { afterAll, expect, test } from "vitest";
import {
  checker,
  entries,
  exportsOf,
  isHidden,
  isOurs,
  modules,
  repository,
  resolved,
} from "./support/public_types.js";

// A project that re-exports what this package returns, with `declaration: true`, must be able to name every type in it.

const project = mkdtempSync(join(tmpdir(), "moe-kernels-types-"));
afterAll(() => rmSync(project, { recursive: true }));

/** The names of this package's types that the signatures of a declaration mention. */
function* mentioned(node: ts.Node): Generator<ts.Symbol> {
  // Bodies and initial values are not part of a signature.
  if (ts.isBlock(node) || isHidden(node)) return;
  // Inherited fields do not need the base's name.
  if (ts.isHeritageClause(node)) return;
  if (ts.isTypeReferenceNode(node)) {
    const symbol = checker.getSymbolAtLocation(node.typeName);
    const target = symbol && resolved(symbol);
    const declaration = target?.declarations?.[0];
    if (target && declaration && isOurs(declaration) && !ts.isTypeParameterDeclaration(declaration)) yield target;
  }
  const initializer = ts.isPropertyDeclaration(node) || ts.isParameter(node) ? node.initializer : undefined;
  for (const child of childrenOf(node)) if (child !== initializer) yield* mentioned(child);
}

function childrenOf(node: ts.Node): ts.Node[] {
  const children: ts.Node[] = [];
  ts.forEachChild(node, (child) => {
    children.push(child);
  });
  return children;
}

test("every type that a public signature mentions is exported", () => {
  for (const entry of entries) {
    const exported = exportsOf(entry);
    // Types of the main module can be imported from there.
    const known = new Set([...exported.values(), ...exportsOf(entries[0] as string).values()]);
    const missing = [...exported.values()]
      .flatMap((symbol) => symbol.declarations ?? [])
      .flatMap((declaration) => [...mentioned(declaration)])
      .filter((symbol) => !known.has(symbol));
    expect([...new Set(missing.map(({ name }) => name))].sort()).toEqual([]);
  }
});

test("a project with `declaration: true` can re-export everything that the package returns", () => {
  const installed = join(project, "node_modules", "moe-kernels");
  mkdirSync(installed, { recursive: true });
  cpSync(join(repository, "package.json"), join(installed, "package.json"));
  cpSync(join(repository, "dist"), join(installed, "dist"), { recursive: true });
  const user = join(project, "user.mts");
  const lines = Object.entries(modules).flatMap(([module, entry], index) => {
    const namespace = `m${index}`;
    const uses = [...exportsOf(join(repository, "lib", entry))].flatMap(([name, symbol]) =>
      usesOf(namespace, name, symbol),
    );
    return [`import * as ${namespace} from "${module}";`, ...uses];
  });
  writeFileSync(user, lines.join("\n"));
  const compiled = ts.createProgram([user], {
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
    module: ts.ModuleKind.NodeNext,
    strict: true,
    declaration: true,
    outDir: join(project, "out"),
    typeRoots: [join(repository, "node_modules", "@types")],
    types: ["node"],
  });
  const emitted = compiled.emit();
  const problems = [...ts.getPreEmitDiagnostics(compiled), ...emitted.diagnostics].map(
    ({ code, messageText }) => `TS${code}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`,
  );
  expect([...new Set(problems)]).toEqual([]);
  expect(lines.length).toBeGreaterThan(100);
});

/** Exports with inferred types: the results of functions, and the fields and methods of types. */
function usesOf(namespace: string, name: string, symbol: ts.Symbol): string[] {
  const [declaration] = symbol.declarations ?? [];
  if (declaration === undefined) return [];
  const own = `${namespace}_${name}`;
  if (ts.isFunctionDeclaration(declaration)) {
    const type = `typeof ${namespace}.${name}`;
    return [
      `export const ${own} = (...given: Parameters<${type}>) => (${namespace}.${name} as (...all: unknown[]) => ReturnType<${type}>)(...given);`,
    ];
  }
  if (!ts.isInterfaceDeclaration(declaration) && !ts.isClassDeclaration(declaration)) return [];
  const parameters = declaration.typeParameters?.map(() => "any").join(", ");
  const type = `${namespace}.${name}${parameters ? `<${parameters}>` : ""}`;
  return checker
    .getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol))
    .filter(({ declarations, name: property }) => /^\w+$/.test(property) && !declarations?.some(isHidden))
    .map(({ name: property }) => `export const ${own}_${property} = (value: ${type}) => value.${property};`);
}
