import type { DType } from "../../core/tensors/dtype.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import type { Matrix } from "../core/matrix.js";
import type { Stream } from "../core/stream.js";
import { ReferenceTensor, readMatrix } from "../core/tensor.js";

/** All experts' biases [E, N] for one product, rounded to one dtype; allocated when the first is set. */
export class ExpertBiases {
  readonly #allocate: () => ReferenceTensor;
  #storage: ReferenceTensor | undefined;

  constructor(stream: Stream, numExperts: number, rows: number, dtype: DType) {
    this.#allocate = () => ReferenceTensor.allocate(stream, dtype, [numExperts, rows]);
  }

  get byteLength(): number {
    return this.#storage?.byteLength ?? 0;
  }

  setExpert(expert: number, bias: StridedMatrix | null): void {
    if (bias === null) return;
    this.#storage ??= this.#allocate();
    const rows = this.#storage.shape[1] as number;
    this.#storage.view([rows], expert * rows).store(readMatrix(bias, 1, rows).values);
  }

  matrix(): Matrix | undefined {
    return this.#storage?.matrix();
  }
}
