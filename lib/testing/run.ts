import type { Device } from "../core/device/device.js";
import { MoeError } from "../core/errors.js";
import type { DType } from "../core/tensors/dtype.js";
import { type Shape, sameShape, shapeText } from "../core/tensors/shape.js";
import type { Tensor } from "../core/tensors/tensor.js";
import { openDevice } from "../devices.js";
import type { Case } from "./case.js";
import { callText, type Difference, differenceOf, type Judgement } from "./difference.js";
import { drawsOf } from "./inputs/draws.js";
import { Inputs } from "./inputs/inputs.js";

/** One output of a case, compared with the expected one. */
export interface Check extends Difference {
  readonly output: string;
  readonly dtype: DType;
  readonly shape: Shape;
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
 * @param repeat how often it runs on the device; every run must give the same values.
 */
export async function runCase(testCase: Case<string>, device: Device, repeat = 1): Promise<CaseResult> {
  const { name, operator } = testCase;
  const expected = await expectedOutputs(testCase);
  const first: Record<string, ArrayLike<number>> = {};
  const checks: Check[] = [];
  for (let call = 1; call <= repeat; call++) {
    using inputs = new Inputs(device, drawsOf(testCase, seedOf(testCase)), false);
    for (const [output, tensor] of Object.entries(outputs(testCase, inputs))) {
      const { shape, values, leastMagnitude } = expected[output] as ExpectedOutput;
      if (!sameShape(tensor.shape, shape)) {
        const shapes = `expected shape ${shapeText(shape)}, got ${shapeText(tensor.shape)}`;
        throw new MoeError("INTERNAL", `${name}: ${output}: ${shapes}`);
      }
      const before = first[output];
      const tolerance = testCase.tolerances[output] ?? 0;
      checks.push(
        before === undefined
          ? await checkOutput(output, tensor, values, { tolerance, leastMagnitude })
          : await checkOutput(callText(output, call), tensor, before, { tolerance: 0 }),
      );
      if (repeat > 1) first[output] ??= await tensor.data();
    }
  }
  return { name, operator, checks, passed: checks.every((check) => check.passed) };
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

/** Compares a tensor with values of the same shape. */
export async function checkOutput(
  output: string,
  tensor: Tensor,
  expected: ArrayLike<number>,
  judged: Omit<Judgement, "shape">,
): Promise<Check> {
  const { dtype, shape } = tensor;
  const { tolerance } = judged;
  const difference = differenceOf(await tensor.data(), expected, { ...judged, shape });
  return { output, dtype, shape, ...difference, tolerance, passed: difference.error <= tolerance };
}
