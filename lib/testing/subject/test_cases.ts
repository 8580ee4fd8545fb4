import { type OperatorName, operators } from "../../core/operators/table.js";
import type { Case } from "../case.js";
import { quantizedGemmCases } from "../quantized_cases.js";
import { unitRoundoff } from "../rounding.js";
import { cases } from "../table.js";
import { tokenGemmCases } from "../token_cases.js";
import { isData, problemOf } from "./problem.js";
import type { Problem } from "./subject.js";

/** By how much an output may differ from what is expected. */
export interface Tolerance {
  /** Allowed error relative to the largest expected magnitude; 0: exact. */
  readonly tolerance: number;
  /** What errors are relative to if the largest expected magnitude is smaller. */
  readonly leastMagnitude: number;
  /** The reason, in words. */
  readonly why: string;
}

/** One case of an operator, as data. */
export class TestCase {
  /** The operator that it calls. */
  readonly operator: OperatorName;
  /** What the case is: sizes, dtypes, options. */
  readonly name: string;
  readonly #source: Case<string>;

  /** @internal Use testCases. */
  constructor(operator: OperatorName, source: Case<string>) {
    this.operator = operator;
    this.name = source.name;
    this.#source = source;
  }

  /** Draws the inputs, and computes on `reference` in float64 what is expected. The same seed gives the same numbers. */
  problem(seed = 0): Problem {
    return problemOf(this.operator, this.#source, seed);
  }

  /** How an output of a {@link problem} is compared. */
  toleranceOf(output: string, { inputs, names }: Problem): Tolerance {
    const name = names.get(output) ?? output;
    const tolerance = this.#source.tolerances[name] ?? 0;
    const leastMagnitude = this.#source.magnitudes?.[name] ?? 0;
    return { tolerance, leastMagnitude, why: reason(tolerance, inputs.outputs[output]?.dtype ?? "f32") };
  }
}

function reason(tolerance: number, dtype: string): string {
  if (tolerance === 0) return "exact: it is an index, or a copy, or arithmetic of which every step is defined";
  const rounding =
    dtype === "f16" || dtype === "bf16" ? `, and rounding to ${dtype} (${unitRoundoff[dtype].toExponential(1)})` : "";
  return `float32 arithmetic, in any order of sums${rounding}; relative to the largest expected magnitude`;
}

/** Cases with weights that only this package's formats can express, and those that add to what the outputs hold. */
const withMore = new Set<Case>([
  ...quantizedGemmCases,
  ...tokenGemmCases,
  ...cases.filter(({ name }) => name.includes("accumulated")),
]);

/** Operators whose cases call several, or draw numbers by this package's own generator. */
const leftOut: readonly OperatorName[] = [
  "random",
  "jitter",
  "noisyLogits",
  "noisyLogitsBackward",
  "imbalance",
  "updateSelectionBias",
  "columnMeansBackward",
  "cvSquaredBackward",
];

const byCaseName = new Map(
  (Object.keys(operators) as OperatorName[]).map((name) => [
    name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    name,
  ]),
);

/** The cases of all operators whose inputs are arrays, numbers and names, from the one table that the devices are tested with. */
export const testCases: readonly TestCase[] = cases.flatMap((source) => {
  const operator = byCaseName.get(source.operator);
  if (operator === undefined || leftOut.includes(operator) || !isData(operator) || withMore.has(source)) return [];
  return [new TestCase(operator, source)];
});

/** The operators that have cases. */
export const testedOperators: readonly OperatorName[] = [...new Set(testCases.map(({ operator }) => operator))];
