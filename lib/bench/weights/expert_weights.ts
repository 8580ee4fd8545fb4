import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Shape } from "../../core/tensors/shape.js";
import { openDevice } from "../../devices.js";
import { Random } from "../../testing/inputs/random.js";
import { RandomWeights } from "../../testing/inputs/random_layer.js";
import { randomQuantized } from "../../testing/inputs/random_quantized.js";
import { arraysIn, withArrays } from "../../testing/subject/arrays.js";
import type { TestArray } from "../../testing/subject/subject.js";
import type { CaseOptions } from "../bench_case.js";
import type { CaseWeights } from "../operators/operator_case.js";
import { emptyStack, place } from "./stacked.js";

/** A quantised weight as subjects get it: what `packExperts` takes, with arrays for the tensors, and the shape [E, N, K]. */
export interface QuantizedArrays {
  readonly format: WeightFormatName;
  readonly columns: number;
  readonly shape: Shape;
  readonly codes: TestArray;
}

/** What the weights of all experts are drawn from. */
export const weightSeed = ({ rows, columns }: CaseWeights, copy: number): string =>
  `weights ${rows} ${columns} ${copy}`;

/** How wide their values spread. */
export const weightDeviation = ({ columns }: CaseWeights): number => columns ** -0.5;

/** The weights [E, N, K] of all experts as subjects get them. */
export function expertArrays(
  weights: CaseWeights,
  options: Pick<CaseOptions, "config" | "format">,
  copy: number,
): TestArray | QuantizedArrays {
  const { config, format } = options;
  if (!isPlain(weightFormat(format))) return quantizedArrays(weights, options, copy);
  const shape = [config.numExperts, weights.rows, weights.columns];
  const random = new RandomWeights(weightSeed(weights, copy));
  const dtype = format as Exclude<FloatDType, "f64">;
  const size = config.numExperts * weights.rows * weights.columns;
  return { data: random.array(size, dtype, weightDeviation(weights)), shape, dtype };
}

/** Quantised weights. Experts are equal, so that making all of them takes no longer than one. */
export function quantizedArrays(
  weights: CaseWeights,
  { config, format }: Pick<CaseOptions, "config" | "format">,
  copy: number,
): QuantizedArrays {
  const { rows, columns } = weights;
  const { numExperts } = config;
  using reference = openDevice("reference");
  const one = withArrays(randomQuantized(reference, new Random(weightSeed(weights, copy)), format, [rows, columns]));
  const all = emptyStack(one, numExperts) as QuantizedArrays;
  for (let expert = 0; expert < numExperts; expert++) place(all, one, expert);
  return { ...all, columns, shape: [numExperts, rows, columns] };
}

/** Bytes of all arrays of a weight. */
export function arrayBytes(weight: TestArray | QuantizedArrays): number {
  return arraysIn(weight).reduce((total, [, { data }]) => total + data.byteLength, 0);
}
