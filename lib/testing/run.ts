import type { Device } from "../core/device/device.js";
import { MoeError } from "../core/errors.js";
import type { DType } from "../core/tensors/dtype.js";
import { type Shape, sameShape, shapeText } from "../core/tensors/shape.js";
import type { Tensor } from "../core/tensors/tensor.js";
import { openDevice } from "../devices.js";
import type { Case } from "./case.js";
import { drawsOf } from "./inputs/draws.js";
import { Inputs } from "./inputs/inputs.js";

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
export async function runCase(testCase: Case<string>, device: Device): Promise<CaseResult> {
  const expected = await expectedOutputs(testCase);
  using inputs = new Inputs(device, drawsOf(testCase, seedOf(testCase)), false);
  const checks: Check[] = [];
  for (const [output, tensor] of Object.entries(outputs(testCase, inputs))) {
    const tolerance = testCase.tolerances[output] ?? 0;
    const error = await compare(tensor, expected[output] as ExpectedOutput, `${testCase.name}: ${output}`);
    checks.push({ output, dtype: tensor.dtype, error, tolerance, passed: error <= tolerance });
  }
  return { name: testCase.name, operator: testCase.operator, checks, passed: checks.every((check) => check.passed) };
}

function seedOf({ operator, name }: Case<string>): string {
  return `${operator} ${name}`;
}

interface ExpectedOutput {
  readonly shape: Shape;
  readonly values: ArrayLike<number>;
  /** What errors are relative to at least. */
  readonly leastMagnitude: number;
}

/** Computed once for all devices: float64 in JavaScript takes longer than most devices do. */
const remembered = new WeakMap<Case<string>, Promise<Readonly<Record<string, ExpectedOutput>>>>();

async function expectedOutputs(testCase: Case<string>): Promise<Readonly<Record<string, ExpectedOutput>>> {
  const known = remembered.get(testCase) ?? computeExpected(testCase);
  remembered.set(testCase, known);
  return await known;
}

async function computeExpected(testCase: Case<string>): Promise<Readonly<Record<string, ExpectedOutput>>> {
  using reference = openDevice("reference", { poison: true });
  using inputs = new Inputs(reference, drawsOf(testCase, seedOf(testCase)), true);
  const expected = outputs(testCase, inputs);
  const least = await leastMagnitudes(testCase, expected);
  const entries: [string, ExpectedOutput][] = [];
  for (const [output, tensor] of Object.entries(expected)) {
    const [shape, values] = [tensor.shape, await tensor.data()];
    entries.push([output, { shape, values, leastMagnitude: least[output] ?? 0 }]);
  }
  return Object.fromEntries(entries);
}

function outputs(testCase: Case<string>, inputs: Inputs): Readonly<Record<string, Tensor>> {
  const tensors = testCase.run(inputs);
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

async function compare(actual: Tensor, expected: ExpectedOutput, name: string): Promise<number> {
  if (!sameShape(actual.shape, expected.shape)) {
    const shapes = `expected shape ${shapeText(expected.shape)}, got ${shapeText(actual.shape)}`;
    throw new MoeError("INTERNAL", `${name}: ${shapes}`);
  }
  return relativeError(await actual.data(), expected.values, expected.leastMagnitude);
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
