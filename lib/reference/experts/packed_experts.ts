import { type Activation, type Clamp, defaultClamp, type PackedHandle } from "../../core/backend.js";
import { type Shape, shapeSize } from "../../core/shape.js";
import type { WeightFormatName, WeightMatrix } from "../../core/weight_format.js";
import { extended, type Matrix } from "../core/matrix.js";
import type { Stream } from "../core/stream.js";
import { ReferenceTensor } from "../core/tensor.js";
import { storageOf, storedValues } from "../formats/dequantize.js";
import type { Experts } from "./experts.js";

/**
 * Expert weights [E, N, K] in their given layout, gate rows before up rows. They are rounded to a plain format, or kept
 * as dequantised values for a quantised one.
 */
export class ReferencePackedExperts implements PackedHandle, Experts {
  readonly activation: Activation;
  readonly clamp: Clamp;
  readonly #format: WeightFormatName;
  readonly #storage: ReferenceTensor;
  readonly #expertShape: Shape;

  constructor(
    stream: Stream,
    shape: readonly [number, number, number],
    format: WeightFormatName,
    activation: Activation,
    clamp: Clamp,
  ) {
    this.activation = activation;
    this.clamp = clamp;
    this.#format = format;
    this.#storage = ReferenceTensor.allocate(stream, storageOf(format), shape);
    this.#expertShape = shape.slice(1);
  }

  /** The same without an activation. */
  static linear(stream: Stream, shape: readonly [number, number, number], format: WeightFormatName) {
    return new ReferencePackedExperts(stream, shape, format, "none", defaultClamp);
  }

  get rows(): number {
    return this.#expertShape[0] as number;
  }

  get byteLength(): number {
    return this.#storage.byteLength;
  }

  setExpert(expert: number, weight: WeightMatrix, up: WeightMatrix | null): void {
    const [rows, columns] = this.#expertShape as [number, number];
    const half = [up === null ? rows : rows / 2, columns] as const;
    [weight, up].forEach((given, index) => {
      if (given === null) return;
      this.#part(expert, half, index * half[0]).store(extended(storedValues(given, this.#format), ...half).values);
    });
  }

  weight(expert: number): Matrix {
    return this.#expert(expert).matrix();
  }

  free(): void {}

  #part(expert: number, shape: Shape, row: number): ReferenceTensor {
    return this.#expert(expert).view(shape, row * (this.#expertShape[1] as number));
  }

  #expert(expert: number): ReferenceTensor {
    return this.#storage.view(this.#expertShape, expert * shapeSize(this.#expertShape));
  }
}
