import { type Fields, finite, number, object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkPair, checkTensor, output } from "../check.js";

/** The numbers of an RMSNorm. */
export interface RmsNormNumbers {
  /** Added to the mean of the squares, 1e-30 to 1; default 1e-6. */
  epsilon?: number | undefined;
  /** Added to the weight: 1 for models that store it less one, such as Gemma; default 0. */
  offset?: number | undefined;
}

export const rmsNormFields = {
  epsilon: optional(
    number((value) => value >= 1e-30 && value <= 1, "a number from 1e-30 to 1"),
    1e-6,
  ),
  offset: optional(finite, 0),
} satisfies Fields<RmsNormNumbers>;

/** Options of {@link rmsNorm}. */
export interface RmsNormOptions extends RmsNormNumbers {
  /** Where to write, [T, H] of any float dtype; default a new tensor of x's dtype. */
  out?: Tensor<FloatDType> | undefined;
}

const rmsNormOptions = object(
  { ...rmsNormFields, out: optional(tensor<FloatDType>()) } satisfies Fields<RmsNormOptions>,
  "{ epsilon: 1e-5 }",
);

/** Checks x [T, H] and the weight [H] of a norm. */
export function checkNormed(x: Tensor<FloatDType>, weight: Tensor<FloatDType>): void {
  checkTensor("x", x, "float", ["T", "H"]);
  checkTensor("weight", weight, "float", [x.shape[1] as number], x.device);
  checkPair(x, weight);
}

/**
 * RMSNorm: y[t] = x[t] / √(mean(x[t]²) + epsilon) · (weight + offset), in float32 and rounded once.
 *
 * Implementations that round x / √(...) to 16 bits before they multiply by the weight differ by that rounding. The order
 * of the sum depends on H alone, so a token's bits do not depend on the others. Squares are summed in float32 (on
 * `reference` in float64): a row whose sum is beyond float32, such as that of a value of 2e19, becomes zeros.
 *
 * @param x [T, H] f32, f16 or bf16.
 * @param weight [H] f32, f16 or bf16.
 * @returns y [T, H], in the dtype of `out` if given, else of x.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (a number out of its range,
 * overlapping `out`).
 */
export function rmsNorm<O extends FloatDType>(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType>,
  options: RmsNormOptions & { out: Tensor<O> },
): Tensor<O>;
export function rmsNorm<D extends FloatDType, O extends FloatDType = D>(
  x: Tensor<D>,
  weight: Tensor<FloatDType>,
  options?: RmsNormOptions & { out?: Tensor<O> | undefined },
): Tensor<D | O>;
export function rmsNorm(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType>,
  options: RmsNormOptions = {},
): Tensor<FloatDType> {
  checkNormed(x, weight);
  const { device } = x;
  const { epsilon, offset, out } = rmsNormOptions(options, "options");
  const y = output("out", out, device, x.shape, out?.dtype ?? x.dtype, [x, weight]);
  checkTensor("out", y, "float", x.shape, device);
  device.backend.rmsNorm({ x: x.handle, weight: weight.handle, y: y.handle, epsilon, offset });
  return y;
}
