import { type Device, groupedGemm, linear, type Tensor } from "moe-kernels";
import type { RotaryPositions } from "../../common/rotary.js";
import type { ModelConfig } from "../config/config.js";
import type { BlockNames } from "../config/names.js";
import type { KeyValueCache } from "./cache.js";
import { GroupedHeads } from "./grouped_heads.js";
import { type HeadRows, type Heads, rowsOf, swapped } from "./heads.js";
import { LatentHeads } from "./latent_heads.js";
import type { Projection } from "./projection.js";
import type { Weights } from "./weights.js";

interface Parts {
  readonly heads: Heads;
  readonly output: Projection;
  /** [heads]: a logit of each head that takes a share of the softmax and has no value. */
  readonly sinks: Float32Array | undefined;
}

/** So many of a forward's tokens belong to one sequence, and follow those in its cache. */
export interface CachedPart {
  readonly cache: KeyValueCache;
  readonly tokens: number;
}

/**
 * Attention of grouped queries with rotary positions. The package multiplies: projections by `linear`, and products with
 * keys and values by `groupedGemm`, where each head of them is an expert. JavaScript turns, masks and takes the softmax.
 * {@link Heads} says what queries, keys and values are.
 */
export class Attention implements Disposable {
  readonly #device: Device;
  readonly #config: ModelConfig;
  readonly #window: number;
  readonly #parts: Parts;

  private constructor(device: Device, config: ModelConfig, window: number, parts: Parts) {
    this.#device = device;
    this.#config = config;
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
    const { hiddenSize, heads, headSize, latent } = config;
    using sinks = await weights.optional(names.sinks, [heads]);
    return new Attention(weights.device, config, window, {
      heads: latent
        ? await LatentHeads.load(weights, names, config, latent, positions)
        : await GroupedHeads.load(weights, names, config, positions),
      output: await weights.projection(names.output, hiddenSize, heads * (latent?.valueSize ?? headSize)),
      sinks: sinks && Float32Array.from(await sinks.data()),
    });
  }

  /** Adds tokens x [T, H], those of each part in turn, to the caches. @returns what they take from all that they see [T, H]. */
  async forward(x: Tensor<"f32">, parts: readonly CachedPart[]): Promise<Tensor<"f32">> {
    const { heads, output } = this.#parts;
    const positions = parts.flatMap(({ cache, tokens }) => Array.from({ length: tokens }, (_, i) => cache.length + i));
    const total = positions.length;
    const rows = await heads.read(x, positions);
    const seen = new Float32Array((rows.queries.length / this.#config.headSize) * this.#config.valueSize);
    let next = 0;
    // All parts' products are enqueued before the first is awaited.
    const attending = parts.map(async ({ cache, tokens }) => {
      const begin = next;
      next += tokens;
      seen.set(await this.#attend(rowsOf(rows, begin, tokens, total), cache, tokens), (seen.length / total) * begin);
    });
    await Promise.all(attending);
    const merged = await heads.merge(seen, total);
    using mergedOnDevice = x.device.tensor(merged, [total, merged.length / total]);
    return linear(mergedOnDevice, output.weight, { bias: output.bias });
  }

  /** Adds tokens of one sequence to its cache. @returns the values that they see [T, heads · value size]. */
  async #attend({ queries, keys, values }: HeadRows, cache: KeyValueCache, tokens: number): Promise<Float32Array> {
    const { heads, keyValueHeads, headSize } = this.#config;
    const first = cache.length;
    cache.add(keys, values);

    // Row (key head, token, query head of the key head), so that the rows of a key head are together.
    const device = this.#device;
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
    return swapped(await seen.data(), keyValueHeads, tokens);
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
    const { heads, output } = this.#parts;
    for (const part of [heads, output]) part[Symbol.dispose]();
  }
}
