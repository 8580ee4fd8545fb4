import type { Device } from "../../core/device/device.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { copyAll } from "../../operators/copy_all.js";
import { combine } from "../../operators/experts/combine.js";
import { Temporaries } from "../temporaries.js";

/** [rows, columns] of ones. */
export function ones(device: Device, [rows, columns]: readonly [number, number], dtype: "f32"): Tensor<"f32"> {
  return device.tensor(new Float32Array(rows * columns).fill(1), [rows, columns], dtype) as Tensor<"f32">;
}

/** [rows, columns] i32: row + column * stride. */
export function steps(device: Device, [rows, columns]: readonly [number, number], stride: number): Tensor<"i32"> {
  const values = new Int32Array(rows * columns);
  for (let i = 0; i < values.length; i++) values[i] = Math.floor(i / columns) + (i % columns) * stride;
  return device.tensor(values, [rows, columns]);
}

/** The sum of several matrices of one size, in the order in which they are added, in float32. */
export class MatrixSum implements Disposable {
  readonly #device: Device;
  readonly #shape: readonly [number, number];
  readonly #dtype: "f32";
  readonly #terms: Tensor<"f32">;
  readonly #most: number;
  #count = 0;

  /** @param most how many matrices there will be at most. */
  constructor(device: Device, shape: readonly [number, number], dtype: "f32", most: number) {
    this.#device = device;
    this.#shape = shape;
    this.#dtype = dtype;
    this.#most = most;
    this.#terms = device.empty([most * shape[0], shape[1]], dtype);
  }

  /** A new term, for the caller to write and dispose of. */
  term(): Tensor<"f32"> {
    if (this.#count === this.#most) throw new RangeError("a sum has more terms than there is memory for");
    const [rows] = this.#shape;
    return this.#terms.rows(this.#count * rows, ++this.#count * rows);
  }

  /** Writes the sum, and adds what may come past the layer. */
  into<D extends FloatDType>(out: Tensor<D>, residual?: Tensor<FloatDType>): Tensor<D> {
    const [rows] = this.#shape;
    using temporaries = new Temporaries();
    const index = temporaries.keep(steps(this.#device, [rows, this.#count], rows));
    const weights = temporaries.keep(ones(this.#device, [rows, this.#count], this.#dtype));
    return combine(this.#terms, index, weights, { out, ...(residual && { residual }) });
  }

  /** The sum as a new tensor. */
  toTensor<D extends FloatDType>(shape: Shape, dtype: D): Tensor<D> {
    using made = new Made();
    return made.returned(this.into(made.own(this.#device.empty(shape, dtype))));
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.#terms.dispose();
  }
}

/** target += term. */
export function addTo(target: Tensor<"f32">, term: Tensor<"f32">): void {
  const { device, size, dtype } = target;
  using sum = new MatrixSum(device, [1, size], dtype, 2);
  for (const each of [target, term]) {
    using place = sum.term();
    copyAll(each, place);
  }
  using flat = target.reshape([1, size]);
  sum.into(flat);
}
