import type { Device } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import { type Shape, shapeSize } from "../core/shape.js";
import type { Tensor } from "../core/tensor.js";
import { Random } from "./random.js";
import { round } from "./rounding.js";

/**
 * The inputs of one run of a case on one device. With `expects`, the run computes the expected results: its inputs are
 * the other run's values after rounding to their dtype, but stored in float64, so that everything computed from them is
 * float64 too.
 */
export class Inputs implements Disposable {
  readonly device: Device;
  /** Draws the same numbers in every run of the case. */
  readonly random: Random;
  readonly #expects: boolean;
  readonly #kept: Disposable[] = [];

  constructor(device: Device, seed: string, expects: boolean) {
    this.device = device;
    this.random = new Random(seed);
    this.#expects = expects;
  }

  /** The dtype that takes the place of `dtype` in this run. */
  dtype(dtype: FloatDType): FloatDType {
    return this.#expects ? "f64" : dtype;
  }

  floats(values: Float32Array, shape: Shape, dtype: FloatDType): Tensor<FloatDType> {
    const source = this.#expects ? round(values, dtype) : values;
    return this.keep(this.device.tensor(source, shape, this.dtype(dtype)));
  }

  /** Normal values of mean 0. */
  normals(shape: Shape, dtype: FloatDType, deviation = 1): Tensor<FloatDType> {
    return this.floats(this.random.normals(shapeSize(shape), deviation), shape, dtype);
  }

  /** Normal values for an operator that takes f32 alone. */
  f32Normals(shape: Shape, deviation = 1): Tensor<"f32"> {
    return this.normals(shape, "f32", deviation) as Tensor<"f32">;
  }

  integers(values: ArrayLike<number>, shape: Shape): Tensor<"i32"> {
    return this.keep(this.device.tensor(Int32Array.from(values), shape));
  }

  /** A mask under which most tokens count. */
  tokenMask(tokens: number): Tensor<"u8"> {
    return this.keep(this.device.tensor(Uint8Array.from({ length: tokens }, () => this.random.integer(0, 3))));
  }

  empty(shape: Shape, dtype: FloatDType): Tensor<FloatDType> {
    return this.keep(this.device.empty(shape, this.dtype(dtype)));
  }

  f32Empty(shape: Shape): Tensor<"f32"> {
    return this.empty(shape, "f32") as Tensor<"f32">;
  }

  /** Returns `resource`, to be disposed of with the inputs. */
  keep<T extends Disposable>(resource: T): T {
    this.#kept.push(resource);
    return resource;
  }

  [Symbol.dispose](): void {
    for (const resource of this.#kept) resource[Symbol.dispose]();
  }
}
