import { type CapturedForward, linear, type PackedExperts, packExperts } from "moe-kernels";
import { RotaryPositions } from "../../common/rotary.js";
import { rotationFrequencies, rotationScale } from "../model/head_order.js";
import type { Host } from "../model/host.js";
import { Mixture } from "../model/mixture.js";
import { type NormWeights, normalise } from "../model/norm.js";
import type { Transformer } from "../model/transformer.js";
import type { Weight } from "../model/weights.js";

/** A block's weights, packed once, and what it keeps of earlier tokens. */
interface CachedBlock {
  readonly attentionNorm: NormWeights;
  readonly project: PackedExperts;
  readonly output: PackedExperts;
  readonly feedForwardNorm: NormWeights;
  readonly feedForward: DenseStep | CapturedForward<"f32">;
  /** [context, H]: turned keys, and values, of the latest tokens; the place of a token is its position modulo the context. */
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

/** A dense feed-forward layer with packed weights. */
interface DenseStep {
  readonly gateUp: PackedExperts;
  readonly down: PackedExperts;
}

/**
 * Runs a decoder a token at a time. Keys and values of earlier tokens are cached, mixtures are captured, and all other weights
 * are packed once, so the model must not be trained meanwhile. Tokens further back than the context are forgotten.
 */
export class Generator implements Disposable {
  readonly #model: Transformer;
  readonly #host: Host;
  readonly #blocks: readonly CachedBlock[];
  readonly #finalNorm: NormWeights;
  readonly #head: PackedExperts;
  readonly #table: Float32Array;
  readonly #positions: RotaryPositions;
  #position = 0;

  constructor(model: Transformer) {
    if (!model.config.causal) throw new RangeError("generate: expected a decoder, got an encoder");
    this.#model = model;
    this.#host = model.host;
    const { context, hiddenSize, heads } = model.config;
    const size = hiddenSize / heads;
    this.#positions = new RotaryPositions(rotationFrequencies(size), rotationScale(size));
    this.#blocks = model.blocks.map(({ attentionNorm, attention, feedForwardNorm, feedForward }) => ({
      attentionNorm: attentionNorm.read(),
      project: packed(attention.project),
      output: packed(attention.output),
      feedForwardNorm: feedForwardNorm.read(),
      feedForward:
        feedForward instanceof Mixture
          ? feedForward.layer.capture(1, { dtype: "f32" })
          : { gateUp: packed(feedForward.gateUp, "swiglu"), down: packed(feedForward.down) },
      keys: new Float32Array(context * hiddenSize),
      values: new Float32Array(context * hiddenSize),
    }));
    this.#finalNorm = model.finalNorm.read();
    this.#head = packed(model.head);
    this.#table = this.#host.read(model.embedding.table.value);
  }

  /** Adds a token. @returns the logits of the one that follows. */
  next(id: number): Float32Array {
    const { hiddenSize } = this.#model.config;
    const stream = this.#table.slice(id * hiddenSize, (id + 1) * hiddenSize);
    const add = (values: Float32Array) => {
      for (let i = 0; i < hiddenSize; i++) stream[i] += values[i];
    };
    for (const block of this.#blocks) {
      const projected = this.#multiply(normalise(stream, block.attentionNorm).y, block.project);
      add(this.#multiply(this.#attend(projected, block), block.output));
      add(this.#feedForward(normalise(stream, block.feedForwardNorm).y, block.feedForward));
    }
    this.#position++;
    return this.#multiply(normalise(stream, this.#finalNorm).y, this.#head);
  }

  #multiply(row: Float32Array, weight: PackedExperts): Float32Array {
    using x = this.#host.tensor(row, [1, row.length]);
    using y = linear(x, weight);
    return this.#host.read(y);
  }

  #feedForward(row: Float32Array, part: DenseStep | CapturedForward<"f32">): Float32Array {
    if ("gateUp" in part) {
      using x = this.#host.tensor(row, [1, row.length]);
      using inner = linear(x, part.gateUp);
      using y = linear(inner, part.down);
      return this.#host.read(y);
    }
    part.x.write(row);
    part.replay();
    return this.#host.read(part.y);
  }

  /** Attention of the present token over those in the cache, and itself. */
  #attend(projected: Float32Array, { keys, values }: CachedBlock): Float32Array {
    const { hiddenSize, heads, context } = this.#model.config;
    const size = hiddenSize / heads;
    const position = this.#position;
    const place = (position % context) * hiddenSize;
    const query = projected.subarray(0, hiddenSize);
    const key = projected.subarray(hiddenSize, 2 * hiddenSize);
    for (const row of [query, key]) this.#positions.turn(row, [position]);
    keys.set(key, place);
    values.set(projected.subarray(2 * hiddenSize), place);
    const tokens = Math.min(position + 1, context);
    const merged = new Float32Array(hiddenSize);
    const shares = new Float64Array(tokens);
    for (let begin = 0; begin < hiddenSize; begin += size) {
      let largest = -Infinity;
      for (let token = 0; token < tokens; token++) {
        let product = 0;
        for (let i = begin; i < begin + size; i++) product += query[i] * keys[token * hiddenSize + i];
        shares[token] = product;
        largest = Math.max(largest, product);
      }
      let sum = 0;
      for (let token = 0; token < tokens; token++) {
        shares[token] = Math.exp(shares[token] - largest);
        sum += shares[token];
      }
      for (let token = 0; token < tokens; token++) {
        const share = shares[token] / sum;
        for (let i = begin; i < begin + size; i++) merged[i] += share * values[token * hiddenSize + i];
      }
    }
    return merged;
  }

  dispose(): void {
    for (const { project, output, feedForward } of this.#blocks) {
      const parts = "gateUp" in feedForward ? [feedForward.gateUp, feedForward.down] : [feedForward];
      for (const part of [project, output, ...parts]) part.dispose();
    }
    this.#head.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function packed({ value }: Weight, activation: "none" | "swiglu" = "none"): PackedExperts {
  return packExperts(value, { activation });
}
