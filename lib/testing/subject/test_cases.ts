import { inspect } from "node:util";
import { ThreadBound } from "../../core/device/thread_bound.js";
import type { Case } from "../case.js";
import { unitRoundoff } from "../rounding.js";
import { cases } from "../table.js";
import { layerProblemOf } from "./layer_problem.js";
import { testedOperatorNames } from "./operator_names.js";
import { problemOf } from "./problem.js";
import type { Problem, SubjectOperatorName } from "./subject.js";

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
export class TestCase extends ThreadBound {
  /** The operator that it calls. */
  readonly operator: SubjectOperatorName;
  /** What the case is: sizes, dtypes, options. */
  readonly name: string;
  readonly #source: Case<string>;

  /** @internal Use testCases. */
  constructor(operator: SubjectOperatorName, source: Case<string>) {
    super();
    this.operator = operator;
    this.name = source.name;
    this.#source = source;
  }

  /** Draws the inputs, and computes on `reference` in float64 what is expected. The same seed gives the same numbers. */
  problem(seed = 0): Problem {
    const { operator } = this;
    return operator === "layer" ? layerProblemOf(this.#source, seed) : problemOf(operator, this.#source, seed);
  }

  /** How an output of a {@link problem} is compared. */
  toleranceOf(output: string, { inputs, names }: Problem): Tolerance {
    const name = names.get(output) ?? output;
    const tolerance = this.#source.tolerances[name] ?? 0;
    const leastMagnitude = this.#source.magnitudes?.[name] ?? 0;
    const dtype = inputs.outputs[output]?.dtype ?? "f32";
    return { tolerance, leastMagnitude, why: reason(this.operator, tolerance, dtype) };
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `TestCase ${this.operator} ${this.name}`;
  }
}

/** Why an output of this dtype may have such errors. */
export function reason(operator: string, tolerance: number, dtype: string): string {
  const steps = operator === "layer" ? " of the output and between the products" : "";
  if (tolerance === 0) return "exact: it is an index, or a copy, or arithmetic of which every step is defined";
  const rounding =
    dtype === "f16" || dtype === "bf16"
      ? `, and rounding${steps} to ${dtype} (${unitRoundoff[dtype].toExponential(1)})`
      : "";
  return `float32 arithmetic, in any order of sums${rounding}; relative to the largest expected magnitude`;
}

const subjectOperators: readonly string[] = [...testedOperatorNames, "layer"];
const isSubjects = (name: string): name is SubjectOperatorName => subjectOperators.includes(name);

/** The cases of whole layers and of all operators whose inputs are data, from the one table that the devices are tested with. */
export const testCases: readonly TestCase[] = cases.flatMap((source) => {
  const { operator, devicesOnly } = source;
  return isSubjects(operator) && !devicesOnly ? [new TestCase(operator, source)] : [];
});

/** The operators that have cases, `layer` among them. */
export const testedOperators: readonly SubjectOperatorName[] = [...new Set(testCases.map(({ operator }) => operator))];
