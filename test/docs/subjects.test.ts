import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import type { Fields } from "../../lib/core/operators/field.js";
import { operators } from "../../lib/core/operators/table.js";
import { testedOperatorNames } from "../../lib/testing/subject/operator_names.js";

// The table in docs/subjects.md says what the declarations of the operators say.

const folder = join("lib", "core", "operators");

/** The doc comments of everything that is declared as an operator, by name. */
function operatorComments(): ReadonlyMap<string, string> {
  const comments = new Map<string, string>();
  const visit = (node: ts.Node): void => {
    if (ts.isPropertyAssignment(node)) {
      const [comment] = ts.getJSDocCommentsAndTags(node);
      const text = ts.getTextOfJSDocComment(comment?.comment);
      if (text) comments.set(node.name.getText(), text.replaceAll("\n", " "));
    }
    ts.forEachChild(node, visit);
  };
  for (const name of readdirSync(folder)) {
    visit(ts.createSourceFile(name, readFileSync(join(folder, name), "utf8"), ts.ScriptTarget.ES2022, true));
  }
  return comments;
}

/** What a subject gets for a field of such a kind; [] for what it only returns. */
function inputsOf(name: string, kind: string): readonly string[] {
  if (kind === "packed_experts") return [name, "activation", "clamp"];
  if (kind === "output" || kind === "optional_output") return [];
  return [kind === "optional_input" ? `${name}?` : name];
}

function outputsOf(name: string, kind: string): readonly string[] {
  if (kind === "output" || kind === "updated") return [name];
  return kind === "optional_output" ? [`${name}?`] : [];
}

const comments = operatorComments();
const rows = testedOperatorNames.map((operator) => {
  const fields = Object.entries(operators[operator] as Fields);
  const inputs = fields.flatMap(([name, { kind }]) => inputsOf(name, kind));
  const outputs = fields.flatMap(([name, { kind }]) => outputsOf(name, kind));
  return `| \`${operator}\` | ${inputs.join(", ")} | ${outputs.join(", ")} | ${comments.get(operator)} |`;
});

test("every operator of a subject has its row", () => {
  const page = readFileSync(join("docs", "subjects.md"), "utf8");
  const table = page.split("\n").filter((line) => line.startsWith("| `") && !line.startsWith("| `layer` |"));
  expect(table).toEqual(rows);
  expect(rows.length).toBeGreaterThan(30);
});
