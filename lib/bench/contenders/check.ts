import type { FloatDType } from "../../core/dtype.js";
import { openDevice } from "../../devices.js";
import { unitRoundoff } from "../../testing/rounding.js";
import { relativeError } from "../../testing/run.js";
import { computeOperator } from "../../testing/subject/device_subject.js";
import { changedInputs, inputBytes, returnedValues } from "../../testing/subject/returned.js";
import type { OutputArray, Subject, SubjectInputs } from "../../testing/subject/subject.js";
import type { ContenderProblem } from "./problem.js";
import { type Sample, sampleOf } from "./sample.js";

/** One output, compared with what `reference` computes in float64. */
export interface OutputError {
  /** Its name. */
  readonly output: string;
  /** Largest difference, relative to the largest expected magnitude; Infinity if a value is missing or NaN. */
  readonly error: number;
  /** 0: must be exact. */
  readonly tolerance: number;
}

/** What is expected of a case's first call. */
export interface Expected {
  readonly inputs: SubjectInputs;
  readonly sample: Sample;
  readonly values: Readonly<Record<string, ArrayLike<number>>>;
}

/** Computes what is expected of the first call, or of a sample of its rows. */
export async function expectedOf({ operatorCase, calls }: ContenderProblem): Promise<Expected> {
  const { operator } = operatorCase;
  const inputs = calls[0] as SubjectInputs;
  const sample = sampleOf(operator, inputs);
  using reference = openDevice("reference", { poison: true });
  return { inputs, sample, values: await computeOperator(reference, operator, sample.inputs, true) };
}

/** Indices are exact. Sums of float32 may have any order, and results are rounded to the output's dtype. */
function toleranceOf({ dtype }: OutputArray): number {
  return dtype === "i32" || dtype === "u8" ? 0 : 1e-5 + unitRoundoff[dtype as FloatDType];
}

/**
 * Compares all outputs.
 * @throws if something else than these outputs was returned.
 */
export function compareOutputs({ inputs, sample, values }: Expected, outputs: unknown): OutputError[] {
  const declared = Object.entries(inputs.outputs as Readonly<Record<string, OutputArray>>);
  return declared.map(([output, shape]) => ({
    output,
    error: relativeError(
      sample.pick(output, returnedValues(outputs, output, shape)),
      values[output] as ArrayLike<number>,
    ),
    tolerance: toleranceOf(shape),
  }));
}

/** What a contender's first call gave. */
export interface ContenderCheck {
  readonly errors: readonly OutputError[];
  /** Why it is not timed: it threw, returned something else, or its results are wrong; else null. */
  readonly failure: string | null;
}

/** Has a contender compute the first call, and compares what it returns. */
export async function checkContender(
  { operators }: Subject,
  { operatorCase }: ContenderProblem,
  expected: Expected,
): Promise<ContenderCheck> {
  try {
    const before = inputBytes(expected.inputs);
    const outputs = await operators[operatorCase.operator]?.(expected.inputs);
    const errors = compareOutputs(expected, outputs);
    const changed = changedInputs(before, expected.inputs);
    if (changed.length > 0) return { errors, failure: `it changed its input ${changed.join(", ")}` };
    return { errors, failure: failureOf(errors) };
  } catch (error) {
    return { errors: [], failure: error instanceof Error ? error.message : String(error) };
  }
}

/** Which outputs are wrong, in words; null if none is. */
export function failureOf(errors: readonly OutputError[]): string | null {
  const wrong = errors.filter(({ error, tolerance }) => !(error <= tolerance));
  if (wrong.length === 0) return null;
  const texts = wrong.map(({ output, error, tolerance }) => {
    const limit = tolerance === 0 ? "exact values" : `an error of at most ${tolerance.toExponential(1)}`;
    return `${output}: expected ${limit}, got ${error.toExponential(1)}`;
  });
  return `wrong results (${texts.join("; ")})`;
}
