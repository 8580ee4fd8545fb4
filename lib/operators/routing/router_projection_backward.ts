import { invalidArgument } from "../../core/errors.js";
import { boolean, type Fields, object, optional, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkPair, checkResult, checkTensor, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";

/** The gradients of a router projection's inputs. */
export interface RouterProjectionGradients<D extends FloatDType = FloatDType> {
  /** [T, H] */
  readonly dx: Tensor<D>;
  /** [E, H] f32 */
  readonly dWeight: Tensor<"f32">;
}

/** {@link RouterProjectionGradients} with that of the bias. */
export interface BiasedRouterProjectionGradients<D extends FloatDType = FloatDType>
  extends RouterProjectionGradients<D> {
  /** [E] f32 */
  readonly dBias: Tensor<"f32">;
}

/** Options of {@link routerProjectionBackward}. */
export interface RouterProjectionBackwardOptions {
  /** Whether there was a bias, whose gradient is wanted too; default false. */
  bias?: boolean | undefined;
  /** Where to write; default new tensors. */
  out?: RouterProjectionGradients | BiasedRouterProjectionGradients | undefined;
}

const backwardOptions = object(
  {
    bias: optional(boolean, false),
    out: optional(results({ dx: tensor<FloatDType>(), dWeight: tensor<"f32">(), dBias: optional(tensor<"f32">()) })),
  } satisfies Fields<RouterProjectionBackwardOptions>,
  "{ bias: true }",
);

/**
 * The gradients of {@link routerProjection}: dx = dLogits · weight, dWeight = dLogitsᵀ · x and dBias = Σₜ dLogits[t].
 *
 * Products and sums are float32, those of dBias float64. dx is rounded once, and does not depend on the other tokens.
 * Sums over tokens have an order that depends on the sizes alone, not on the number of threads. NaN in a token's
 * dLogits is in the token's dx, and in the rows of dWeight of the experts concerned.
 *
 * @param x [T, H] f32, f16 or bf16.
 * @param weight [E, H] f32, f16 or bf16.
 * @param dLogits [T, E] f32.
 * @param options.out where to write: dx may be of any float dtype; by default dx has that of x.
 * @throws INVALID_ARGUMENT (2^31 tokens or experts or more, overlapping `out`), SHAPE_MISMATCH, UNSUPPORTED_DTYPE,
 * DEVICE_MISMATCH, DISPOSED.
 */
export function routerProjectionBackward<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<FloatDType>,
  dLogits: Tensor<"f32">,
  options: RouterProjectionBackwardOptions & { bias: true },
): BiasedRouterProjectionGradients<D>;
export function routerProjectionBackward<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<FloatDType>,
  dLogits: Tensor<"f32">,
  options?: RouterProjectionBackwardOptions,
): RouterProjectionGradients<D>;
export function routerProjectionBackward(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType>,
  dLogits: Tensor<"f32">,
  options: RouterProjectionBackwardOptions = {},
): RouterProjectionGradients {
  checkTensor("x", x, "float", ["T", "H"]);
  const { device } = x;
  const [tokens, hidden] = x.shape as [number, number];
  checkTensor("weight", weight, "float", ["E", hidden], device);
  checkPair(x, weight);
  const experts = weight.shape[0] as number;
  if (tokens >= 2 ** 31) throw invalidArgument("x", "fewer than 2^31 tokens", tokens);
  if (experts >= 2 ** 31) throw invalidArgument("weight", "fewer than 2^31 experts", experts);
  const dtype = resultDType(x);
  checkTensor("dLogits", dLogits, [dtype], [tokens, experts], device);
  const { bias, out } = backwardOptions(options, "options");
  checkResult(out, "dBias", bias, "bias: true");

  using outputs = new Outputs(device, [x, weight, dLogits]);
  const dx = outputs.next("out.dx", out?.dx, x.shape, out?.dx.dtype ?? x.dtype);
  checkTensor("out.dx", dx, "float", x.shape, device);
  const dWeight = outputs.next("out.dWeight", out?.dWeight, weight.shape, dtype);
  device.backend.routerProjectionBackward({
    x: x.handle,
    weight: weight.handle,
    dLogits: dLogits.handle,
    dx: dx.handle,
    dWeight: dWeight.handle,
  });
  if (!bias) return outputs.returned({ dx, dWeight });
  const dBias = outputs.next("out.dBias", out?.dBias, [experts], dtype);
  using means = dBias.reshape([1, experts]);
  device.backend.columnMeans({ values: dLogits.handle, means: means.handle, square: false, total: true });
  return outputs.returned({ dx, dWeight, dBias }) as BiasedRouterProjectionGradients;
}
