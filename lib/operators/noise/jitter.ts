import { type Fields, number, object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, output } from "../check.js";
import { type Seed, seed } from "./random.js";

/** Options of {@link jitter}. */
export interface JitterOptions<D extends FloatDType = FloatDType> {
  /** Largest relative change, from 0 to less than 1. */
  epsilon: number;
  /** The same seed gives the same factors, on every device. */
  seed: Seed;
  /** Where to write; default a new tensor. */
  out?: Tensor<D> | undefined;
}

export const jitterEpsilon = number((value) => value >= 0 && value < 1, "a number from 0 to less than 1");

const jitterOptions = object(
  { epsilon: jitterEpsilon, seed, out: optional(tensor()) } satisfies Fields<JitterOptions>,
  "{ epsilon: 0.01, seed: 1 }",
);

/**
 * Multiplies every element by a random factor: y = x · (1 + ε(2u - 1)), where u is uniform in (0, 1): for element i,
 * number i of the seed's sequence as {@link random} draws it. In training, jitter on a router's input makes tokens
 * explore experts (Switch Transformer, arXiv 2101.03961; Mixtral's router_jitter_noise). Computed in float32 and
 * rounded once. The gradient is dx = jitter(dy) with the same options, as the factors are constants.
 *
 * @param x [T, H] f32, f16 or bf16.
 * @returns y [T, H] of x's dtype.
 * @throws INVALID_ARGUMENT (epsilon, seed, overlapping `out`), SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH,
 * DISPOSED.
 */
export function jitter<D extends FloatDType>(x: Tensor<D>, options: JitterOptions<NoInfer<D>>): Tensor<D> {
  checkTensor("x", x, "float", ["T", "H"]);
  const { epsilon, seed, out } = jitterOptions(options, "options");
  const y = output("out", out, x.device, x.shape, x.dtype, [x]);
  x.device.backend.jitter({ x: x.handle, seed, epsilon, y: y.handle });
  return y;
}
