import type { Activation, PackedHandle } from "../backend.js";
import type { DType } from "../dtype.js";
import { type Shape, shapeSize } from "../shape.js";
import type { Experts } from "./grouped_gemm.js";
import type { Matrix } from "./matrix.js";
import type { Stream } from "./stream.js";
import { ReferenceTensor } from "./tensor.js";

/** Expert weights [E, N, K] as given, gate rows before up rows, rounded to one dtype. */
export class ReferencePackedExperts implements PackedHandle, Experts {
  readonly activation: Activation;
  readonly #storage: ReferenceTensor;
  readonly #expertShape: Shape;

  constructor(stream: Stream, shape: readonly [number, number, number], dtype: DType, activation: Activation) {
    this.activation = activation;
    this.#storage = ReferenceTensor.allocate(stream, dtype, shape);
    this.#expertShape = shape.slice(1);
  }

  get rows(): number {
    return this.#expertShape[0] as number;
  }

  get byteLength(): number {
    return this.#storage.byteLength;
  }

  setExpert(expert: number, weight: ReferenceTensor, up: ReferenceTensor | null): void {
    const own = this.#expert(expert);
    own.view(weight.shape, 0).store(weight.values());
    if (up !== null) own.view(up.shape, shapeSize(weight.shape)).store(up.values());
  }

  weight(expert: number): Matrix {
    return this.#expert(expert).matrix();
  }

  free(): void {}

  #expert(expert: number): ReferenceTensor {
    return this.#storage.view(this.#expertShape, expert * shapeSize(this.#expertShape));
  }
}
