import { boolean, type Fields, object, optional, unchecked } from "../../core/input/options.js";
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

/** Options of {@link columnMeans}. */
export interface ColumnMeansOptions extends TokenMaskOption {
  /** S: the T rows are S sequences of equal length, one after another; default 1. */
  sequences?: number | undefined;
  /** Average the squares of the values; default false. */
  square?: boolean | undefined;
  /** Where to write, [S, N]; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const meansOptions = object(
  {
    sequences: optional(unchecked, 1),
    square: optional(boolean, false),
    ...tokenMaskField,
    out: optional(tensor<"f32">()),
  } satisfies Fields<ColumnMeansOptions>,
  "{ sequences: 4 }",
);

/**
 * The mean of every column over the rows of each sequence that count under `tokenMask`; 0 if none do.
 *
 * @param values [T, N] f32.
 * @returns means [S, N] f32.
 * @throws INVALID_ARGUMENT (sequences that do not divide T), SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH,
 * DISPOSED.
 */
export function columnMeans(values: Tensor<"f32">, options: ColumnMeansOptions = {}): Tensor<"f32"> {
  checkTensor("values", values, "float32", ["T", "N"]);
  const { device } = values;
  const [rows, columns] = values.shape as [number, number];
  const { sequences, square, tokenMask, out } = meansOptions(options, "options");
  checkSequences(sequences, rows);
  const mask = checkTokenMask(tokenMask, rows, device);
  const means = output("out", out, device, [sequences, columns], resultDType(values), [values, tokenMask]);
  device.backend.columnMeans({ values: values.handle, tokenMask: mask, means: means.handle, square, total: false });
  return means;
}
