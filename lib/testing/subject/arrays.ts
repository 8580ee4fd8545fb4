import type { Device } from "../../core/device.js";
import { dtypes } from "../../core/dtype.js";
import { Tensor } from "../../core/tensor.js";
import type { ReferenceTensor } from "../../reference/core/tensor.js";
import type { TestArray } from "./subject.js";

// What a subject gets may hold tensors at any depth: those of a quantised weight, or of a layer's experts.

/** The stored bits of a tensor of `reference`. */
export function arrayOf(tensor: ReferenceTensor): TestArray {
  const raw = new dtypes[tensor.dtype].raw(tensor.map().slice().buffer);
  return { data: raw as TestArray["data"], shape: tensor.shape, dtype: tensor.dtype as TestArray["dtype"] };
}

export function isTestArray(value: unknown): value is TestArray {
  return ArrayBuffer.isView((value as TestArray | null | undefined)?.data);
}

/** The same with arrays for the tensors, which are `reference`'s. */
export function withArrays(value: unknown): unknown {
  return mapped(value, (leaf) => (leaf instanceof Tensor ? arrayOf(leaf.handle as ReferenceTensor) : undefined));
}

/** The same with tensors of a device for the arrays; `keep` is called with each. */
export function withTensors(device: Device, value: unknown, keep: (tensor: Tensor) => void): unknown {
  return mapped(value, (leaf) => {
    if (!isTestArray(leaf)) return undefined;
    const tensor = device.tensor(leaf.data, leaf.shape, leaf.dtype);
    keep(tensor);
    return tensor;
  });
}

/** All arrays in a value, by their paths: "experts.gate". */
export function arraysIn(value: unknown, path = ""): (readonly [path: string, array: TestArray])[] {
  if (isTestArray(value)) return [[path, value]];
  if (typeof value !== "object" || value === null) return [];
  const prefix = path === "" ? "" : `${path}.`;
  return Object.entries(value).flatMap(([name, inner]) => arraysIn(inner, prefix + name));
}

/** A copy in which `replace` has taken the place of what it is not undefined for, at any depth. */
function mapped(value: unknown, replace: (value: unknown) => unknown): unknown {
  const replaced = replace(value);
  if (replaced !== undefined) return replaced;
  if (Array.isArray(value)) return value.map((inner) => mapped(inner, replace));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, mapped(inner, replace)]));
}
