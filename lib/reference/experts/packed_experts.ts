import type { Activation, Clamp, PackedHandle, StridedMatrix } from "../../core/backend.js";
import type { DType } from "../../core/dtype.js";
import { type Shape, shapeSize } from "../../core/shape.js";
import type { Matrix } from "../core/matrix.js";
import type { Stream } from "../core/stream.js";
import { ReferenceTensor, readMatrix } from "../core/tensor.js";
import type { Experts } from "./grouped_gemm.js";

/** Expert weights [E, N, K] as given, gate rows before up rows, rounded to one dtype. */
export class ReferencePackedExperts implements PackedHandle, Experts {
  readonly activation: Activation;
  readonly clamp: Clamp;
  readonly #storage: ReferenceTensor;
  readonly #expertShape: Shape;

  constructor(
    stream: Stream,
    shape: readonly [number, number, number],
    dtype: DType,
    activation: Activation,
    clamp: Clamp,
  ) {
    this.activation = activation;
    this.clamp = clamp;
    this.#storage = ReferenceTensor.allocate(stream, dtype, shape);
    this.#expertShape = shape.slice(1);
  }

  get rows(): number {
    return this.#expertShape[0] as number;
  }

  get byteLength(): number {
    return this.#storage.byteLength;
  }

  setExpert(expert: number, weight: StridedMatrix, up: StridedMatrix | null): void {
    const [rows, columns] = this.#expertShape as [number, number];
    const half = [up === null ? rows : rows / 2, columns] as const;
    this.#part(expert, half, 0).store(readMatrix(weight, ...half).values);
    if (up !== null) this.#part(expert, half, half[0]).store(readMatrix(up, ...half).values);
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
