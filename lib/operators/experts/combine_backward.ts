import { invalidArgument } from "../../core/errors.js";
import { choice, type Fields, object, optional, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkResult, checkTensor, float32Beside, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";

/** The gradients of what {@link combine} takes. */
export interface CombineGradients<D extends FloatDType = FloatDType> {
  /** [R, H] */
  readonly dRows: Tensor<D>;
  /** [T, k] f32 */
  readonly dWeights: Tensor<"f32">;
}

/** Options of {@link combineBackward}. */
export interface CombineBackwardOptions {
  /** The one gradient to compute; default both. */
  want?: "dRows" | "dWeights" | undefined;
  /** Where to write what is computed; default new tensors. */
  out?: Partial<CombineGradients> | undefined;
}

const backwardOptions = object(
  {
    want: optional(choice(["dRows", "dWeights"])),
    out: optional(results({ dRows: optional(tensor<FloatDType>()), dWeights: optional(tensor<"f32">()) })),
  } satisfies Fields<CombineBackwardOptions>,
  '{ want: "dRows" }',
);

/**
 * The gradients of {@link combine}: dRows[rowOfSlot[t, j]] = weights[t, j] · dy[t], and zeros in rows that no slot
 * names; dWeights[t, j] = Σ rows[rowOfSlot[t, j]] · dy[t], and 0 for slots of -1.
 *
 * dRows with x in place of dy is the weighted gather of a layer that multiplies the inputs of experts by their weights
 * (`weightOn: "input"`): row r is the weight of its slot times the token's x.
 *
 * Computed in float32; dRows is rounded once, and the order of a sum depends on H alone. NaN in a token's dy stays with
 * its rows and weights.
 *
 * @param rows [R, H] f32, f16 or bf16, as combine took them. For dRows alone they may be null: there are then as many
 * as in `out.dRows`, or else T · k as {@link sort} returns them.
 * @param rowOfSlot [T, k] i32, each -1 or 0 .. R-1, no row twice; as {@link sort} returns it. If a row is there twice,
 * dRows has its first slot's gradient. Any other value is treated as -1 and is ID_OUT_OF_RANGE at the next wait.
 * @param weights [T, k] f32.
 * @param dy [T, H] f32, f16 or bf16.
 * @param options.out where to write: dRows may be of any float dtype; by default dRows has that of `rows`, or of dy without rows.
 * @throws INVALID_ARGUMENT (2^31 slots or more, no rows for dWeights, an `out` with other results than are computed,
 * overlapping `out`), SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function combineBackward<D extends FloatDType>(
  rows: Tensor<D> | null,
  rowOfSlot: Tensor<"i32">,
  weights: Tensor<"f32">,
  dy: Tensor<FloatDType>,
  options: CombineBackwardOptions & { want: "dRows" },
): Pick<CombineGradients<D>, "dRows">;
export function combineBackward(
  rows: Tensor<FloatDType>,
  rowOfSlot: Tensor<"i32">,
  weights: Tensor<"f32">,
  dy: Tensor<FloatDType>,
  options: CombineBackwardOptions & { want: "dWeights" },
): Pick<CombineGradients, "dWeights">;
export function combineBackward<D extends FloatDType>(
  rows: Tensor<D>,
  rowOfSlot: Tensor<"i32">,
  weights: Tensor<"f32">,
  dy: Tensor<FloatDType>,
  options?: CombineBackwardOptions & { want?: undefined },
): CombineGradients<D>;
export function combineBackward(
  rows: Tensor<FloatDType> | null,
  rowOfSlot: Tensor<"i32">,
  weights: Tensor<"f32">,
  dy: Tensor<FloatDType>,
  options: CombineBackwardOptions = {},
): Partial<CombineGradients> {
  checkTensor("dy", dy, "float", ["T", "H"]);
  const { device } = dy;
  const [tokens, hidden] = dy.shape as [number, number];
  const { want, out } = backwardOptions(options, "options");
  if (want !== "dRows" || rows !== null) checkTensor("rows", rows, "float", ["R", hidden], device);
  checkTensor("rowOfSlot", rowOfSlot, ["i32"], [tokens, "k"], device);
  const dtype = resultDType(dy);
  checkTensor("weights", weights, float32Beside(dy), rowOfSlot.shape, device);
  if (rowOfSlot.size >= 2 ** 31) throw invalidArgument("rowOfSlot", "fewer than 2^31 slots", rowOfSlot.size);
  checkResult(out, "dRows", want !== "dWeights", 'want: "dRows" or both');
  checkResult(out, "dWeights", want !== "dRows", 'want: "dWeights" or both');

  using outputs = new Outputs(device, [rows ?? undefined, rowOfSlot, weights, dy]);
  const dRows = want === "dWeights" ? undefined : rowsFor(rows ?? undefined, rowOfSlot, dy, out?.dRows, outputs);
  const dWeights = want === "dRows" ? undefined : outputs.next("out.dWeights", out?.dWeights, rowOfSlot.shape, dtype);
  device.backend.combineBackward({
    rows: rows?.handle,
    rowOfSlot: rowOfSlot.handle,
    weights: weights.handle,
    dy: dy.handle,
    dRows: dRows?.handle,
    dWeights: dWeights?.handle,
  });
  return outputs.returned({ ...(dRows && { dRows }), ...(dWeights && { dWeights }) });
}

function rowsFor(
  rows: Tensor<FloatDType> | undefined,
  rowOfSlot: Tensor<"i32">,
  dy: Tensor<FloatDType>,
  out: Tensor<FloatDType> | undefined,
  outputs: Outputs,
): Tensor<FloatDType> {
  const { device } = dy;
  const hidden = dy.shape[1] as number;
  if (out !== undefined) checkTensor("out.dRows", out, "float", [rows?.shape[0] ?? "R", hidden], device);
  const shape = [(rows ?? out)?.shape[0] ?? rowOfSlot.size, hidden];
  return outputs.next("out.dRows", out, shape, out?.dtype ?? (rows ?? dy).dtype);
}
