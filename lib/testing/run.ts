import type { Device } from "../core/device.js";
import type { DType } from "../core/dtype.js";
import { MoeError } from "../core/errors.js";
import { sameShape, shapeText } from "../core/shape.js";
import type { Tensor } from "../core/tensor.js";
import { openDevice } from "../devices.js";
import type { Case } from "./case.js";
import { Inputs } from "./inputs.js";

/** One output of a case, compared with the expected one. */
export interface Check {
  readonly output: string;
  readonly dtype: DType;
  /** Largest difference, relative to the largest expected magnitude; Infinity if a value is missing or NaN. */
  readonly error: number;
  readonly tolerance: number;
  readonly passed: boolean;
}

export interface CaseResult {
  readonly name: string;
  readonly operator: string;
  readonly checks: readonly Check[];
  readonly passed: boolean;
}

/**
 * Runs one case on `device`, and on `reference` in float64 with the same inputs after rounding to the case's dtypes,
 * and compares the outputs. Open the device with `poison`, so that unwritten outputs are NaN.
 */
export async function runCase(subject: Case<string>, device: Device): Promise<CaseResult> {
  using reference = openDevice("reference", { poison: true });
  const seed = `${subject.operator} ${subject.name}`;
  using expectedInputs = new Inputs(reference, seed, true);
  using actualInputs = new Inputs(device, seed, false);
  const expected = outputs(subject, expectedInputs);
  const actual = outputs(subject, actualInputs);
  const least = await leastMagnitudes(subject, expected);
  const checks: Check[] = [];
  for (const [output, tensor] of Object.entries(actual)) {
    const tolerance = subject.tolerances[output] ?? 0;
    const place = `${subject.name}: ${output}`;
    const error = await compare(tensor, expected[output] as Tensor, least[output], place);
    checks.push({ output, dtype: tensor.dtype, error, tolerance, passed: error <= tolerance });
  }
  return { name: subject.name, operator: subject.operator, checks, passed: checks.every((check) => check.passed) };
}

function outputs(subject: Case<string>, inputs: Inputs): Readonly<Record<string, Tensor>> {
  const tensors = subject.run(inputs);
  for (const tensor of Object.values(tensors)) inputs.keep(tensor);
  return tensors;
}

/** What errors of an output are relative to at least. */
async function leastMagnitudes(
  { magnitudes, groups = {} }: Case<string>,
  expected: Readonly<Record<string, Tensor>>,
): Promise<Readonly<Record<string, number>>> {
  const ofGroups: Record<string, number> = {};
  for (const [output, group] of Object.entries(groups)) {
    for (const value of (await expected[output]?.data()) ?? []) {
      ofGroups[group] = Math.max(ofGroups[group] ?? 0, Math.abs(value));
    }
  }
  const names = Object.keys(expected);
  return Object.fromEntries(
    names.map((name) => [name, Math.max(magnitudes?.[name] ?? 0, ofGroups[groups[name] ?? ""] ?? 0)]),
  );
}

async function compare(
  actual: Tensor,
  expected: Tensor,
  leastMagnitude: number | undefined,
  name: string,
): Promise<number> {
  if (!sameShape(actual.shape, expected.shape)) {
    const shapes = `expected shape ${shapeText(expected.shape)}, got ${shapeText(actual.shape)}`;
    throw new MoeError("INTERNAL", `${name}: ${shapes}`);
  }
  return relativeError(await actual.data(), await expected.data(), leastMagnitude);
}

/**
 * The largest difference, relative to the largest expected magnitude or to `leastMagnitude` if that is larger; Infinity
 * if a value is missing or NaN.
 */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>, leastMagnitude = 0): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let magnitude = leastMagnitude;
  for (let index = 0; index < expected.length; index++) {
    const [value, wanted] = [actual[index] as number, expected[index] as number];
    if (Number.isNaN(value) || Number.isNaN(wanted)) return Number.POSITIVE_INFINITY;
    if (value !== wanted) difference = Math.max(difference, Math.abs(value - wanted));
    magnitude = Math.max(magnitude, Math.abs(wanted));
  }
  return difference === 0 ? 0 : difference / magnitude;
}
