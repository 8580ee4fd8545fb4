import { type FloatDType, toBF16, toF16 } from "../../core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../core/tensors/shape.js";
import { Random } from "../../testing/inputs/random.js";
import { RandomWeights } from "../../testing/inputs/random_layer.js";
import { randomRouting } from "../../testing/inputs/random_routing.js";
import type { TestArray } from "../../testing/subject/subject.js";

/** Dtypes of tokens and weights. */
export type BenchDType = Exclude<FloatDType, "f64">;

/** Longer arrays are drawn from a table, which is many times as fast. */
const longestExact = 2 ** 14;

/** Draws the inputs of operators, the same from the same seed. */
export class Draw {
  readonly random: Random;

  constructor(seed: string) {
    this.random = new Random(seed);
  }

  /** Normal values of mean 0. */
  normals(shape: Shape, dtype: BenchDType = "f32", deviation = 1): TestArray {
    const size = shapeSize(shape);
    if (size > longestExact) {
      const table = new RandomWeights(this.random.integer(0, 2 ** 31));
      return { data: table.array(size, dtype, deviation), shape, dtype };
    }
    return floats(this.random.normals(size, deviation), shape, dtype);
  }

  /** Values in 0.1 .. 1.1. */
  positive(shape: Shape): TestArray {
    return {
      data: Float32Array.from({ length: shapeSize(shape) }, () => 0.1 + this.random.uniform()),
      shape,
      dtype: "f32",
    };
  }

  /** Integers from 0 to `limit` - 1. */
  integers(shape: Shape, limit: number): TestArray {
    const data = Int32Array.from({ length: shapeSize(shape) }, () => this.random.integer(0, limit - 1));
    return { data, shape, dtype: "i32" };
  }

  /**
   * Router logits [T, E] that are multiples of 2^-8 within -4 .. 4: scores in float32 then have the order of the exact ones.
   */
  logits(tokens: number, columns: number): TestArray {
    const { data, ...rest } = this.normals([tokens, columns]);
    const coarse = (value: number): number => Math.max(-4, Math.min(4, Math.round(value * 256) / 256));
    return { ...rest, data: Float32Array.from(data, coarse) };
  }

  /** Ids of `topK` different experts for every token, all equally likely, and their weights [T, k]. */
  routing(tokens: number, topK: number, experts: number): { ids: TestArray; weights: TestArray } {
    const { ids, weights } = randomRouting(this.random, tokens, topK, experts, "even");
    const shape = [tokens, topK];
    return { ids: { data: ids, shape, dtype: "i32" }, weights: { data: weights, shape, dtype: "f32" } };
  }
}

/** The rows of a routing in the order of their experts, as the operator `sort` makes them. */
export function sortedRows({ data: ids, shape }: TestArray, experts: number) {
  const [, topK] = shape as [number, number];
  const offsets = new Int32Array(experts + 1);
  for (const id of ids) (offsets[id + 1] as number)++;
  for (let expert = 0; expert < experts; expert++) (offsets[expert + 1] as number) += offsets[expert] as number;
  const next = offsets.slice();
  const rowOfSlot = Int32Array.from(ids, (id) => (next[id] as number)++);
  const tokenOfRow = new Int32Array(ids.length);
  rowOfSlot.forEach((row, slot) => {
    tokenOfRow[row] = Math.floor(slot / topK);
  });
  return {
    offsets: integers(offsets, [experts + 1]),
    tokenOfRow: integers(tokenOfRow, [ids.length]),
    rowOfSlot: integers(rowOfSlot, shape),
  };
}

/** Values as a dtype holds them. */
export function floats(data: Float32Array, shape: Shape, dtype: BenchDType): TestArray {
  if (dtype === "f32") return { data, shape, dtype };
  return { data: Uint16Array.from(data, dtype === "f16" ? toF16 : toBF16), shape, dtype };
}

export function integers(data: Int32Array, shape: Shape): TestArray {
  return { data, shape, dtype: "i32" };
}
