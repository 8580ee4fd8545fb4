import { inspect, isDeepStrictEqual } from "node:util";
import { invalidArgument, MoeError, unexpected } from "../../core/errors.js";
import { type Fields, object, optional, type Read } from "../../core/input/options.js";
import { isGated } from "../../core/layer/activation.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkPair, checkTensor, output } from "../check.js";
import { clampOf } from "./activation_options.js";
import {
  type ExpertStack,
  floatStack,
  PackedExperts,
  type PackOptions,
  pack,
  packFields,
  readStack,
} from "./packed_experts.js";
import { isQuantized, type QuantizedWeight } from "./quantized_weight.js";

/** Options of {@link groupedGemm}. */
export interface GroupedGemmOptions extends PackOptions {
  /** [R] i32: row r multiplies x[tokenOfRow[r]] instead of x[r]. If that is -1, y[r] is zeros, whatever the bias. */
  tokenOfRow?: Tensor<"i32"> | undefined;
  /** [E, N] f32, f16 or bf16, added before the activation. */
  bias?: Tensor<FloatDType> | undefined;
  /** Where to write, [R, N] ([R, N/2] if gated) of any float dtype; default a new tensor of x's dtype. */
  out?: Tensor<FloatDType> | undefined;
}

const groupedGemmFields = {
  ...packFields,
  tokenOfRow: optional(tensor<"i32">()),
  bias: optional(tensor<FloatDType>()),
  out: optional(tensor<FloatDType>()),
} satisfies Fields<GroupedGemmOptions>;
const groupedGemmOptions = object(groupedGemmFields, "{ tokenOfRow, bias }");

/**
 * One matrix product per expert over its rows: y[r] = activation(x[r] · weight[e]ᵀ + bias[e]) for the rows
 * offsets[e] .. offsets[e+1] of expert e. Products accumulate in float32, in an order that depends only on K. Rows from
 * offsets[E] on are zeros.
 *
 * @param x [R, K], or [T, K] with `tokenOfRow`; f32, f16 or bf16.
 * @param weight [E, N, K], float or quantised, or the same packed by {@link packExperts}. Weights that are not packed are
 * packed on every call (on `cpu`, floats for few rows as they are multiplied), so pack those that are used more than once.
 * @param offsets [E+1] i32, not descending, offsets[E] <= R; otherwise ID_OUT_OF_RANGE at the next wait.
 * @returns y [R, N], or [R, N/2] if gated, in the dtype of `out` if given, else of x.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT.
 */
export function groupedGemm<O extends FloatDType>(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType> | QuantizedWeight | PackedExperts,
  offsets: Tensor<"i32">,
  options: GroupedGemmOptions & { out: Tensor<O> },
): Tensor<O>;
export function groupedGemm<D extends FloatDType, O extends FloatDType = D>(
  x: Tensor<D>,
  weight: Tensor<FloatDType> | QuantizedWeight | PackedExperts,
  offsets: Tensor<"i32">,
  options?: GroupedGemmOptions & { out?: Tensor<O> | undefined },
): Tensor<D | O>;
export function groupedGemm(
  x: Tensor<FloatDType>,
  weight: Tensor<FloatDType> | QuantizedWeight | PackedExperts,
  offsets: Tensor<"i32">,
  options: GroupedGemmOptions = {},
): Tensor<FloatDType> {
  checkTensor("x", x, "float", ["R", "K"]);
  const read = groupedGemmOptions(options, "options");
  if (weight instanceof PackedExperts) return multiply(x, weight, offsets, read);
  const stack = weightOf(weight, x, read.transpose);
  using packed = pack(stack, read, (read.tokenOfRow ?? x).shape[0]);
  return multiply(x, packed, offsets, read, stack.tensors);
}

/** The weight of {@link groupedGemm} if it is not packed. */
function weightOf(
  weight: Tensor<FloatDType> | QuantizedWeight,
  x: Tensor<FloatDType>,
  transpose: boolean | undefined,
): ExpertStack {
  if (weight instanceof Tensor) {
    const columns = x.shape[1] as number;
    checkTensor("weight", weight, "float", transpose ? ["E", columns, "K"] : ["E", "N", columns], x.device);
    checkPair(x, weight);
    return floatStack(weight, transpose);
  }
  if (!isQuantized(weight))
    throw invalidArgument("weight", "a Tensor or packed experts, or a quantised weight", weight);
  return readStack(weight, transpose, x.shape[1]);
}

/**
 * {@link groupedGemm} with packed weights and options that have been read.
 * @param unpacked what the weights were packed from for this call.
 */
function multiply(
  x: Tensor<FloatDType>,
  weight: PackedExperts,
  offsets: Tensor<"i32">,
  options: Read<typeof groupedGemmOptions>,
  unpacked: readonly Tensor[] = [],
): Tensor<FloatDType> {
  const { device } = x;
  if (weight.device !== device) {
    throw new MoeError("DEVICE_MISMATCH", "weight: expected packed experts on x's device, got another device's");
  }
  checkPair(x, weight);
  const [experts, rows, columns] = weight.shape as [number, number, number];
  if (x.shape[1] !== columns) {
    throw new MoeError(
      "SHAPE_MISMATCH",
      `x: expected shape [R, ${columns}] for these weights, got [${x.shape.join(", ")}]`,
    );
  }
  const { activation, clamp, tokenFormat } = weight;
  if (options.activation !== undefined && options.activation !== activation) {
    throw invalidArgument("activation", `"${activation}", which the weights were packed for`, options.activation);
  }
  const given = options.clamp && clampOf(activation, options.clamp);
  if (given && !isDeepStrictEqual(given, clamp)) {
    throw unexpected("clamp", `${inspect(clamp)}, which the weights were packed for`, inspect(given));
  }
  if (options.tokenFormat !== undefined && options.tokenFormat !== tokenFormat) {
    throw invalidArgument("tokenFormat", `"${tokenFormat}", which the weights were packed for`, options.tokenFormat);
  }
  if (options.transpose !== undefined && options.transpose !== weight.transposed) {
    throw invalidArgument("transpose", `${weight.transposed}, as the weights were packed`, options.transpose);
  }
  checkTensor("offsets", offsets, ["i32"], [experts + 1], device);
  const tokenOfRow = checkOptional("tokenOfRow", options.tokenOfRow, ["i32"], ["R"], device);
  const bias = checkOptional("bias", options.bias, "float", [experts, rows], device);
  const shape = [(tokenOfRow ?? x).shape[0] as number, isGated(activation) ? rows / 2 : rows];
  const dtype = options.out?.dtype ?? x.dtype;
  const inputs = [x, offsets, tokenOfRow, bias, ...unpacked];
  const y = output("out", options.out, device, shape, dtype, inputs);
  checkTensor("out", y, "float", shape, device);
  device.backend.groupedGemm({
    x: x.handle,
    weight: weight.handle,
    bias: bias?.handle,
    offsets: offsets.handle,
    tokenOfRow: tokenOfRow?.handle,
    y: y.handle,
  });
  return y;
}
