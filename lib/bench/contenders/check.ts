import { messageOf } from "../../core/errors.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { outputTolerance } from "../../testing/cases/layer_case.js";
import { relativeError } from "../../testing/difference.js";
import { unitRoundoff } from "../../testing/rounding.js";
import { operatorOf } from "../../testing/subject/operator_of.js";
import { changedInputs, inputDigests, returnedValues } from "../../testing/subject/returned.js";
import { settled } from "../../testing/subject/settled.js";
import type { OutputArray, Subject, SubjectInputs } from "../../testing/subject/subject.js";
import { reason } from "../../testing/subject/test_cases.js";
import type { BenchedOperator } from "../bench_case.js";
import type { Sample } from "./rows.js";
import { sampleOf } from "./sample.js";

/** One output, compared with what `reference` computes in float64. */
export interface OutputError {
  /** Its name. */
  readonly output: string;
  /** Largest difference, relative to the largest expected magnitude; Infinity if a value is missing or NaN. */
  readonly error: number;
  /** 0: must be exact. */
  readonly tolerance: number;
  /** The reason for the tolerance, in words. */
  readonly why: string;
}

/** What contenders of a case are asked for. */
export interface ContenderProblem {
  readonly operator: BenchedOperator;
  readonly calls: readonly SubjectInputs[];
}

/** What is expected of a case's first call. */
export interface Expected {
  readonly operator: BenchedOperator;
  readonly inputs: SubjectInputs;
  /** Digests of the inputs as they were drawn, by which changes of them are found. */
  readonly digests: Readonly<Record<string, string>>;
  readonly sample: Sample;
}

/** Computes what is expected of the first call, or of a sample of its rows. */
export async function expectedOf({ operator, calls }: ContenderProblem): Promise<Expected> {
  const inputs = calls[0] as SubjectInputs;
  return { operator, inputs, digests: inputDigests(inputs), sample: await sampleOf(operator, inputs) };
}

/** A layer's are those of its cases. Else indices are exact, sums of float32 may have any order, and results are rounded. */
function toleranceOf(
  { operator, inputs }: Pick<Expected, "operator" | "inputs">,
  { dtype, shape }: OutputArray,
): number {
  if (dtype === "i32" || dtype === "u8") return 0;
  if (operator !== "layer") return 1e-5 + unitRoundoff[dtype as FloatDType];
  return outputTolerance({ ...inputs.config, tokens: shape[0] }, dtype as FloatDType);
}

/**
 * Compares all outputs.
 * @throws if something else than these outputs was returned.
 */
export function compareOutputs(expected: Omit<Expected, "digests">, outputs: unknown): OutputError[] {
  const { operator, inputs, sample } = expected;
  const declared = Object.entries(inputs.outputs as Readonly<Record<string, OutputArray>>);
  return declared.map(([output, array]) => {
    const values = sample.pick(output, returnedValues(outputs, output, array));
    const tolerance = toleranceOf(expected, array);
    const error = relativeError(values, sample.values[output] as ArrayLike<number>);
    return { output, error, tolerance, why: reason(operator, tolerance, array.dtype) };
  });
}

/** What a contender's first call gave, or the same call after those that are timed. */
export interface ContenderCheck {
  readonly errors: readonly OutputError[];
  /** Why it is not ranked: it threw, returned something else, or its results are wrong; else null. */
  readonly failure: string | null;
  /** Why it was not asked or did not answer; else null. */
  readonly leftOut: string | null;
}

/** What a report says of a contender that does not support a case. */
export const unsupported = "it does not support this case";

/** Has a contender compute the first call, and compares what it returns. */
export async function checkContender(contender: Subject, expected: Expected): Promise<ContenderCheck> {
  const { operator, inputs } = expected;
  try {
    const outputs = await settled(operatorOf(contender, operator)?.(inputs));
    if (outputs === null) return { errors: [], failure: null, leftOut: unsupported };
    const changed = changedInputs(expected.digests, inputs);
    const errors = compareOutputs(expected, outputs);
    const failure = changed === null ? failureOf(errors) : `it changed its input ${changed}`;
    return { errors, failure, leftOut: null };
  } catch (error) {
    return { errors: [], failure: messageOf(error), leftOut: null };
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
