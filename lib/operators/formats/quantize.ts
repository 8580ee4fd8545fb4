import type { Device } from "../../core/device/device.js";
import { MoeError } from "../../core/errors.js";
import type { WeightFormat, WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, readOnlyFormats, weightFormat } from "../../core/formats/weight_formats.js";
import { choice, type Fields, object, optional } from "../../core/input/options.js";
import { allOrNone } from "../../core/tensors/all_or_none.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import {
  disposeQuantized,
  ownedQuantized,
  type QuantizedWeight,
  quantizedTensors,
  tensorsOf,
} from "../experts/quantized_weight.js";
import { checkMatrices, denseMatrix, matrixOf } from "./matrices.js";

export const scaleChoices = ["largest", "least_squares"] as const;
/**
 * How {@link quantize} chooses scales.
 *
 * @useDeclaredType
 */
export type ScaleChoice = (typeof scaleChoices)[number];

/** How values are quantised. */
export interface QuantizeOptions {
  /** Default `largest`. */
  scale?: ScaleChoice | undefined;
}

const quantizeFields = { scale: optional(choice(scaleChoices), "largest") } satisfies Fields<QuantizeOptions>;
export const quantizeOptions = object(quantizeFields, '{ scale: "least_squares" }');

/**
 * Quantises a matrix [N, K], or each of E stacked ones [E, N, K], by round to nearest. The result is what MoeLayer.create,
 * {@link packExperts} and {@link groupedGemm} take; `dispose` it after use.
 *
 * An element w of a group has the code nearest to w / s (ties go to the even code), with a zero point z to w / s + z,
 * with a minimum m to (w + m) / s. Let the group's elements reach from l to h, and the format's codes from a to b. 0 is
 * between l and h, except where minima are floats (`a2` ... `a8`, `q4_1`, `q5_1`). By `scale: "largest"`, where nothing is cut off:
 * - s = max(h / b, l / a); with an offset, s = (h - l) / (b - a), and z = a - l / s or m = a s - l.
 * - s is rounded to the nearest value of the scales' type; of e8m0, to the next power of two above.
 * - If scales have scales of their own, those are the largest scale over the largest value of the scales' type (127
 *   for i8), rounded to the nearest, or if scales are floats, up to a power of two. nvfp4 has one for each matrix.
 *
 * `scale: "least_squares"` replaces l and h by intervals f times as wide about their middle (about 0 without an offset),
 * for f = 36/32, 35/32, ... 13/32, and takes for each group the first of those with the least Σ (ŵ - w)², where ŵ is
 * what w is dequantised to, with the rounded scale. The scales' own scales stay.
 *
 * All is computed in float32, operation by operation, so that every device gives the same bits. An element that is not
 * finite counts as 0; {@link quantizationError} is then NaN.
 *
 * @param values f32, f16 or bf16.
 * @param format any quantised format; see {@link WeightFormatName}.
 * @throws UNSUPPORTED_DTYPE (also for formats that cannot be quantised to), SHAPE_MISMATCH, INVALID_ARGUMENT, DISPOSED,
 * OUT_OF_MEMORY.
 */
export function quantize(
  values: Tensor<FloatDType>,
  format: WeightFormatName,
  options: QuantizeOptions = {},
): QuantizedWeight & Disposable {
  const { scale } = quantizeOptions(options, "options");
  const target = quantizableFormat(format, "format");
  const { count, lead, rows, columns } = checkMatrices("values", values);
  const { device } = values;
  const weight = emptyQuantized(device, target.name, [rows, columns], lead);
  // Rows without columns have scales all the same.
  if (count === 0) for (const tensor of tensorsOf(weight)) tensor.handle.clear();
  try {
    for (let index = 0; index < count; index++) {
      const source = denseMatrix(values, index);
      const one = matrixOf(weight, index);
      quantizeInto(one, source, device, scale);
      source.handle.free();
      disposeQuantized(one);
    }
    return weight;
  } catch (error) {
    disposeQuantized(weight);
    throw error;
  }
}

/** A format to quantise to. @throws UNSUPPORTED_DTYPE if it is not one. */
export function quantizableFormat(name: WeightFormatName, parameter: string): WeightFormat {
  const format = weightFormat(name, parameter);
  if (isPlain(format)) {
    throw new MoeError("UNSUPPORTED_DTYPE", `${parameter}: expected a quantised format, got ${format.name}`);
  }
  const { scales, code, offset } = format;
  const instead = readOnlyFormats.get(format.name);
  if (instead !== undefined) {
    throw new MoeError(
      "UNSUPPORTED_DTYPE",
      `${parameter}: ${format.name} is only read from checkpoints, never quantised to; choose "${instead}"`,
    );
  }
  if (scales !== undefined && scales.columns % 8 === 0 && (code !== "unsigned_integer" || offset !== undefined)) {
    return format;
  }
  throw new MoeError(
    "UNSUPPORTED_DTYPE",
    `${parameter}: expected a format whose scales are for multiples of 8 columns, with an offset if its codes are unsigned, ` +
      `got ${format.name}`,
  );
}

/** A weight whose tensors are not initialised. @param lead sizes before N, of stacked matrices. */
export function emptyQuantized(
  device: Device,
  format: WeightFormatName,
  matrix: readonly [number, number],
  lead: Shape = [],
): QuantizedWeight & Disposable {
  const parts = quantizedTensors(format, [...lead, ...matrix]);
  const made = allOrNone(parts, ([, shape, dtype]) => device.empty(shape, dtype));
  const tensors = Object.fromEntries(parts.map(([role], index) => [role, made[index]]));
  return ownedQuantized({ format, ...(tensors as { codes: Tensor<"u8"> }), columns: matrix[1] });
}

/** Enqueues the quantisation of a matrix into a weight of its size. */
export function quantizeInto(weight: QuantizedWeight, values: StridedMatrix, device: Device, scale: ScaleChoice): void {
  device.backend.quantize({
    values,
    format: weight.format,
    search: scale === "least_squares",
    codes: weight.codes.handle,
    scales: (weight.scales as Tensor).handle,
    superScales: weight.superScales?.handle,
    zeros: weight.zeros?.handle,
    superZeros: weight.superZeros?.handle,
  });
}
