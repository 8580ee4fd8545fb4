import type { PackedHandle } from "../../core/device/backend.js";
import { type TokenFormat, type TokenScheme, tokenScheme } from "../../core/formats/token_format.js";
import type { WeightFormatName, WeightMatrix } from "../../core/formats/weight_format.js";
import { weightFormat } from "../../core/formats/weight_formats.js";
import { type Activation, type Clamp, defaultClamp } from "../../core/layer/activation.js";
import { type Shape, shapeSize } from "../../core/tensors/shape.js";
import { extended, type Matrix } from "../core/matrix.js";
import type { Stream } from "../core/stream.js";
import { ReferenceTensor } from "../core/tensor.js";
import { checkInputOrder, storageOf, storedValues } from "../formats/dequantize.js";
import { roundTokens } from "../formats/token_codes.js";
import type { Experts } from "./experts.js";

/** What a weight does to its inputs: stored column k multiplies x[order[k]] * scale[k]. */
interface InputChange {
  readonly scale: Float64Array | undefined;
  readonly order: Int32Array | undefined;
}

/**
 * Expert weights [E, N, K] in their given layout, gate rows before up rows. They are rounded to a plain format, or kept
 * as dequantised values for a quantised one. What a weight does to its inputs is part of these values, unless inputs are
 * rounded: then columns stay in the order and the scale in which they are stored.
 */
export class ReferencePackedExperts implements PackedHandle, Experts {
  readonly activation: Activation;
  readonly clamp: Clamp;
  readonly #format: WeightFormatName;
  readonly #tokens: TokenScheme | undefined;
  readonly #inputs = new Map<number, InputChange>();
  readonly #storage: ReferenceTensor;
  readonly #expertShape: Shape;

  constructor(
    stream: Stream,
    shape: readonly [number, number, number],
    format: WeightFormatName,
    activation: Activation,
    clamp: Clamp,
    tokenFormat: TokenFormat,
  ) {
    this.#tokens = tokenScheme(tokenFormat, weightFormat(format));
    this.activation = activation;
    this.clamp = clamp;
    this.#format = format;
    this.#storage = ReferenceTensor.allocate(stream, storageOf(format), shape);
    this.#expertShape = shape.slice(1);
  }

  /** The same without an activation. */
  static linear(
    stream: Stream,
    shape: readonly [number, number, number],
    format: WeightFormatName,
    tokenFormat: TokenFormat,
  ) {
    return new ReferencePackedExperts(stream, shape, format, "none", defaultClamp, tokenFormat);
  }

  get rows(): number {
    return this.#expertShape[0] as number;
  }

  readonly failed = false;

  get byteLength(): number {
    return this.#storage.byteLength;
  }

  setExpert(expert: number, weight: WeightMatrix, up: WeightMatrix | null): void {
    const [rows, columns] = this.#expertShape as [number, number];
    const half = [up === null ? rows : rows / 2, columns] as const;
    [weight, up].forEach((given, index) => {
      if (given === null) return;
      const values = storedValues(this.#tokens === undefined ? given : withoutInputs(given), this.#format);
      this.#part(expert, half, index * half[0]).store(extended(values, ...half).values);
    });
    if (this.#tokens === undefined) return;
    checkInputOrder(weight);
    this.#inputs.set(expert, {
      scale: (weight.inputScale as ReferenceTensor | undefined)?.values(),
      order: (weight.inputOrder as ReferenceTensor | undefined)?.integers().slice(),
    });
  }

  weight(expert: number): Matrix {
    return this.#expert(expert).matrix();
  }

  input(expert: number, x: Float64Array): Float64Array {
    if (this.#tokens === undefined) return x;
    const { scale, order } = this.#inputs.get(expert) ?? {};
    const stored = x.map((_, k) => Math.fround((x[order?.[k] ?? k] as number) * (scale?.[k] ?? 1)));
    return roundTokens(stored, this.#tokens);
  }

  free(): void {}

  #part(expert: number, shape: Shape, row: number): ReferenceTensor {
    return this.#expert(expert).view(shape, row * (this.#expertShape[1] as number));
  }

  #expert(expert: number): ReferenceTensor {
    return this.#storage.view(this.#expertShape, expert * shapeSize(this.#expertShape));
  }
}

function withoutInputs({ inputScale: _, inputOrder: __, ...weight }: WeightMatrix): WeightMatrix {
  return weight;
}
