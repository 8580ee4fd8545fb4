import { invalidArgument } from "../../core/errors.js";
import { type Fields, floatDType, object, optional, type Reader } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, output } from "../check.js";
import { copyAll } from "../copy_all.js";

/** Options of {@link cast}; at least one of the two. */
export interface CastOptions<D extends FloatDType = FloatDType> {
  /** Default the dtype of `out`. */
  dtype?: D | undefined;
  /** Where to write; default a new tensor. */
  out?: Tensor<D> | undefined;
}

const castFields = { dtype: optional(floatDType), out: optional(tensor()) } satisfies Fields<CastOptions>;
const castOptions = object(castFields, '{ dtype: "bf16" }') as Reader<CastOptions>;

/**
 * The same numbers in another dtype, rounded to nearest, ties to even; values beyond the range of f16 become infinite.
 * With x's own dtype, a copy. NaN stays NaN, but not its bits.
 *
 * @param x of any shape, f32, f16 or bf16.
 * @returns the shape of x.
 * @throws INVALID_ARGUMENT (neither a dtype nor `out`, or an `out` that overlaps x), SHAPE_MISMATCH, UNSUPPORTED_DTYPE,
 * DEVICE_MISMATCH, DISPOSED, OUT_OF_MEMORY.
 */
export function cast<D extends FloatDType>(x: Tensor<FloatDType>, options: CastOptions<D>): Tensor<D> {
  checkTensor("x", x, "float", "any");
  const { out, dtype = out?.dtype } = castOptions(options, "options");
  if (dtype === undefined) throw invalidArgument("options.dtype", 'a dtype such as "bf16", or `out`', dtype);
  const target = output("out", out, x.device, x.shape, dtype, [x]);
  copyAll(x, target);
  return target as Tensor<D>;
}
