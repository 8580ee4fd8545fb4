import { invalidArgument, MoeError } from "../../core/errors.js";
import { type Fields, object, optional, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkApart, checkOptional, checkPair, checkTensor } from "../check.js";
import { Outputs } from "../outputs.js";
import { groupedGemm } from "./grouped_gemm.js";
import {
  type BiasedGroupedGemmWeightGradients,
  type GroupedGemmWeightBackwardOptions,
  type GroupedGemmWeightGradients,
  weightBackwardFields,
  weightGradients,
} from "./grouped_gemm_weight_backward.js";
import { PackedExperts } from "./packed_experts.js";

/** The gradients of a grouped GEMM's inputs. */
export interface GroupedGemmGradients<D extends FloatDType = FloatDType> extends GroupedGemmWeightGradients {
  /** [R, K] */
  readonly dx: Tensor<D>;
}

/** {@link GroupedGemmGradients} with that of the bias. */
export interface BiasedGroupedGemmGradients<D extends FloatDType = FloatDType>
  extends GroupedGemmGradients<D>,
    BiasedGroupedGemmWeightGradients {}

/** Options of {@link groupedGemmBackward}. */
export interface GroupedGemmBackwardOptions extends Omit<GroupedGemmWeightBackwardOptions, "out"> {
  /** Where to write; default new tensors. */
  out?: GroupedGemmGradients | BiasedGroupedGemmGradients | undefined;
}

const backwardOptions = object(
  {
    ...weightBackwardFields,
    out: optional(results({ dx: tensor<FloatDType>(), dWeight: tensor<"f32">(), dBias: optional(tensor<"f32">()) })),
  } satisfies Fields<GroupedGemmBackwardOptions>,
  "{ tokenOfRow, bias: true }",
);

/**
 * The gradients of {@link groupedGemm} without an activation, from dy, that of its result: dx[r] = dy[r] · weight[e] for
 * the rows of expert e, and those by the weights of {@link groupedGemmWeightBackward}. Of a product with an
 * activation, `dy` is what {@link activationBackward} gives for the same product without one.
 *
 * dx has a row for each row of the product: with `tokenOfRow` those are the gradients of the gathered rows, which
 * {@link permuteBackward} adds up for each token; a row of token -1 belongs to none. Rows from offsets[E] on are zeros.
 * dx accumulates in float32, in an order that depends on N alone, and is rounded once.
 *
 * @param x [R, K], or [T, K] with `tokenOfRow`; f32, f16 or bf16.
 * @param weight [E, N, K] f32, f16 or bf16, packed transposed on every call; or the same packed once by
 * `packExperts(weight, { transpose: true })`.
 * @param offsets [E+1] i32, not descending, offsets[E] <= R; otherwise ID_OUT_OF_RANGE at the next wait.
 * @param dy [R, N] f32, f16 or bf16.
 * @param options.accumulate is of dWeight and dBias alone.
 * @param options.out where to write: dx may be of any float dtype; by default dx has that of x.
 * @throws INVALID_ARGUMENT (2^31 rows or more, overlapping `out`, weights packed in another way), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function groupedGemmBackward<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<FloatDType> | PackedExperts,
  offsets: Tensor<"i32">,
  dy: Tensor<FloatDType>,
  options: GroupedGemmBackwardOptions & { bias: true },
): BiasedGroupedGemmGradients<D>;
export function groupedGemmBackward<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<FloatDType> | PackedExperts,
  offsets: Tensor<"i32">,
  dy: Tensor<FloatDType>,
  options?: GroupedGemmBackwardOptions,
): GroupedGemmGradients<D>;
export function groupedGemmBackward(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType> | PackedExperts,
  offsets: Tensor<"i32">,
  dy: Tensor<FloatDType>,
  options: GroupedGemmBackwardOptions = {},
): GroupedGemmGradients {
  checkTensor("x", x, "float", ["R", "K"]);
  checkTensor("dy", dy, "float", ["R", "N"], x.device);
  const read = backwardOptions(options, "options");
  checkWeight(weight, x, dy);
  const shape = [dy.shape[0] as number, x.shape[1] as number];
  const { out } = read;
  checkTensor("offsets", offsets, ["i32"], ["E+1"], x.device);
  const tokenOfRow = checkOptional("tokenOfRow", read.tokenOfRow, ["i32"], [shape[0] as number], x.device);
  const plain = weight instanceof Tensor ? weight : undefined;
  using outputs = new Outputs(x.device, [x, offsets, dy, tokenOfRow, plain]);
  const dx = outputs.next("out.dx", out?.dx, shape, out?.dx.dtype ?? x.dtype);
  checkTensor("out.dx", dx, "float", shape, x.device);
  if (out !== undefined) checkApart("out.dWeight", out.dWeight, dx, plain);
  if (out?.dBias !== undefined) checkApart("out.dBias", out.dBias, dx, plain);
  groupedGemm(dy, weight, offsets, { transpose: true, out: dx });
  return outputs.returned({ dx, ...weightGradients(x, dy, offsets, read) });
}

/** Checks that a weight [E, N, K] goes with x [T, K] and dy [R, N]. */
function checkWeight(weight: unknown, x: Tensor, dy: Tensor): void {
  const [outputs, columns] = [dy.shape[1] as number, x.shape[1] as number];
  if (!(weight instanceof PackedExperts)) {
    checkTensor("weight", weight, "float", ["E", outputs, columns], x.device);
    checkPair(x, weight as Tensor);
    return;
  }
  if (!weight.transposed) throw invalidArgument("weight", "packed experts with transpose: true", weight);
  const [experts, ...matrix] = weight.shape as [number, number, number];
  if (matrix[0] === columns && matrix[1] === outputs) return;
  const expected = `expected packed experts of shape [E, ${columns}, ${outputs}]`;
  throw new MoeError("SHAPE_MISMATCH", `weight: ${expected}, got [${[experts, ...matrix].join(", ")}]`);
}
