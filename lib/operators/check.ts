import type { Device } from "../core/device/device.js";
import { checkInteger, invalidArgument, MoeError, requires, unexpected } from "../core/errors.js";
import { integer, optional } from "../core/input/options.js";
import type { DType } from "../core/tensors/dtype.js";
import { checkSizes, type Shape } from "../core/tensors/shape.js";
import { Tensor } from "../core/tensors/tensor.js";
import type { TensorHandle } from "../core/tensors/tensor_handle.js";
import { notTensor, tensor } from "../core/tensors/tensor_option.js";
import { markWritten } from "../core/tensors/unwritten.js";

/** Option of operators that sum over tokens. */
export interface TokenMaskOption {
  /**
   * [T] u8, 0 for tokens that do not count, such as the padding of shorter sequences. The result is as if these tokens
   * did not exist, even if their rows hold NaN. Default: all tokens count.
   */
  tokenMask?: Tensor<"u8"> | undefined;
}

/** E; limited because ids and offsets are 32-bit integers. */
export const expertCount = integer(1, 2 ** 31 - 2);

/** Refuses a tensor of more experts than that. */
export function checkExpertCount(parameter: string, experts: number): void {
  if (experts >= 2 ** 31 - 1) throw invalidArgument(parameter, "fewer than 2^31 - 1 experts", experts);
}

export const tokenMaskField = { tokenMask: optional(tensor<"u8">()) };

/** Which dtypes an argument may have: any float, f32 (or f64, only on `reference`), or exactly the listed ones. */
export type Allowed = keyof typeof namedDTypes | readonly DType[];
const namedDTypes: Readonly<Record<"float" | "float32", { expected: string; list: readonly DType[] }>> = {
  float: { expected: "f32, f16 or bf16", list: ["f32", "f16", "bf16", "f64"] },
  float32: { expected: "f32", list: ["f32", "f64"] },
};

/** Which shapes an argument may have, see checkSizes; or any. */
type Shapes = readonly (number | string)[] | "any";

/**
 * Checks that `value` is a live tensor of an allowed dtype, that its shape fits `shapes` and that it is on `device`, if
 * given. Returns the tensor.
 * @param remedy what to add to the error of another shape.
 */
export function checkTensor(
  parameter: string,
  value: unknown,
  allowed: Allowed,
  shapes: Shapes,
  device?: Device,
  remedy?: (shape: Shape) => string,
): Tensor {
  if (!(value instanceof Tensor)) throw notTensor(parameter, value);
  void value.handle;
  const named = typeof allowed === "string" ? namedDTypes[allowed] : undefined;
  const list = named?.list ?? (allowed as readonly DType[]);
  if (!list.includes(value.dtype)) {
    const expected = named?.expected ?? list.join(" or ");
    throw new MoeError("UNSUPPORTED_DTYPE", `${parameter}: expected dtype ${expected}, got ${value.dtype}`);
  }
  if (shapes !== "any") checkSizes(parameter, value.shape, shapes, remedy);
  if (device !== undefined && value.device !== device) {
    throw new MoeError(
      "DEVICE_MISMATCH",
      `${parameter}: expected a tensor on the same ${device.name} device as the other arguments, ` +
        `got one on another device (${value.device.name})`,
    );
  }
  return value;
}

/** Checks an optional argument: undefined passes. */
export function checkOptional(
  parameter: string,
  value: unknown,
  allowed: Allowed,
  shapes: Shapes,
  device: Device,
): Tensor | undefined {
  return value === undefined ? undefined : checkTensor(parameter, value, allowed, shapes, device);
}

/** Checks that `x` and another operand can be multiplied: f64 can only be combined with f64. */
export function checkPair(x: Tensor, weight: { dtype: DType }, parameter = "weight"): void {
  if ((x.dtype === "f64") !== (weight.dtype === "f64")) {
    throw new MoeError(
      "UNSUPPORTED_DTYPE",
      `${parameter}: expected dtype ${x.dtype === "f64" ? "f64" : "f32, f16 or bf16"} for x of ${x.dtype}, got ${weight.dtype}`,
    );
  }
}

/** Checks that `rows` tokens can be split into `sequences` sequences of equal length. */
export function checkSequences(sequences: unknown, rows: number, parameter = "sequences"): asserts sequences is number {
  checkInteger(parameter, sequences, 1);
  if (rows % sequences !== 0) throw invalidArgument(parameter, `a divisor of ${rows} tokens`, sequences);
}

/** Checks an optional mask [T] of the tokens that count, and returns its handle or null. */
export function checkTokenMask(
  mask: Tensor<"u8"> | undefined,
  tokens: number,
  device: Device,
  parameter = "tokenMask",
): TensorHandle | null {
  return checkOptional(parameter, mask, ["u8"], [tokens], device)?.handle ?? null;
}

/** Checks ids [T, k] of experts. */
export function checkIds(parameter: string, ids: unknown): void {
  const { size } = checkTensor(parameter, ids, ["i32"], ["T", "k"]);
  if (size >= 2 ** 31) throw invalidArgument(parameter, "fewer than 2^31 (token, slot) pairs", size);
}

/** The dtype of results that are f32 for this input: f64 if the input is f64, which exists only on `reference`. */
export function resultDType(input: { readonly dtype: string }): "f32" {
  return input.dtype === "f64" ? ("f64" as "f32") : "f32";
}

/** The dtypes of an argument that is float32 beside another: f64 also passes beside f64. */
export function float32Beside({ dtype }: { readonly dtype: DType }): Allowed {
  return dtype === "f64" ? "float32" : ["f32"];
}

/** Throws INVALID_ARGUMENT if `tensor` overlaps one of `others`. */
export function checkApart(parameter: string, tensor: Tensor, ...others: readonly (Tensor | undefined)[]): void {
  for (const other of others) {
    if (!other?.overlaps(tensor)) continue;
    throw unexpected(parameter, "memory of its own", "a tensor that overlaps an input or another output");
  }
}

/** Checks that `out`, if given, has the result `name` if that is computed. Otherwise it must not: it needs `other`. */
export function checkResult<Name extends string>(
  out: { readonly [name in Name]?: Tensor | undefined } | undefined,
  name: Name,
  computed: boolean,
  other: string,
): void {
  if (out === undefined || computed === (out[name] !== undefined)) return;
  throw computed ? invalidArgument(`out.${name}`, "a Tensor", undefined) : requires(`out.${name}`, other);
}

/** The output tensor: `out` if given, after checking that it fits and overlaps no input; else a new one. */
export function output<D extends DType>(
  parameter: string,
  out: Tensor | undefined,
  device: Device,
  shape: Shape,
  dtype: D,
  inputs: readonly (Tensor | undefined)[],
): Tensor<D> {
  if (out === undefined) return device.allocate(shape, dtype);
  checkTensor(parameter, out, [dtype], shape, device);
  checkApart(parameter, out, ...inputs);
  markWritten(out);
  return out as Tensor<D>;
}
