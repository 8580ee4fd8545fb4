import type { Device } from "../../core/device/device.js";
import { invalidArgument, unexpected } from "../../core/errors.js";
import { type Fields, object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkTensor } from "../check.js";
import { type ActivationOptions, activationFields } from "./activation_options.js";
import { groupedGemm } from "./grouped_gemm.js";
import { PackedExperts, pack, readStack } from "./packed_experts.js";
import { isQuantized, type QuantizedWeight } from "./quantized_weight.js";

/** Options of {@link linear}. */
export interface LinearOptions extends ActivationOptions {
  /** [N] f32, f16 or bf16, added before the activation. */
  bias?: Tensor<FloatDType> | undefined;
  /** Where to write, [T, N] ([T, N/2] if gated) of any float dtype; default a new tensor of x's dtype. */
  out?: Tensor<FloatDType> | undefined;
}

const linearOptions = object(
  {
    ...activationFields,
    bias: optional(tensor<FloatDType>()),
    out: optional(tensor<FloatDType>()),
  } satisfies Fields<LinearOptions>,
  "{ bias }",
);

/**
 * A dense layer: y = activation(x · weightᵀ + bias). It is {@link groupedGemm} with one expert that all rows go to.
 *
 * @param x [T, K] f32, f16 or bf16.
 * @param weight [N, K] f32, f16 or bf16, or quantised, packed on every call; or packed once, `packExperts(weight)`, with its
 * activation.
 * @returns y [T, N], or [T, N/2] if gated, in the dtype of `out` if given, else of x.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (2^31 rows or more, weights of
 * several experts, overlapping `out`).
 */
export function linear<O extends FloatDType>(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType> | QuantizedWeight | PackedExperts,
  options: LinearOptions & { out: Tensor<O> },
): Tensor<O>;
export function linear<D extends FloatDType, O extends FloatDType = D>(
  x: Tensor<D>,
  weight: Tensor<FloatDType> | QuantizedWeight | PackedExperts,
  options?: LinearOptions & { out?: Tensor<O> | undefined },
): Tensor<D | O>;
export function linear(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType> | QuantizedWeight | PackedExperts,
  options: LinearOptions = {},
): Tensor<FloatDType> {
  checkTensor("x", x, "float", ["T", "K"]);
  const { bias, activation, clamp, out } = linearOptions(options, "options");
  const activates = { ...(activation !== undefined && { activation }), ...(clamp && { clamp }) };
  using packed = isQuantized(weight) ? pack(readStack(weight, false, x.shape[1]), activates) : undefined;
  return withOneExpert(packed ?? (weight as Exclude<typeof weight, QuantizedWeight>), x, (matrix, offsets) => {
    checkOptional("bias", bias, "float", [matrix.shape[1] as number], x.device);
    using biases = bias?.reshape([1, bias.size]);
    return groupedGemm(x, matrix, offsets, { ...activates, ...(biases && { bias: biases }), ...(out && { out }) });
  });
}

/** Calls `use` with a weight [N, K] as that of one expert, and with the offsets by which it has all rows of x. */
export function withOneExpert<T>(
  weight: Tensor<FloatDType> | PackedExperts,
  x: Tensor,
  use: (weight: Tensor<FloatDType> | PackedExperts, offsets: Tensor<"i32">) => T,
): T {
  const { device } = x;
  const rows = x.shape[0] as number;
  if (rows >= 2 ** 31) throw invalidArgument("x", "fewer than 2^31 rows", rows);
  if (weight instanceof PackedExperts) {
    const [experts] = weight.shape;
    if (experts !== 1) {
      const expected = "a matrix or the packed weight of one expert (groupedGemm takes several)";
      throw unexpected("weight", expected, `${experts} experts`);
    }
    using offsets = allRows(device, rows);
    return use(weight, offsets);
  }
  checkTensor("weight", weight, "float", ["N", x.shape[1] as number], device);
  using matrix = weight.reshape([1, ...weight.shape]);
  using offsets = allRows(device, rows);
  return use(matrix, offsets);
}

function allRows(device: Device, rows: number): Tensor<"i32"> {
  return device.tensor(Int32Array.of(0, rows));
}
