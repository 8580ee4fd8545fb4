import { bitsPerWeight, weightFormat } from "../core/formats/weight_formats.js";
import { describeLayer } from "../layer/description/config.js";
import { countWeights, totalWeights } from "../layer/work.js";
import type { CaseOptions } from "./bench_case.js";
import type { OperatorCase } from "./operators/operator_case.js";
import { sizesOf } from "./operators/sizes.js";

/**
 * About how many bytes of weights a case holds: as many copies as calls rotate through.
 * @param operatorCase undefined for the whole layer.
 */
export function heldBytes(
  operatorCase: OperatorCase | undefined,
  options: Pick<CaseOptions, "config" | "dtype" | "format" | "weightBytes">,
): number {
  const { config, format, weightBytes } = options;
  const one = (weights: number, columns: number) => (weights * bitsPerWeight(weightFormat(format), columns)) / 8;
  if (operatorCase === undefined) {
    const layer = totalWeights(countWeights(describeLayer(config, "f32")), config.numExperts);
    return copies(one(layer, config.intermediateSize), weightBytes);
  }
  const weights = operatorCase.weights?.(sizesOf(options, 1));
  if (weights === undefined) return 0;
  return copies(one(config.numExperts * weights.rows * weights.columns, weights.columns), weightBytes);
}

function copies(bytes: number, least: number): number {
  return Math.max(1, Math.ceil(least / bytes)) * bytes;
}

/** Divides items in their order so that each part holds at most `most` bytes, or is one item that holds more. */
export function dividedByBytes<T>(items: readonly T[], bytesOf: (item: T) => number, most: number): T[][] {
  const divided: T[][] = [];
  let held = 0;
  for (const item of items) {
    const bytes = bytesOf(item);
    if (divided.length === 0 || held + bytes > most) {
      divided.push([]);
      held = 0;
    }
    divided.at(-1)?.push(item);
    held += bytes;
  }
  return divided;
}
