import { newBytes } from "../../core/tensors/allocated.js";
import { asBytes } from "../schemes/bits.js";
import type { LocatedWeight, QuantizedBytes, TensorRange } from "./located_weight.js";

/**
 * The matrices [N, K] of a tensor of stacked ones as one weight [E, N, K]. Each tensor is read once, and its matrices are
 * converted one after another.
 * @param matrices all of them, in their order and of one format.
 */
export function weightStack(matrices: readonly LocatedWeight[]): LocatedWeight {
  const [first] = matrices as readonly [LocatedWeight];
  const spans = spansOf(matrices.flatMap(({ ranges }) => ranges));
  const stack = { ...first, shape: [matrices.length, ...first.shape], ranges: [...spans.values()] };
  if (first.convert === undefined) return stack;
  const convert = async (bytes: readonly Uint8Array[]) => {
    const read = new Map([...spans.keys()].map((name, index) => [name, bytes[index] as Uint8Array]));
    const partOf = ({ name, byteOffset, byteLength }: TensorRange) => {
      const begin = byteOffset - (spans.get(name) as TensorRange).byteOffset;
      // A copy, which `convert` may change though others have some of the same bytes.
      return (read.get(name) as Uint8Array).slice(begin, begin + byteLength);
    };
    const fields = new StackedFields(matrices.length);
    for (const { ranges, convert } of matrices) {
      fields.add(await (convert as NonNullable<typeof convert>)(ranges.map(partOf)));
    }
    return fields.bytes;
  };
  return { ...stack, convert };
}

/** By the names of tensors, what the ranges of each cover. */
function spansOf(ranges: readonly TensorRange[]): ReadonlyMap<string, TensorRange> {
  const spans = new Map<string, TensorRange>();
  for (const range of ranges) {
    const { byteOffset, byteLength } = spans.get(range.name) ?? range;
    const begin = Math.min(byteOffset, range.byteOffset);
    const end = Math.max(byteOffset + byteLength, range.byteOffset + range.byteLength);
    spans.set(range.name, { ...range, byteOffset: begin, byteLength: end - begin });
  }
  return spans;
}

/** The fields of matrices, one matrix after another. */
class StackedFields {
  readonly #count: number;
  readonly #fields = new Map<string, Uint8Array>();
  #added = 0;

  constructor(count: number) {
    this.#count = count;
  }

  add(matrix: QuantizedBytes): void {
    for (const [field, values] of Object.entries(matrix) as [keyof QuantizedBytes, ArrayBufferView | undefined][]) {
      if (values === undefined) continue;
      const all = this.#fields.get(field) ?? this.#begin(field, values.byteLength);
      all.set(asBytes(values), this.#added * values.byteLength);
    }
    this.#added++;
  }

  get bytes(): QuantizedBytes {
    return Object.fromEntries(this.#fields) as unknown as QuantizedBytes;
  }

  #begin(field: keyof QuantizedBytes, byteLength: number): Uint8Array {
    const all = newBytes(this.#count * byteLength);
    // A matrix whose inputs are in order has none, even where others have one.
    if (field === "inputOrder") all.set(asBytes(inOrder(this.#count, byteLength / 4)));
    this.#fields.set(field, all);
    return all;
  }
}

function inOrder(count: number, columns: number): Int32Array {
  return Int32Array.from({ length: count * columns }, (_, index) => index % columns);
}
