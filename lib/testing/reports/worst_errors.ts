import { formatError } from "../../terminal/format.js";
import { renderTable } from "../../terminal/table.js";

/** One output of a case, compared. */
interface Check {
  readonly output: string;
  readonly error: number;
  readonly tolerance: number;
}

interface Result {
  readonly operator: string;
  readonly name: string;
  readonly checks: readonly Check[];
}

/** A table of every operator's outputs, each with the case that comes closest to its tolerance. */
export function worstErrors(results: readonly Result[]): string {
  const operators = [...new Set(results.map(({ operator }) => operator))];
  return renderTable(
    [
      { heading: "operator" },
      { heading: "output" },
      { heading: "cases", align: "right" },
      { heading: "worst error", align: "right" },
      { heading: "tolerance", align: "right" },
      { heading: "in case" },
    ],
    operators.flatMap((operator) => operatorRows(operator, results)),
  );
}

/** One row for each output of an operator, with the case that comes closest to its tolerance. */
function operatorRows(operator: string, results: readonly Result[]): string[][] {
  const checks = results
    .filter((result) => result.operator === operator)
    .flatMap(({ name, checks }) => checks.map((check) => ({ ...check, name })));
  const outputs = [...new Set(checks.map(({ output }) => output))];
  return outputs.map((output, index) => {
    const ofOutput = checks.filter((check) => check.output === output);
    const worst = ofOutput.reduce((a, b) => (closeness(b) > closeness(a) ? b : a));
    return [
      index === 0 ? operator : "",
      output,
      String(ofOutput.length),
      formatError(worst.error),
      worst.tolerance === 0 ? "exact" : formatError(worst.tolerance),
      worst.error === 0 ? "" : worst.name,
    ];
  });
}

/** The share of the tolerance that an error takes. */
function closeness({ error, tolerance }: { error: number; tolerance: number }): number {
  return error === 0 ? 0 : error / tolerance;
}
