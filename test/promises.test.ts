import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import { openDevice } from "../lib/index.js";
import { expectRejection } from "./support/errors.js";

// A function that returns a promise must not throw as well: `promise.catch()` would miss it. Async functions never do.

/** The functions of a source that are declared to return a promise but are not async. */
function synchronousPromises(path: string): string[] {
  const source = ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node) && "body" in node && node.body && node.type?.getText().startsWith("Promise<")) {
      const isAsync = ts.canHaveModifiers(node) && ts.getModifiers(node)?.some(({ kind }) => kind === asyncKind);
      if (!isAsync) found.push(`${path}: ${node.name?.getText() ?? "a function"}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const asyncKind = ts.SyntaxKind.AsyncKeyword;

test("functions that return promises are async", () => {
  const sources = readdirSync("lib", { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ts"));
  expect(sources.length).toBeGreaterThan(100);
  expect(sources.flatMap((path) => synchronousPromises(join("lib", path)))).toEqual([]);
});

test("what cannot be enqueued is a rejection", async () => {
  const device = openDevice("reference");
  const tensor = device.zeros([1], "f32");
  device.dispose();
  for (const call of [() => device.synchronize(), () => tensor.data(), () => tensor.raw(), () => tensor.toArray()]) {
    await expectRejection(call(), "DISPOSED", /used after dispose\(\)/);
  }
  await device.close();
});
