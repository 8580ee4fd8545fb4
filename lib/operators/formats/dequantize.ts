import { freeWeight, type WeightMatrix } from "../../core/formats/weight_format.js";
import { type Fields, floatDType, object, optional, type Reader } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, output } from "../check.js";
import {
  disposeQuantized,
  type QuantizedWeight,
  quantizedMatrix,
  quantizedWeight,
  tensorsOf,
} from "../experts/quantized_weight.js";
import { checkMatrices, checkQuantizedMatrices, denseMatrix, type Matrices, matrixOf } from "./matrices.js";

/** Options of {@link dequantize}. */
export interface DequantizeOptions<D extends FloatDType = FloatDType> {
  /** Default f32. */
  dtype?: D | undefined;
  /** Where to write; default a new tensor. */
  out?: Tensor<D> | undefined;
}

const dequantizeFields = { dtype: optional(floatDType), out: optional(tensor()) } satisfies Fields<DequantizeOptions>;
const dequantizeOptions = object(dequantizeFields, '{ dtype: "bf16" }') as Reader<DequantizeOptions>;

/**
 * The values of a quantised matrix, or of stacked ones:
 * ((code - zero point) * scale * super scale * scalar - minimum * super minimum) * input scale, computed in float32 and
 * rounded to `dtype`. With an input order, columns are those of the inputs; an input that none multiplies has zeros.
 *
 * @param weight [N, K] or [E, N, K]; K is that of `weight.columns`, or what the codes have room for.
 * @returns [N, K] or [E, N, K].
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, INVALID_ARGUMENT (overlapping `out` among others),
 * UNSUPPORTED_OPERATION (a part that begins within a group of rows), DISPOSED, OUT_OF_MEMORY.
 */
export function dequantize<D extends FloatDType = "f32">(
  weight: QuantizedWeight,
  options: DequantizeOptions<D> = {},
): Tensor<D> {
  const read = quantizedWeight(weight, "weight");
  const { out, dtype = out?.dtype ?? "f32" } = dequantizeOptions(options, "options");
  const matrices = checkQuantizedMatrices(read);
  const { device } = read.codes;
  const values = output(
    "out",
    out,
    device,
    [...matrices.lead, matrices.rows, matrices.columns],
    dtype,
    tensorsOf(read),
  );
  try {
    for (let index = 0; index < matrices.count; index++) {
      const target = denseMatrix(values, index);
      withMatrix(read, matrices, index, (one) => device.backend.dequantize({ weight: one, values: target.handle }));
      target.handle.free();
    }
    return values as Tensor<D>;
  } catch (error) {
    // A part that begins within a group of rows is only refused now.
    if (out === undefined) values.dispose();
    throw error;
  }
}

/**
 * The relative error of quantised matrices: sqrt(Σ (ŵ - w)² / Σ w²) over the elements of each, sums in float64; 0 if
 * they are equal.
 *
 * @param values [N, K] or [E, N, K] f32, f16 or bf16: what the weight stands for.
 * @param weight of the same shape, on the same device; see {@link quantize}.
 * @returns [1] or [E] f32.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, INVALID_ARGUMENT, UNSUPPORTED_OPERATION, DISPOSED.
 */
export function quantizationError(
  values: Tensor<FloatDType>,
  weight: QuantizedWeight,
  options: { out?: Tensor<"f32"> | undefined } = {},
): Tensor<"f32"> {
  const given = checkMatrices("values", values);
  const read = quantizedWeight(weight, "weight");
  const matrices = checkQuantizedMatrices(read, given.columns);
  checkTensor("values", values, "float", [...matrices.lead, matrices.rows, matrices.columns], read.codes.device);
  const { out } = errorOptions(options, "options");
  const { device } = values;
  const shape = matrices.lead.length === 0 ? [1] : matrices.lead;
  const errors = output("out", out, device, shape, "f32", [values, ...tensorsOf(read)]);
  if (matrices.count === 0) errors.handle.overwrite(new Float32Array(errors.size), false);
  for (let index = 0; index < matrices.count; index++) {
    const source = denseMatrix(values, index);
    const error = errors.handle.view([1], index);
    withMatrix(read, matrices, index, (one) =>
      device.backend.quantizationError({ values: source, weight: one, error }),
    );
    source.handle.free();
    error.free();
  }
  return errors;
}

const errorOptions = object({ out: optional(tensor<"f32">()) }, "{ out }");

/** Calls `use` with one of the matrices of a weight. */
function withMatrix(
  weight: QuantizedWeight,
  { rows, columns }: Matrices,
  index: number,
  use: (one: WeightMatrix) => void,
): void {
  const one = matrixOf(weight, index);
  try {
    const matrix = quantizedMatrix("weight", one, [rows, columns]);
    use(matrix);
    freeWeight(matrix);
  } finally {
    disposeQuantized(one);
  }
}
