import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import type { MoeLayerDescription } from "../../layer/description/config.js";
import { randomTokens } from "../../testing/inputs/random_layer.js";
import type { SubjectInputs } from "../../testing/subject/subject.js";
import { type CaseOptions, inputCount } from "../bench_case.js";
import { floats } from "../operators/draw.js";

/**
 * The calls of a layer as subjects take them: the same numbers that our calls have, in the same order. Weights are the same
 * objects whenever a copy of the layer comes round again.
 * @param weights of all copies.
 */
export function layerCalls(
  { config, dtype, format }: Pick<CaseOptions, "config" | "dtype" | "format">,
  description: MoeLayerDescription,
  weights: readonly SubjectInputs[],
  tokens: number,
): readonly SubjectInputs[] {
  const shape = [tokens, config.hiddenSize];
  return Array.from({ length: Math.max(inputCount(tokens), weights.length) }, (_, index) => ({
    x: floats(randomTokens(tokens, config.hiddenSize, index), shape, dtype),
    weights: weights[index % weights.length],
    config: { ...config, ...dtypeOption(format) },
    description,
    outputs: { y: { shape, dtype } },
  }));
}

/** Quantised weights keep their formats. */
function dtypeOption(format: WeightFormatName) {
  return isPlain(weightFormat(format)) ? { dtype: format } : {};
}
