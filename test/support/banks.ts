import type { ExpertRange } from "../../lib/core/layer/expert_range.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { type ExpertWeights, mapExpert } from "../../lib/layer/weights/expert_weights.js";

/** The weights of a bank's experts, of those of all experts. */
export function expertsOfBank<T extends Tensor>(
  stacked: ExpertWeights<T, T>,
  { first, count }: ExpertRange,
): ExpertWeights<T, T> {
  return mapExpert(stacked, (all) => all.rows(first, first + count) as T);
}

/** What the layers of several banks give together. */
export async function sumOfBanks(
  banks: readonly ExpertRange[],
  outputOf: (bank: ExpertRange) => Tensor,
): Promise<Float64Array> {
  return sumOf(await Promise.all(banks.map(async (bank) => (await outputOf(bank).data()) as Float32Array)));
}

/** The sum of outputs of equal size. */
export function sumOf(outputs: readonly ArrayLike<number>[]): Float64Array {
  return Float64Array.from(outputs[0] as ArrayLike<number>, (_, index) =>
    outputs.reduce((total, output) => total + (output[index] as number), 0),
  );
}
