import type { DType } from "../../core/tensors/dtype.js";
import type { SafetensorsDType } from "./dtype.js";

/** How tensors of a dtype are stored in a file. */
export const storedDTypes: Readonly<Record<DType, SafetensorsDType>> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  f64: "F64",
  i32: "I32",
  u8: "U8",
};
