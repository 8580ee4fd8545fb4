import { convertInto } from "../core/tensors/convert.js";
import { type FloatDType, fromBF16, fromF16, toBF16, toF16 } from "../core/tensors/dtype.js";

/** Largest relative error of rounding to a dtype: half the distance from 1 to the next value. */
export const unitRoundoff: Readonly<Record<FloatDType, number>> = {
  f16: 2 ** -11,
  bf16: 2 ** -8,
  f32: 2 ** -24,
  f64: 2 ** -53,
};

/** `values` as a tensor of `dtype` holds them. */
export function round(values: Float32Array, dtype: FloatDType): Float64Array {
  const rounded = new Float64Array(values.length);
  if (dtype === "f16") return convertInto(rounded, values, (value) => fromF16(toF16(value)));
  if (dtype === "bf16") return convertInto(rounded, values, (value) => fromBF16(toBF16(value)));
  return Float64Array.from(values);
}
