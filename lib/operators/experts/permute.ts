import { object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, output } from "../check.js";

const outOption = object({ out: optional(tensor()) }, "{ out }");

/**
 * Gathers token rows in expert order: row r of the result is x[tokenOfRow[r]], or zeros if that is -1.
 *
 * @param x [T, H] f32, f16 or bf16.
 * @param tokenOfRow [R] i32, each -1 or 0 .. T-1; any other value is ID_OUT_OF_RANGE at the next wait.
 * @returns rows [R, H] of x's dtype.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (overlapping `out`).
 */
export function permute<D extends FloatDType>(
  x: Tensor<D>,
  tokenOfRow: Tensor<"i32">,
  options: { out?: Tensor<NoInfer<D>> | undefined } = {},
): Tensor<D> {
  checkTensor("x", x, "float", ["T", "H"]);
  const { out } = outOption(options, "options");
  const { device } = x;
  checkTensor("tokenOfRow", tokenOfRow, ["i32"], ["R"], device);
  const shape = [tokenOfRow.size, x.shape[1] as number];
  const rows = output("out", out, device, shape, x.dtype, [x, tokenOfRow]);
  device.backend.permute({ x: x.handle, tokenOfRow: tokenOfRow.handle, rows: rows.handle });
  return rows;
}

/**
 * Undoes {@link permute} for every (token, slot): slot (t, j) of the result is rows[rowOfSlot[t, j]], or zeros if that
 * is -1.
 *
 * @param rows [R, H] f32, f16 or bf16.
 * @param rowOfSlot [T, k] i32, each -1 or 0 .. R-1; any other value is ID_OUT_OF_RANGE at the next wait.
 * @returns slots [T, k, H] of the rows' dtype.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (overlapping `out`).
 */
export function unpermute<D extends FloatDType>(
  rows: Tensor<D>,
  rowOfSlot: Tensor<"i32">,
  options: { out?: Tensor<NoInfer<D>> | undefined } = {},
): Tensor<D> {
  checkTensor("rows", rows, "float", ["R", "H"]);
  const { out } = outOption(options, "options");
  const { device } = rows;
  checkTensor("rowOfSlot", rowOfSlot, ["i32"], ["T", "k"], device);
  const shape = [...rowOfSlot.shape, rows.shape[1] as number];
  const slots = output("out", out, device, shape, rows.dtype, [rows, rowOfSlot]);
  device.backend.unpermute({ rows: rows.handle, rowOfSlot: rowOfSlot.handle, slots: slots.handle });
  return slots;
}
