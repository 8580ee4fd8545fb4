import { choice, type Fields, object, optional, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkPair, checkResult, checkTensor, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";
import { checkNormed, type RmsNormNumbers, rmsNormFields } from "./rms_norm.js";

/** The gradients of what {@link rmsNorm} takes. */
export interface RmsNormGradients<D extends FloatDType = FloatDType> {
  /** [T, H] */
  readonly dx: Tensor<D>;
  /** [H] f32 */
  readonly dWeight: Tensor<"f32">;
}

/** Options of {@link rmsNormBackward}. */
export interface RmsNormBackwardOptions extends RmsNormNumbers {
  /** [T, H] f32, f16 or bf16, added to dx before it is rounded: the gradient that came past the norm. */
  residual?: Tensor<FloatDType> | undefined;
  /** The one gradient to compute; default both. */
  want?: "dx" | "dWeight" | undefined;
  /** Where to write what is computed; dx may be of any float dtype. Default new tensors, dx of x's dtype. */
  out?: Partial<RmsNormGradients> | undefined;
}

const backwardOptions = object(
  {
    ...rmsNormFields,
    residual: optional(tensor<FloatDType>()),
    want: optional(choice(["dx", "dWeight"])),
    out: optional(results({ dx: optional(tensor<FloatDType>()), dWeight: optional(tensor<"f32">()) })),
  } satisfies Fields<RmsNormBackwardOptions>,
  '{ want: "dx" }',
);

/**
 * The gradients of {@link rmsNorm}. With s = 1 / √(mean(x[t]²) + epsilon) and g = dy[t] · (weight + offset),
 * dx[t] = s · (g - x[t] · s² · mean(g · x[t])) + residual[t], and dWeight = Σₜ dy[t] · x[t] · s.
 *
 * Computed in float32, the sum over tokens in float64 and in an order that depends on T alone. dx is rounded once and does
 * not depend on the other tokens. NaN in a token's dy is in its dx, and in dWeight.
 *
 * @param x [T, H] and
 * @param weight [H], as rmsNorm took them.
 * @param dy [T, H] f32, f16 or bf16.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (a number out of its range, an
 * `out` with other results than are computed, overlapping `out`), OUT_OF_MEMORY (dWeight needs T · H · 4 bytes meanwhile).
 */
export function rmsNormBackward<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<FloatDType>,
  dy: Tensor<FloatDType>,
  options: RmsNormBackwardOptions & { want: "dx" },
): Pick<RmsNormGradients<D>, "dx">;
export function rmsNormBackward(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType>,
  dy: Tensor<FloatDType>,
  options: RmsNormBackwardOptions & { want: "dWeight" },
): Pick<RmsNormGradients, "dWeight">;
export function rmsNormBackward<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<FloatDType>,
  dy: Tensor<FloatDType>,
  options?: RmsNormBackwardOptions & { want?: undefined },
): RmsNormGradients<D>;
export function rmsNormBackward(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType>,
  dy: Tensor<FloatDType>,
  options: RmsNormBackwardOptions = {},
): Partial<RmsNormGradients> {
  checkNormed(x, weight);
  const { device } = x;
  checkTensor("dy", dy, "float", x.shape, device);
  checkPair(x, dy, "dy");
  const { epsilon, offset, residual, want, out } = backwardOptions(options, "options");
  checkOptional("residual", residual, "float", x.shape, device);
  if (residual) checkPair(x, residual, "residual");
  checkResult(out, "dx", want !== "dWeight", 'want: "dx" or both');
  checkResult(out, "dWeight", want !== "dx", 'want: "dWeight" or both');

  using outputs = new Outputs(device, [x, weight, dy, residual]);
  const dtype = resultDType(x);
  if (out?.dx) checkTensor("out.dx", out.dx, "float", x.shape, device);
  const dx = want === "dWeight" ? undefined : outputs.next("out.dx", out?.dx, x.shape, out?.dx?.dtype ?? x.dtype);
  const dWeight = want === "dx" ? undefined : outputs.next("out.dWeight", out?.dWeight, weight.shape, dtype);
  using terms = dWeight && device.empty(x.shape, dtype);
  device.backend.rmsNormBackward({
    x: x.handle,
    weight: weight.handle,
    dy: dy.handle,
    residual: residual?.handle,
    dx: dx?.handle,
    terms: terms?.handle,
    epsilon,
    offset,
  });
  if (dWeight && terms) {
    using means = dWeight.reshape([1, weight.size]);
    device.backend.columnMeans({ values: terms.handle, means: means.handle, square: false, total: true });
  }
  return outputs.returned({ ...(dx && { dx }), ...(dWeight && { dWeight }) });
}
