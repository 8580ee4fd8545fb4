import { type FloatDType, groupedGemm, linear, rmsNorm, type Tensor } from "moe-kernels";
import type { RotaryPositions } from "../../common/rotary.js";
import type { ModelConfig } from "../config/config.js";
import type { BlockNames } from "../config/names.js";
import type { KeyValueCache } from "./cache.js";
import type { Projection, Weights } from "./weights.js";

interface Parts {
  readonly query: Projection;
  readonly key: Projection;
  readonly value: Projection;
  readonly output: Projection;
  /** Norms of queries and keys, each as wide as a head or as all heads. */
  readonly queryNorm: Tensor<FloatDType> | undefined;
  readonly keyNorm: Tensor<FloatDType> | undefined;
  /** [heads]: a logit of each head that takes a share of the softmax and has no value. */
  readonly sinks: Float32Array | undefined;
}

/**
 * Attention of grouped queries with rotary positions. The package multiplies: projections by `linear`, and products with
 * keys and values by `groupedGemm`, where each head of them is an expert. JavaScript turns, masks and takes the softmax.
 */
export class Attention implements Disposable {
  readonly #config: ModelConfig;
  readonly #positions: RotaryPositions;
  readonly #window: number;
  readonly #parts: Parts;

  private constructor(config: ModelConfig, positions: RotaryPositions, window: number, parts: Parts) {
    this.#config = config;
    this.#positions = positions;
    this.#window = window;
    this.#parts = parts;
  }

  static async load(
    weights: Weights,
    names: BlockNames,
    config: ModelConfig,
    positions: RotaryPositions,
    window: number,
  ): Promise<Attention> {
    const { family, hiddenSize, heads, keyValueHeads, headSize } = config;
    const [queries, keys] = [heads * headSize, keyValueHeads * headSize];
    // OLMoE normalises all heads of a token as one row.
    const normWidth = (all: number) => (family === "olmoe" ? all : headSize);
    using sinks = await weights.optional(names.sinks, [heads]);
    return new Attention(config, positions, window, {
      query: await weights.projection(names.query, queries, hiddenSize),
      key: await weights.projection(names.key, keys, hiddenSize),
      value: await weights.projection(names.value, keys, hiddenSize),
      output: await weights.projection(names.output, hiddenSize, queries),
      queryNorm: await weights.optional(`${names.queryNorm}.weight`, [normWidth(queries)]),
      keyNorm: await weights.optional(`${names.keyNorm}.weight`, [normWidth(keys)]),
      sinks: sinks && Float32Array.from(await sinks.data()),
    });
  }

  /** Adds tokens x [T, H] to the cache. @returns what they take from all that they see [T, H]. */
  async forward(x: Tensor<"f32">, cache: KeyValueCache): Promise<Tensor<"f32">> {
    const { heads, keyValueHeads, headSize } = this.#config;
    const { query, key, value, output, queryNorm, keyNorm } = this.#parts;
    const tokens = x.shape[0];
    const first = cache.length;
    const [queries, keys, values] = await Promise.all([
      this.#projected(x, query, queryNorm),
      this.#projected(x, key, keyNorm),
      this.#projected(x, value, undefined),
    ]);
    this.#positions.turn(queries, tokens, first, { size: headSize, begin: 0 });
    this.#positions.turn(keys, tokens, first, { size: headSize, begin: 0 });
    cache.add(keys, values);

    // Row (key head, token, query head of the key head), so that the rows of a key head are together.
    const { device } = x;
    const rows = heads * tokens;
    const each = rows / keyValueHeads;
    using offsets = device.tensor(Int32Array.from({ length: keyValueHeads + 1 }, (_, head) => head * each));
    using grouped = device.tensor(swapped(queries, tokens, keyValueHeads), [rows, headSize]);
    using cachedKeys = cache.keys();
    using cachedValues = cache.values();
    using products = groupedGemm(grouped, cachedKeys, offsets);
    const shares = this.#shares(await products.data(), tokens, first, cache.capacity);
    using sharesOnDevice = device.tensor(shares, [rows, cache.capacity]);
    using seen = groupedGemm(sharesOnDevice, cachedValues, offsets, { transpose: true });
    const merged = swapped(await seen.data(), keyValueHeads, tokens);
    using mergedOnDevice = device.tensor(merged, [tokens, heads * headSize]);
    return linear(mergedOnDevice, output.weight, { bias: output.bias });
  }

  async #projected(x: Tensor<"f32">, { weight, bias }: Projection, norm: Tensor<FloatDType> | undefined) {
    using projected = linear(x, weight, { bias });
    if (norm === undefined) return await projected.data();
    using rows = projected.reshape([projected.size / norm.size, norm.size]);
    using normed = rmsNorm(rows, norm, { epsilon: this.#config.epsilon });
    return await normed.data();
  }

  /** Softmax of the products [rows, capacity] over the tokens that each row's token sees, in place. */
  #shares(products: Float32Array, tokens: number, first: number, capacity: number): Float32Array {
    const { heads, keyValueHeads, attentionScale: scale } = this.#config;
    const { sinks } = this.#parts;
    const ofKey = heads / keyValueHeads;
    for (let row = 0, begin = 0; begin < products.length; row++, begin += capacity) {
      const token = Math.floor(row / ofKey) % tokens;
      const head = Math.floor(row / (ofKey * tokens)) * ofKey + (row % ofKey);
      const end = begin + first + token + 1;
      const from = Math.max(begin, end - this.#window);
      const sink = sinks === undefined ? -Infinity : sinks[head];
      let largest = sink;
      for (let i = from; i < end; i++) largest = Math.max(largest, products[i] * scale);
      let sum = Math.exp(sink - largest);
      for (let i = from; i < end; i++) {
        products[i] = Math.exp(products[i] * scale - largest);
        sum += products[i];
      }
      for (let i = from; i < end; i++) products[i] /= sum;
      products.fill(0, begin, from).fill(0, end, begin + capacity);
    }
    return products;
  }

  [Symbol.dispose](): void {
    const { query, key, value, output, queryNorm, keyNorm } = this.#parts;
    for (const part of [query, key, value, output, queryNorm, keyNorm]) part?.[Symbol.dispose]();
  }
}

/** [first, second, ...] as [second, first, ...]. */
function swapped(values: Float32Array, first: number, second: number): Float32Array {
  const width = values.length / (first * second);
  const result = new Float32Array(values.length);
  for (let i = 0; i < first; i++) {
    for (let j = 0; j < second; j++) {
      const from = (i * second + j) * width;
      result.set(values.subarray(from, from + width), (j * first + i) * width);
    }
  }
  return result;
}
