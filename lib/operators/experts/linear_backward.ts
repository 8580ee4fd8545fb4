import { boolean, type Fields, object, optional, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor } from "../check.js";
import { groupedGemmBackward } from "./grouped_gemm_backward.js";
import { withOneExpert } from "./linear.js";
import type { PackedExperts } from "./packed_experts.js";

/** The gradients of a dense layer. */
export interface LinearGradients<D extends FloatDType = FloatDType> {
  /** [T, K] */
  readonly dx: Tensor<D>;
  /** [N, K] f32 */
  readonly dWeight: Tensor<"f32">;
  /** [N] f32, with `bias`. */
  readonly dBias?: Tensor<"f32">;
}

/** Options of {@link linearBackward}. */
export interface LinearBackwardOptions {
  /** Whether there was a bias, whose gradient is wanted too; default false. */
  bias?: boolean | undefined;
  /** Add to the dWeight and dBias that `out` holds instead of overwriting them; default false. */
  accumulate?: boolean | undefined;
  /** Where to write; default new tensors. */
  out?: LinearGradients | undefined;
}

const backwardOptions = object(
  {
    bias: optional(boolean, false),
    accumulate: optional(boolean, false),
    out: optional(results({ dx: tensor<FloatDType>(), dWeight: tensor<"f32">(), dBias: optional(tensor<"f32">()) })),
  } satisfies Fields<LinearBackwardOptions>,
  "{ bias: true }",
);

/**
 * The gradients of {@link linear} without an activation: dx = dy · weight, dWeight = dyᵀ · x, dBias = Σₜ dy[t]. With an
 * activation, dy is what {@link activationBackward} gives. See {@link groupedGemmBackward} for how sums are ordered.
 *
 * @param x [T, K] f32, f16 or bf16.
 * @param weight [N, K] f32, f16 or bf16, packed transposed on every call; or packed once,
 * `packExperts(weight, { transpose: true })`.
 * @param dy [T, N] f32, f16 or bf16.
 * @throws INVALID_ARGUMENT (2^31 rows or more, overlapping `out`, `accumulate` without `out`, weights packed in another
 * way), SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function linearBackward<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<FloatDType> | PackedExperts,
  dy: Tensor<FloatDType>,
  options: LinearBackwardOptions & { bias: true },
): Required<LinearGradients<D>>;
export function linearBackward<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<FloatDType> | PackedExperts,
  dy: Tensor<FloatDType>,
  options?: LinearBackwardOptions,
): LinearGradients<D>;
export function linearBackward(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType> | PackedExperts,
  dy: Tensor<FloatDType>,
  options: LinearBackwardOptions = {},
): LinearGradients {
  checkTensor("x", x, "float", ["T", "K"]);
  const [tokens, columns] = x.shape as [number, number];
  checkTensor("dy", dy, "float", [tokens, "N"], x.device);
  const outputs = dy.shape[1] as number;
  const { bias, accumulate, out } = backwardOptions(options, "options");
  if (out !== undefined) {
    checkTensor("out.dWeight", out.dWeight, "float32", [outputs, columns], x.device);
    if (out.dBias !== undefined) checkTensor("out.dBias", out.dBias, "float32", [outputs], x.device);
  }
  return withOneExpert(weight, x, (matrix, offsets) => {
    using dMatrix = out?.dWeight.reshape([1, outputs, columns]);
    using dVector = out?.dBias?.reshape([1, outputs]);
    const gradients = groupedGemmBackward(x, matrix, offsets, dy, {
      bias,
      accumulate,
      ...(out && dMatrix && { out: { dx: out.dx, dWeight: dMatrix, ...(dVector && { dBias: dVector }) } }),
    });
    using dWeight = gradients.dWeight;
    using dBias = "dBias" in gradients ? (gradients.dBias as Tensor<"f32">) : undefined;
    return {
      dx: gradients.dx,
      dWeight: out?.dWeight ?? dWeight.reshape([outputs, columns]),
      ...(dBias && { dBias: out?.dBias ?? dBias.reshape([outputs]) }),
    };
  });
}
