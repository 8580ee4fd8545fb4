import type { DType } from "../dtype.js";
import { shapeSize } from "../shape.js";
import type { Matrix } from "./matrix.js";
import type { Stream } from "./stream.js";
import { ReferenceTensor } from "./tensor.js";

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

  /** Sets those of one expert: `bias`, then `second` behind it. */
  setExpert(expert: number, bias: ReferenceTensor | null, second: ReferenceTensor | null): void {
    if (bias === null && second === null) return;
    this.#storage ??= this.#allocate();
    const rows = this.#storage.shape[1] as number;
    if (bias !== null) this.#storage.view(bias.shape, expert * rows).store(bias.values());
    if (second === null) return;
    this.#storage.view(second.shape, (expert + 1) * rows - shapeSize(second.shape)).store(second.values());
  }

  matrix(): Matrix | undefined {
    return this.#storage?.matrix();
  }
}
