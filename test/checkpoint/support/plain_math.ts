import { Random } from "../../../lib/cases/random.js";
import type { SafetensorsInput } from "../../../lib/checkpoint/safetensors.js";

export type Vector = readonly number[];

/** A stored tensor of float32 values. */
export interface Stored {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Draws the tensors of a model, normal values of about 1 after a product. */
export class Weights {
  readonly tensors = new Map<string, SafetensorsInput>();
  readonly #random: Random;

  constructor(seed: string) {
    this.#random = new Random(seed);
  }

  /** A new tensor under `name`; `inputs` is how many products are summed for one output. */
  draw(name: string, shape: readonly number[], inputs = shape.at(-1) as number): Stored {
    const size = shape.reduce((product, length) => product * length, 1);
    const tensor = { shape, data: this.#random.normals(size, inputs ** -0.5) };
    this.tensors.set(name, { dtype: "F32", ...tensor });
    return tensor;
  }

  tokens(count: number, size: number): number[][] {
    return Array.from({ length: count }, () => [...this.#random.normals(size)]);
  }
}

/** Element [indices] of a tensor. */
export function at({ shape, data }: Stored, ...indices: number[]): number {
  return data[indices.reduce((offset, index, axis) => offset * (shape[axis] as number) + index, 0)] as number;
}

/** `count` numbers by their index. */
export const build = (count: number, value: (index: number) => number): number[] =>
  Array.from({ length: count }, (_, index) => value(index));

export const dot = (a: Vector, b: (index: number) => number): number =>
  a.reduce((sum, value, index) => sum + value * b(index), 0);

/** W x + bias, for W [outputs, inputs]. */
export function linear(weight: Stored, x: Vector, bias?: Stored): number[] {
  return build(weight.shape[0] as number, (row) => dot(x, (k) => at(weight, row, k)) + (bias ? at(bias, row) : 0));
}

export const times = (a: Vector, b: Vector): number[] => a.map((value, index) => value * (b[index] as number));
export const plus = (a: Vector, b: Vector): number[] => a.map((value, index) => value + (b[index] as number));
export const scaled = (a: Vector, factor: number): number[] => a.map((value) => value * factor);
export const total = (a: Vector): number => a.reduce((sum, value) => sum + value, 0);

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
export const silu = (x: number): number => x * sigmoid(x);
export const relu = (x: number): number => Math.max(x, 0);

export function softmax(logits: Vector): number[] {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  return scaled(powers, 1 / total(powers));
}

/** The indices of the k largest, largest first. */
export function largest(keys: Vector, k: number): number[] {
  const order = keys.map((_, index) => index);
  return order.sort((a, b) => (keys[b] as number) - (keys[a] as number)).slice(0, k);
}

export const pick = (values: Vector, ids: Vector): number[] => ids.map((id) => values[id] as number);

/** down(silu(gate x) * (up x)) of three stored matrices. */
export const swiglu =
  (gate: Stored, up: Stored, down: Stored) =>
  (x: Vector): number[] =>
    linear(down, times(linear(gate, x).map(silu), linear(up, x)));
