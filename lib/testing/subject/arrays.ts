import type { Device } from "../../core/device/device.js";
import { dtypes, fromBF16, fromF16 } from "../../core/tensors/dtype.js";
import { Tensor } from "../../core/tensors/tensor.js";
import type { QuantizedWeight } from "../../operators/experts/quantized_weight.js";
import type { ReferenceTensor } from "../../reference/core/tensor.js";
import type { SubjectInputs, TestArray } from "./subject.js";

// What a subject gets may hold tensors at any depth: those of a quantised weight, or of a layer's experts.

/** The stored bits of a tensor of `reference`. */
export function arrayOf(tensor: ReferenceTensor): TestArray {
  const raw = new dtypes[tensor.dtype].raw(tensor.map().slice().buffer);
  return { data: raw as TestArray["data"], shape: tensor.shape, dtype: tensor.dtype as TestArray["dtype"] };
}

export function isTestArray(value: unknown): value is TestArray {
  return ArrayBuffer.isView((value as TestArray | null | undefined)?.data);
}

/** The values of a tensor as float32, of 16-bit floats too. */
export function toFloat32({ data, dtype }: { data: ArrayLike<number>; dtype: string }): Float32Array {
  const values = new Float32Array(data);
  if (dtype === "f16" || dtype === "bf16") {
    const decode = dtype === "f16" ? fromF16 : fromBF16;
    for (let index = 0; index < values.length; index++) values[index] = decode(data[index] as number);
  }
  return values;
}

/** The same with arrays for the tensors, of any device. */
export function withArrays(value: unknown): unknown {
  return mapped(value, (leaf) => {
    if (!(leaf instanceof Tensor)) return undefined;
    return { data: leaf.rawSync(), shape: leaf.shape, dtype: leaf.dtype };
  });
}

/**
 * The same with tensors of a device for the arrays; `keep` is called with each.
 * @param exact floats become f64, on `reference`.
 */
export function withTensors(device: Device, value: unknown, keep: (tensor: Tensor) => void, exact = false): unknown {
  return mapped(value, (leaf) => {
    if (!isTestArray(leaf)) return undefined;
    const tensor = upload(device, leaf, exact);
    keep(tensor);
    return tensor;
  });
}

/** An array as a tensor; if `exact`, floats become f64, on `reference`. */
export function upload(device: Device, { data, shape, dtype }: TestArray, exact: boolean): Tensor {
  if (!exact || !dtypes[dtype].float) return device.tensor(data, shape, dtype);
  return device.tensor(new Float64Array(toFloat32({ data, dtype })), shape, "f64");
}

/** The same with other arrays. */
export function mapArrays<T>(value: T, map: (array: TestArray) => TestArray): T {
  return mapped(value, (leaf) => (isTestArray(leaf) ? map(leaf) : undefined)) as T;
}

/** A quantised weight as packExperts takes it: with tensors for the arrays, and without `shape`. */
export function uploadQuantized(
  device: Device,
  { shape: _, ...weight }: SubjectInputs,
  keep: (tensor: Tensor) => void,
): QuantizedWeight {
  return withTensors(device, weight, keep) as QuantizedWeight;
}

/** All arrays in a value, by their paths: "experts.gate". */
export function arraysIn(value: unknown): (readonly [path: string, array: TestArray])[] {
  return leavesIn(value).flatMap(([path, leaf]) => (isTestArray(leaf) ? [[path, leaf] as const] : []));
}

/** The arrays in a value and all else that is no object, by their paths. */
export function leavesIn(value: unknown, path = ""): (readonly [path: string, leaf: unknown])[] {
  if (isTestArray(value) || typeof value !== "object" || value === null) return [[path, value]];
  const prefix = path === "" ? "" : `${path}.`;
  return Object.entries(value).flatMap(([name, inner]) => leavesIn(inner, prefix + name));
}

/** A copy in which `replace` has taken the place of what it is not undefined for, at any depth. */
function mapped(value: unknown, replace: (value: unknown) => unknown): unknown {
  const replaced = replace(value);
  if (replaced !== undefined) return replaced;
  if (Array.isArray(value)) return value.map((inner) => mapped(inner, replace));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, mapped(inner, replace)]));
}
