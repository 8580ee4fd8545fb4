import { groupedGemmWeightBackward, permute, sort, type Tensor } from "moe-kernels";
import { Weight, type WeightSource } from "./weights.js";

/** A vector for each token of the vocabulary. */
export class Embedding {
  readonly table: Weight;
  #ids: Tensor<"i32"> | undefined;

  constructor(source: WeightSource, name: string, vocabulary: number, hiddenSize: number) {
    this.table = new Weight(name, source.take(name, [vocabulary, hiddenSize], 0.02));
  }

  /** @param ids [T]; kept for the backward pass. @returns x [T, H]. */
  forward(ids: Tensor<"i32">): Tensor<"f32"> {
    this.#ids = ids;
    return permute(this.table.value, ids);
  }

  /**
   * A row's gradient is the sum of dx over the tokens that took it: sorted by id, a grouped GEMM of one output whose
   * experts are the ids, by its weights.
   */
  backward(dx: Tensor<"f32">): void {
    const { device } = dx;
    const [vocabulary, hiddenSize] = this.table.value.shape as [number, number];
    using ids = (this.#ids as Tensor<"i32">).reshape([dx.shape[0] as number, 1]);
    const sorted = sort(ids, { numExperts: vocabulary });
    using ones = device.tensor(new Float32Array(ids.size).fill(1), ids.shape);
    using dWeight = this.table.gradient.reshape([vocabulary, 1, hiddenSize]);
    groupedGemmWeightBackward(dx, ones, sorted.offsets, { tokenOfRow: sorted.tokenOfRow, out: { dWeight } });
    for (const tensor of Object.values(sorted)) tensor.dispose();
  }
}
