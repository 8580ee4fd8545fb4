import {
  type Device,
  type FloatDType,
  groupedGemm,
  type PackedExperts,
  packExperts,
  permute,
  rmsNorm,
  type Tensor,
} from "moe-kernels";
import type { RotaryPositions } from "../../common/rotary.js";
import type { Latent, ModelConfig } from "../config/config.js";
import type { BlockNames, LatentNames } from "../config/names.js";
import { type HeadRows, type Heads, swapped } from "./heads.js";
import { type Projection, project } from "./projection.js";
import type { Weights } from "./weights.js";

interface Parts {
  /** Where queries are a projection of a narrower row. */
  readonly queryDown: Projection | undefined;
  readonly query: Projection;
  /** To a latent row and a key that is turned, which all heads have in common. */
  readonly latent: Projection;
  readonly latentNorm: Tensor<FloatDType>;
  /** [heads, latent, plain]: each head's matrix of keys, transposed. */
  readonly keyUp: PackedExperts;
  /** [heads, value, latent] */
  readonly valueUp: PackedExperts;
}

/**
 * Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434). Every head's keys and values are products with one latent row
 * of a token, so those products are taken on the other side: queries are multiplied by the matrix of keys, and what is seen
 * by that of values. Attention then has one head of keys, latent row and turned key, for all queries, and its values are the
 * latent rows, so the cache is small. Where each head has a matrix, it is an expert.
 */
export class LatentHeads implements Heads {
  readonly #config: ModelConfig;
  readonly #latent: Latent;
  readonly #device: Device;
  readonly #positions: RotaryPositions;
  readonly #parts: Parts;

  private constructor(config: ModelConfig, latent: Latent, device: Device, positions: RotaryPositions, parts: Parts) {
    this.#config = config;
    this.#latent = latent;
    this.#device = device;
    this.#positions = positions;
    this.#parts = parts;
  }

  static async load(
    weights: Weights,
    { query, latent: names }: BlockNames,
    config: ModelConfig,
    latent: Latent,
    positions: RotaryPositions,
  ): Promise<LatentHeads> {
    const { hiddenSize, heads, rotary, valueSize: rank } = config;
    const { queryRank, plainSize } = latent;
    const queries = heads * (plainSize + rotary.size);
    const queryDown = async (width: number) => {
      const norm = await weights.floats(`${names.queryNorm}.weight`, [width]);
      return await weights.projection(names.queryDown, width, hiddenSize, norm);
    };
    return new LatentHeads(config, latent, weights.device, positions, {
      queryDown: queryRank === undefined ? undefined : await queryDown(queryRank),
      query:
        queryRank === undefined
          ? await weights.projection(query, queries, hiddenSize)
          : await weights.projection(names.queryUp, queries, queryRank),
      latent: await weights.projection(names.down, rank + rotary.size, hiddenSize),
      latentNorm: await weights.floats(`${names.norm}.weight`, [rank]),
      ...(await loadMatrices(weights, names, config, latent)),
    });
  }

  async read(x: Tensor<"f32">, positions: readonly number[]): Promise<HeadRows> {
    const { heads, headSize, rotary, valueSize: rank } = this.#config;
    const { plainSize, epsilon } = this.#latent;
    const { queryDown, query, latent, latentNorm, keyUp } = this.#parts;
    const tokens = positions.length;
    using lower = queryDown && project(x, queryDown, epsilon);
    using projected = project(lower ?? x, query, epsilon);
    using both = project(x, latent, epsilon);
    const [ownQueries, keys] = await Promise.all([projected.data(), both.data()]);
    const ownSize = plainSize + rotary.size;
    this.#positions.turn(ownQueries, positions, { size: ownSize, begin: plainSize });
    this.#positions.turn(keys, positions, { size: headSize, begin: rank });

    using latents = this.#device.tensor(columns(keys, headSize, 0, rank), [tokens, rank]);
    using normed = rmsNorm(latents, latentNorm, { epsilon });
    const values = await normed.data();
    setColumns(keys, headSize, 0, values, rank);

    const plain = columns(ownQueries, ownSize, 0, plainSize);
    const queries = new Float32Array(tokens * heads * headSize);
    setColumns(queries, headSize, 0, await this.#byHead(plain, tokens, keyUp), rank);
    setColumns(queries, headSize, rank, columns(ownQueries, ownSize, plainSize, ownSize), rotary.size);
    return { queries, keys, values };
  }

  async merge(seen: Float32Array, tokens: number): Promise<Float32Array> {
    return await this.#byHead(seen, tokens, this.#parts.valueUp);
  }

  /** Multiplies each head of rows [T, heads · K] by its matrix [N, K]. */
  async #byHead(rows: Float32Array, tokens: number, matrices: PackedExperts): Promise<Float32Array> {
    const { heads } = this.#config;
    using offsets = this.#device.tensor(Int32Array.from({ length: heads + 1 }, (_, head) => head * tokens));
    using grouped = this.#device.tensor(swapped(rows, tokens, heads), [heads * tokens, rows.length / (heads * tokens)]);
    using products = groupedGemm(grouped, matrices, offsets);
    return swapped(await products.data(), heads, tokens);
  }

  [Symbol.dispose](): void {
    for (const part of Object.values(this.#parts)) part?.[Symbol.dispose]();
  }
}

/** Each head's matrices, from stacks of them or from one matrix with a head's keys before its values. */
async function loadMatrices(
  weights: Weights,
  { up, stacks }: LatentNames,
  { heads, valueSize: rank }: ModelConfig,
  { plainSize, valueSize }: Latent,
): Promise<Pick<Parts, "keyUp" | "valueUp">> {
  if (stacks && !weights.model.hasWeight(`${up}.weight`)) {
    return {
      keyUp: await weights.packed(`${stacks.key}.weight`, [heads, rank, plainSize]),
      valueUp: await weights.packed(`${stacks.value}.weight`, [heads, valueSize, rank]),
    };
  }
  using matrices = await weights.floats(`${up}.weight`, [heads * (plainSize + valueSize), rank]);
  return {
    keyUp: packedRows(matrices, heads, 0, plainSize, true),
    valueUp: packedRows(matrices, heads, plainSize, valueSize, false),
  };
}

/** Rows `begin` to `begin + count` of every head's matrix, of all of them [heads · R, K]. */
function packedRows(
  all: Tensor<FloatDType>,
  heads: number,
  begin: number,
  count: number,
  transpose: boolean,
): PackedExperts {
  const [rows, width] = all.shape;
  const indices = Int32Array.from({ length: heads * count }, (_, i) => {
    return Math.floor(i / count) * (rows / heads) + begin + (i % count);
  });
  using order = all.device.tensor(indices);
  using chosen = permute(all, order);
  using matrices = chosen.reshape([heads, count, width]);
  return packExperts(matrices, { transpose });
}

/** Columns `begin` to `end` of rows of a width. */
function columns(rows: Float32Array, width: number, begin: number, end: number): Float32Array {
  const count = end - begin;
  const result = new Float32Array((rows.length / width) * count);
  for (let from = begin, to = 0; to < result.length; from += width, to += count) {
    result.set(rows.subarray(from, from + count), to);
  }
  return result;
}

/** Writes columns of a width of their own into rows, from column `begin` on. */
function setColumns(rows: Float32Array, width: number, begin: number, values: Float32Array, count: number): void {
  for (let from = 0, to = begin; from < values.length; from += count, to += width) {
    rows.set(values.subarray(from, from + count), to);
  }
}
