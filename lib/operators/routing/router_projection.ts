import { invalidArgument } from "../../core/errors.js";
import { object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkPair, checkTensor, output, resultDType } from "../check.js";

const projectionOptions = object({ bias: optional(tensor<FloatDType>()), out: optional(tensor<"f32">()) }, "{ bias }");

/**
 * Router logits x · weightᵀ + bias, with products and sums in float32.
 *
 * @param x [T, H] f32, f16 or bf16.
 * @param weight [E, H] f32, f16 or bf16.
 * @param options.bias [E] f32, f16 or bf16.
 * @param options.out where to write, [T, E] f32; default a new tensor.
 * @returns logits [T, E] f32 (f64 if x is f64).
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (overlapping `out`).
 */
export function routerProjection(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType>,
  options: { bias?: Tensor<FloatDType> | undefined; out?: Tensor<"f32"> | undefined } = {},
): Tensor<"f32"> {
  checkTensor("x", x, "float", ["T", "H"]);
  const { device } = x;
  const [tokens, hidden] = x.shape as [number, number];
  checkTensor("weight", weight, "float", ["E", hidden], device);
  checkPair(x, weight);
  const experts = weight.shape[0] as number;
  if (tokens >= 2 ** 31) throw invalidArgument("x", "fewer than 2^31 tokens", tokens);
  const { bias, out } = projectionOptions(options, "options");
  checkOptional("bias", bias, "float", [experts], device);
  const dtype = resultDType(x);
  const logits = output("out", out, device, [tokens, experts], dtype, [x, weight, bias]);
  device.backend.routerProjection({ x: x.handle, weight: weight.handle, bias: bias?.handle, logits: logits.handle });
  return logits;
}
