import { boolean, type Fields, object, optional } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import {
  checkSequences,
  checkTensor,
  checkTokenMask,
  output,
  resultDType,
  type TokenMaskOption,
  tokenMaskField,
} from "../check.js";
import { tokenCounts } from "./mean_scores.js";

/** Options of {@link columnMeansBackward}. */
export interface ColumnMeansBackwardOptions extends TokenMaskOption {
  /** Whether the squares of the values were averaged; default false. */
  square?: boolean | undefined;
  /** Where to write, [T, N]; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const backwardOptions = object(
  {
    square: optional(boolean, false),
    ...tokenMaskField,
    out: optional(tensor<"f32">()),
  } satisfies Fields<ColumnMeansBackwardOptions>,
  "{ square: true }",
);

/**
 * The gradient of {@link columnMeans}: dMeans / the number of rows of the sequence that count, times 2 · values for
 * squares; 0 for rows that do not count.
 *
 * @param values [T, N] f32.
 * @param dMeans [S, N] f32.
 * @returns dValues [T, N] f32.
 * @throws INVALID_ARGUMENT (S does not divide T), SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function columnMeansBackward(
  values: Tensor<"f32">,
  dMeans: Tensor<"f32">,
  options: ColumnMeansBackwardOptions = {},
): Tensor<"f32"> {
  checkTensor("values", values, "float32", ["T", "N"]);
  const { device, shape } = values;
  const [rows, columns] = shape as [number, number];
  const dtype = resultDType(values);
  checkTensor("dMeans", dMeans, [dtype], ["S", columns], device);
  const { square, tokenMask, out } = backwardOptions(options, "options");
  const sequences = dMeans.shape[0];
  checkSequences(sequences, rows);
  const mask = checkTokenMask(tokenMask, rows, device);
  const dValues = output("out", out, device, shape, dtype, [values, dMeans, tokenMask]);
  if (dValues.size === 0) return dValues;
  using counts = tokenCounts(device, rows, { sequences, tokenMask });
  device.backend.columnMeansBackward({
    dMeans: dMeans.handle,
    counts: counts.handle,
    values: square ? values.handle : null,
    tokenMask: mask,
    dValues: dValues.handle,
  });
  return dValues;
}
