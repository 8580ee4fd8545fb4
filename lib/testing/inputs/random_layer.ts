import type { Device } from "../../core/device/device.js";
import type { TokenFormat } from "../../core/formats/token_format.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { weightFormat } from "../../core/formats/weight_formats.js";
import { isGated } from "../../core/layer/activation.js";
import { allocated } from "../../core/tensors/allocated.js";
import { dtypes, type FloatDType, type RawArrayOf, toBF16, toF16 } from "../../core/tensors/dtype.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { describeLayer, type MoeLayerConfig } from "../../layer/description/config.js";
import { isUniform, weightStorage } from "../../layer/description/storage.js";
import { withTokenFormat } from "../../layer/description/token_format.js";
import { LayerParts } from "../../layer/layer_parts.js";
import type { ExpertWeights } from "../../layer/weights/expert_weights.js";
import { quantizing } from "../../layer/weights/quantizing.js";
import { MoeLayer } from "../../moe_layer.js";
import { formatBytes } from "../../terminal/format.js";
import { Random } from "./random.js";

/** The stored form of a value. */
const encoders: Readonly<Record<FloatDType, (value: number) => number>> = {
  f64: Number,
  f32: Number,
  f16: toF16,
  bf16: toBF16,
};

/** Elements that are drawn and uploaded at a time. */
const blockSize = 2 ** 20;

/**
 * Normal values by the hundred million, for weights of full-size layers: drawn with replacement from a table of 2^16
 * normal values, which costs a nanosecond each instead of the tens that drawing them afresh takes.
 */
export class RandomWeights {
  readonly #table: Float32Array;
  readonly #encodedTables = new Map<string, RawArrayOf<FloatDType>>();
  #state: number;

  constructor(seed: number | string) {
    const random = new Random(seed);
    this.#table = random.normals(2 ** 16);
    this.#state = random.integer(0, 2 ** 32 - 1);
  }

  /** A tensor of normal values of mean 0. */
  tensor(device: Device, shape: Shape, dtype: FloatDType, deviation: number): Tensor<FloatDType> {
    const tensor = device.empty(shape, dtype);
    const values = this.#encoded(dtype, deviation);
    const block = new dtypes[dtype].raw(Math.min(blockSize, tensor.size));
    for (let offset = 0; offset < tensor.size; offset += blockSize) {
      const part = block.subarray(0, Math.min(blockSize, tensor.size - offset));
      this.#draw(values, part);
      const view = tensor.handle.view([part.length], offset);
      view.write(part, false);
      view.free();
    }
    return tensor;
  }

  /** The stored bits of what {@link tensor} makes. */
  array<D extends FloatDType>(length: number, dtype: D, deviation: number): RawArrayOf<D> {
    const array = new dtypes[dtype].raw(length);
    this.#draw(this.#encoded(dtype, deviation), array);
    return array as RawArrayOf<D>;
  }

  /** The table as a dtype stores it, made once for all matrices of a deviation: small ones have fewer values than it. */
  #encoded(dtype: FloatDType, deviation: number): RawArrayOf<FloatDType> {
    const key = `${dtype} ${deviation}`;
    const known = this.#encodedTables.get(key);
    if (known !== undefined) return known;
    const values = this.#table.map((value) => encoders[dtype](value * deviation));
    const made = new dtypes[dtype].raw(values) as RawArrayOf<FloatDType>;
    this.#encodedTables.set(key, made);
    return made;
  }

  /** A tensor of random bytes, for the codes of quantised weights. */
  codes(device: Device, shape: Shape): Tensor<"u8"> {
    const tensor = device.empty(shape, "u8");
    const block = new Uint32Array(Math.ceil(Math.min(blockSize, tensor.size) / 4));
    for (let offset = 0; offset < tensor.size; offset += blockSize) {
      for (let index = 0; index < block.length; index++) block[index] = Math.imul(this.#next(), 0x9e3779b1);
      const part = new Uint8Array(block.buffer, 0, Math.min(blockSize, tensor.size - offset));
      const view = tensor.handle.view([part.length], offset);
      view.write(part, false);
      view.free();
    }
    return tensor;
  }

  /** The next state of the generator, of which only the high bits are random. */
  #next(): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) | 0;
    return this.#state ^ (this.#state >>> 16);
  }

  /** Fills `target` from a table of 2^16 entries, indexed by the high bits of a linear congruential generator. */
  #draw(table: ArrayLike<number>, target: { [index: number]: number; readonly length: number }): void {
    let state = this.#state;
    for (let index = 0; index < target.length; index++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0; // Numerical Recipes' constants
      target[index] = table[state >>> 16] as number;
    }
    this.#state = state;
  }
}

/** An expert's matrices of a random layer by role, [rows, columns], in the order in which they are drawn. */
export function drawnMatrices({ hiddenSize, intermediateSize, activation = "swiglu" }: MoeLayerConfig) {
  const up = ["up", intermediateSize, hiddenSize] as const;
  const down = ["down", hiddenSize, intermediateSize] as const;
  const gate = ["gate", intermediateSize, hiddenSize] as const;
  return isGated(activation) ? [up, down, gate] : [up, down];
}

/** The dtype in which a random layer's matrices are drawn; quantised ones are made of bf16. */
export function drawnDType(format: WeightFormatName): Exclude<FloatDType, "f64"> {
  return isUniform(format) ? (format as Exclude<FloatDType, "f64">) : "bf16";
}

/** How wide the values of a matrix spread. */
export const drawnDeviation = (columns: number): number => columns ** -0.5;

/**
 * A layer of random weights, scaled so that tokens of normal values give logits and outputs of about that size.
 * @param dtype a quantised format is that of the experts; they are then quantised from bf16.
 * @param onProgress told how many experts are there.
 */
export async function randomLayer(
  device: Device,
  config: MoeLayerConfig,
  dtype: WeightFormatName,
  seed: number,
  onProgress: (experts: number) => void = () => {},
  tokenFormat: TokenFormat = "none",
): Promise<MoeLayer> {
  const { hiddenSize, numExperts } = config;
  const { name } = weightFormat(dtype, "dtype");
  const weights = new RandomWeights(seed);
  const floats = drawnDType(name);
  const description = withTokenFormat(describeLayer(config, weightStorage(name, { router: floats })), tokenFormat);
  const layer = new LayerParts(device, description, { quantizing: quantizing(name) });
  const matrix = (rows: number, columns: number): Tensor<FloatDType> =>
    weights.tensor(device, [rows, columns], floats, drawnDeviation(columns));
  try {
    using router = matrix(numExperts, hiddenSize);
    layer.router.weights.set(router);
    for (let expert = 0; expert < description.bank.count; expert++) {
      const drawn: [string, Tensor<FloatDType>][] = [];
      try {
        for (const [role, rows, columns] of drawnMatrices(config)) drawn.push([role, matrix(rows, columns)]);
        layer.bank.setExpert(expert, Object.fromEntries(drawn) as unknown as ExpertWeights);
      } finally {
        for (const [, tensor] of drawn) tensor.dispose();
      }
      await device.synchronize(); // so that no more than one expert is here twice
      onProgress(expert + 1);
    }
    return new MoeLayer(layer);
  } catch (error) {
    layer.dispose();
    throw error;
  }
}

/**
 * Tokens [count, hiddenSize] of normal values.
 * @throws OUT_OF_MEMORY
 */
export function randomTokens(count: number, hiddenSize: number, seed: number | string): Float32Array {
  const bytes = 4 * count * hiddenSize;
  const expected = `tokens: expected what fits into memory, got ${count} of ${hiddenSize} values`;
  const message = `${expected}, which take ${formatBytes(bytes)} in float32; give fewer`;
  return allocated(bytes, message, () => new Random(`tokens ${seed}`).normals(count * hiddenSize));
}
