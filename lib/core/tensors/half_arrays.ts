import { checkChoice } from "../errors.js";
import { typedArray } from "../input/foreign.js";
import { allocated } from "./allocated.js";
import { convertInto } from "./convert.js";
import { fromBF16, fromF16, toBF16, toF16 } from "./dtype.js";

/** Floating-point types of 16 bits. */
export type HalfDType = "f16" | "bf16";

const halfDTypes: readonly HalfDType[] = ["f16", "bf16"];

/**
 * The bits of values in f16 or bf16, rounded to nearest even, as {@link Device.tensor} and `tensor.raw()` have them.
 * @throws INVALID_ARGUMENT, OUT_OF_MEMORY.
 */
export function encodeHalves(values: Float32Array | Float64Array, dtype: HalfDType): Uint16Array {
  checkChoice("dtype", dtype, halfDTypes);
  const read = typedArray("values", values, ["Float32Array", "Float64Array"], "a Float32Array or Float64Array");
  return convertInto(
    resultsOf("encodeHalves", 2 * read.length, () => new Uint16Array(read.length)),
    read,
    dtype === "f16" ? toF16 : toBF16,
  );
}

/** The values of f16 or bf16 bits. @throws INVALID_ARGUMENT, OUT_OF_MEMORY. */
export function decodeHalves(bits: Uint16Array, dtype: HalfDType): Float32Array {
  checkChoice("dtype", dtype, halfDTypes);
  const read = typedArray("bits", bits, ["Uint16Array"], "a Uint16Array");
  return convertInto(
    resultsOf("decodeHalves", 4 * read.length, () => new Float32Array(read.length)),
    read,
    dtype === "f16" ? fromF16 : fromBF16,
  );
}

function resultsOf<T>(name: string, bytes: number, make: () => T): T {
  return allocated(bytes, `${name}: no memory for ${bytes} bytes of results; convert the array in parts`, make);
}
