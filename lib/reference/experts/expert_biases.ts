import type { StridedMatrix } from "../../core/backend.js";
import type { DType } from "../../core/dtype.js";
import type { Matrix } from "../core/matrix.js";
import type { Stream } from "../core/stream.js";
import { ReferenceTensor, readMatrix } from "../core/tensor.js";

/** The biases [E, N] of one product of all experts, rounded to one dtype; none until one is set. */
export class ExpertBiases {
  readonly #allocate: () => ReferenceTensor;
  #storage: ReferenceTensor | undefined;

  constructor(stream: Stream, numExperts: number, rows: number, dtype: DType) {
    this.#allocate = () => ReferenceTensor.allocate(stream, dtype, [numExperts, rows]);
  }

  get byteLength(): number {
    return this.#storage?.byteLength ?? 0;
  }

  /** Sets those of one expert: `bias`, and where they are two halves `second` behind it. */
  setExpert(expert: number, bias: StridedMatrix | null, second: StridedMatrix | null, halves: 1 | 2): void {
    if (bias === null && second === null) return;
    this.#storage ??= this.#allocate();
    const rows = this.#storage.shape[1] as number;
    const count = rows / halves;
    for (const [half, given] of [bias, second].entries()) {
      if (given === null) continue;
      this.#storage.view([count], expert * rows + half * count).store(readMatrix(given, 1, count).values);
    }
  }

  matrix(): Matrix | undefined {
    return this.#storage?.matrix();
  }
}
