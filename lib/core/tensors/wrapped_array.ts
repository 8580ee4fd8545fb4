import { types } from "node:util";
import { invalidArgument, MoeError, unexpected } from "../errors.js";
import { typedArray } from "../input/foreign.js";
import { checkDType, type DType, dtypes } from "./dtype.js";
import { readShape, type Shape, shapeSize, shapeText } from "./shape.js";

/** An array whose memory a tensor can use. */
export interface WrappedArray {
  readonly bytes: Uint8Array;
  readonly dtype: DType;
  readonly shape: Shape;
}

const kinds = ["Float32Array", "Int32Array", "Uint8Array", "Uint16Array", "Float64Array"] as const;
const defaults = new Map<string, DType>([
  ["Float32Array", "f32"],
  ["Int32Array", "i32"],
  ["Uint8Array", "u8"],
  ["Float64Array", "f64"],
]);

/** Checks what a tensor is to be made over. */
export function wrappedArray(source: unknown, shape: Shape | undefined, given: DType | undefined): WrappedArray {
  const array = typedArray("source", source, kinds, `a ${kinds.join(", ")}`);
  if (!types.isSharedArrayBuffer(array.buffer)) {
    const expected = "an array over a SharedArrayBuffer (other buffers can be moved; device.tensor() copies them)";
    throw unexpected("source", expected, "one over an ArrayBuffer");
  }
  const kind = kinds.find((name) => array instanceof globalThis[name]) as string;
  const dtype = given ?? defaults.get(kind);
  if (dtype === undefined) throw invalidArgument("dtype", '"f16" or "bf16" for a Uint16Array', given);
  checkDType(dtype);
  const { name } = dtypes[dtype].raw;
  if (name !== kind) {
    throw new MoeError(
      "UNSUPPORTED_DTYPE",
      `dtype: expected that of a ${kind}, got ${dtype}, whose arrays are ${name}`,
    );
  }
  const sizes = shape === undefined ? [array.length] : readShape("shape", shape);
  if (shapeSize(sizes) !== array.length) {
    const values = `${shapeSize(sizes)} values for shape ${shapeText(sizes)}`;
    throw new MoeError("SHAPE_MISMATCH", `source: expected ${values}, got ${array.length}`);
  }
  return { bytes: new Uint8Array(array.buffer, array.byteOffset, array.byteLength), dtype, shape: sizes };
}
