import { invalidArgument, MoeError, requires } from "../../core/errors.js";
import { boolean, type Fields, object, optional, type Read, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, shapeText } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkPair, checkResult, checkTensor, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";

/** The gradients of a grouped GEMM's weights. */
export interface GroupedGemmWeightGradients {
  /** [E, N, K] f32 */
  readonly dWeight: Tensor<"f32">;
}

/** {@link GroupedGemmWeightGradients} with that of the bias. */
export interface BiasedGroupedGemmWeightGradients extends GroupedGemmWeightGradients {
  /** [E, N] f32 */
  readonly dBias: Tensor<"f32">;
}

/** Options of {@link groupedGemmWeightBackward}. */
export interface GroupedGemmWeightBackwardOptions {
  /** [R] i32, as {@link groupedGemm} had it: row r of the product is x[tokenOfRow[r]]. */
  tokenOfRow?: Tensor<"i32"> | undefined;
  /** Whether there was a bias, whose gradient is wanted too; default false. */
  bias?: boolean | undefined;
  /** Add to what `out` holds instead of overwriting it; default false. */
  accumulate?: boolean | undefined;
  /** Where to write; default new tensors. */
  out?: GroupedGemmWeightGradients | BiasedGroupedGemmWeightGradients | undefined;
}

export const weightBackwardFields = {
  tokenOfRow: optional(tensor<"i32">()),
  bias: optional(boolean, false),
  accumulate: optional(boolean, false),
  out: optional(results({ dWeight: tensor<"f32">(), dBias: optional(tensor<"f32">()) })),
} satisfies Fields<GroupedGemmWeightBackwardOptions>;
const backwardOptions = object(weightBackwardFields, "{ bias: true }");

/**
 * The gradients of {@link groupedGemm} by its weights: dWeight[e] = Σᵣ dy[r]ᵀ · x[r] and dBias[e] = Σᵣ dy[r] over the
 * rows r = offsets[e] .. offsets[e+1] - 1 of expert e; with `tokenOfRow`, x[tokenOfRow[r]] takes the place of x[r], and
 * rows of token -1, which the product leaves zeros, add nothing, whatever dy holds there. An expert without rows gets
 * zeros, or keeps what `out` holds with `accumulate`.
 *
 * Products and sums are float32; bfloat16 x and dy may be multiplied in pairs, with exact products. Sums have an order
 * that depends on the expert's rows alone, so the bits are the same with any number of threads, and NaN in a row of dy
 * or x stays in the gradients of the row's expert.
 *
 * @param x [R, K], or [T, K] with `tokenOfRow`; f32, f16 or bf16.
 * @param dy [R, N] f32, f16 or bf16: the gradient of the product, with bias and before any activation. N = 2I if the
 * activation is gated, as in the weight.
 * @param offsets [E+1] i32, not descending, offsets[E] <= R; otherwise ID_OUT_OF_RANGE at the next wait.
 * @throws INVALID_ARGUMENT (2^31 rows or more, overlapping `out`, `accumulate` without `out`), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function groupedGemmWeightBackward(
  x: Tensor<FloatDType>,
  dy: Tensor<FloatDType>,
  offsets: Tensor<"i32">,
  options: GroupedGemmWeightBackwardOptions & { bias: true },
): BiasedGroupedGemmWeightGradients;
export function groupedGemmWeightBackward(
  x: Tensor<FloatDType>,
  dy: Tensor<FloatDType>,
  offsets: Tensor<"i32">,
  options?: GroupedGemmWeightBackwardOptions,
): GroupedGemmWeightGradients;
export function groupedGemmWeightBackward(
  x: Tensor<FloatDType>,
  dy: Tensor<FloatDType>,
  offsets: Tensor<"i32">,
  options: GroupedGemmWeightBackwardOptions = {},
): GroupedGemmWeightGradients {
  return weightGradients(x, dy, offsets, backwardOptions(options, "options"));
}

/** {@link groupedGemmWeightBackward} with options that have been read. */
export function weightGradients(
  x: Tensor<FloatDType>,
  dy: Tensor<FloatDType>,
  offsets: Tensor<"i32">,
  { tokenOfRow, bias, accumulate, out }: Read<typeof backwardOptions>,
): GroupedGemmWeightGradients | BiasedGroupedGemmWeightGradients {
  checkTensor("x", x, "float", ["R", "K"]);
  const { device } = x;
  checkOptional("tokenOfRow", tokenOfRow, ["i32"], ["R"], device);
  const rows = (tokenOfRow ?? x).shape[0] as number;
  if (rows >= 2 ** 31) throw invalidArgument(tokenOfRow ? "tokenOfRow" : "x", "fewer than 2^31 rows", rows);
  checkTensor("dy", dy, "float", [rows, "N"], device);
  checkPair(x, dy, "dy");
  checkTensor("offsets", offsets, ["i32"], ["E+1"], device);
  const shape = [expertsOf(offsets), dy.shape[1] as number, x.shape[1] as number];
  if (accumulate && out === undefined) throw requires("accumulate", "out");
  checkResult(out, "dBias", bias, "bias: true");

  using outputs = new Outputs(device, [x, dy, offsets, tokenOfRow]);
  const dtype = resultDType(x);
  const dWeight = outputs.next("out.dWeight", out?.dWeight, shape, dtype);
  const dBias = bias ? outputs.next("out.dBias", out?.dBias, shape.slice(0, 2), dtype) : undefined;
  device.backend.groupedGemmWeightBackward({
    x: x.handle,
    tokenOfRow: tokenOfRow?.handle,
    dy: dy.handle,
    offsets: offsets.handle,
    accumulate,
    dWeight: dWeight.handle,
    dBias: dBias?.handle,
  });
  return outputs.returned(dBias === undefined ? { dWeight } : { dWeight, dBias });
}

/** E, of offsets [E+1]. */
function expertsOf({ shape }: { readonly shape: Shape }): number {
  const experts = (shape[0] as number) - 1;
  if (experts < 0) throw new MoeError("SHAPE_MISMATCH", `offsets: expected shape [E+1], got ${shapeText(shape)}`);
  return experts;
}
