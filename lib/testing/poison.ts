import { checkDType, type DType, dtypes, type RawArrayOf } from "../core/tensors/dtype.js";

/**
 * An array whose bytes are all 255: NaN in every float dtype, -1 in i32. What a kernel reads before it was written, or leaves
 * unwritten, then shows in its results.
 */
export function poisoned<D extends DType>(dtype: D, length: number): RawArrayOf<D> {
  checkDType(dtype);
  const { raw, bytes } = dtypes[dtype];
  return new raw(new Uint8Array(length * bytes).fill(255).buffer) as RawArrayOf<D>;
}
