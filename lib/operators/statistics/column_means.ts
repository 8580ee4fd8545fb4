import { checkOptions, invalidArgument } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import { checkSequences, checkTensor, checkTokenMask, output, resultDType, type TokenMaskOption } from "../check.js";

export interface ColumnMeansOptions extends TokenMaskOption {
  /** S, sequences of equal length that stand one after another in the T rows; default 1. */
  sequences?: number;
  /** Take the means of the values' squares; default false. */
  square?: boolean;
  /** Where to write, [S, N]; default a new tensor. */
  out?: Tensor<"f32">;
}

/**
 * The mean of every column over the rows of each sequence that count; 0 where a sequence has no such rows.
 *
 * @param values [T, N] f32.
 * @returns means [S, N] f32.
 * @throws INVALID_ARGUMENT (sequences that do not divide T), SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function columnMeans(values: Tensor<"f32">, options: ColumnMeansOptions = {}): Tensor<"f32"> {
  checkTensor("values", values, ["f32", "f64"], ["T", "N"]);
  checkOptions(options, "{ sequences: 4 }");
  const { device } = values;
  const [rows, columns] = values.shape as [number, number];
  const { sequences = 1, square = false, tokenMask } = options;
  checkSequences(sequences, rows);
  if (typeof square !== "boolean") throw invalidArgument("square", "a boolean", square);
  const mask = checkTokenMask(tokenMask, rows, device);
  const means = output("out", options.out, device, [sequences, columns], resultDType(values), [values, tokenMask]);
  device.backend.columnMeans(values.handle, mask, means.handle, null, square, false);
  return means;
}
