import { type DType, dtypes } from "./dtype.js";
import { describe, invalidArgument, MoeError } from "./errors.js";
import { type ForeignArray, isArray, plainArray } from "./foreign.js";
import { maximumRank, readShape, type Shape, shapeSize, shapeText } from "./shape.js";

/** Numbers nested as deep as the tensor has dimensions; a plain number for a scalar. */
export type NestedArray = number | NestedArray[];

/** What a tensor can be made from. A Uint16Array holds the bits of f16 or bf16 values. */
export type TensorSource = Float32Array | Float64Array | Uint16Array | Int32Array | Uint8Array | NestedArray;

/** A source ready for upload: dtype, shape, and an array of raw bits or, if `converts`, of float32 values. */
export interface Upload {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly array: ArrayBufferView;
  readonly converts: boolean;
}

/** Checks `source` and converts it to `dtype` (default: i32 or u8 for arrays of these, else f32). */
export function upload(source: unknown, shape?: Shape, dtype?: DType): Upload {
  const given = shape === undefined ? undefined : readShape("shape", shape);
  const { flat, inferred } = ArrayBuffer.isView(source) ? checkArray(source) : flatten(source);
  const target = dtype ?? defaultDType(flat);
  const wanted = given ?? inferred;
  if (shapeSize(wanted) !== flat.length) {
    throw new MoeError(
      "SHAPE_MISMATCH",
      `data: expected ${shapeSize(wanted)} values for shape ${shapeText(wanted)}, got ${flat.length}`,
    );
  }
  return { dtype: target, shape: wanted, ...encode(flat, target) };
}

/** All values of a source in order, and the shape that they come in. */
interface Values {
  readonly flat: ForeignArray;
  readonly inferred: Shape;
}

function checkArray(view: ArrayBufferView): Values {
  const flat = plainArray(view);
  switch (flat) {
    case "kind":
      throw invalidArgument("data", "Float32Array, Float64Array, Uint16Array, Int32Array or Uint8Array", view);
    case "resizable":
      throw invalidArgument(
        "data",
        "an array over a buffer of fixed length; pass a copy (array.slice())",
        "a resizable buffer",
      );
    case "transferred":
      throw new MoeError(
        "INVALID_ARGUMENT",
        "data: expected an array with its buffer, got one whose buffer was transferred; transfer a copy instead",
      );
    default:
      return { flat, inferred: [flat.length] };
  }
}

/** The sizes that the first entries of nested arrays have, and what is within. */
function outline(source: unknown): { sizes: number[]; innermost: unknown } {
  const sizes: number[] = [];
  let innermost = source;
  for (; isArray(innermost); innermost = innermost[0]) {
    // Arrays can hold themselves.
    if (sizes.length === maximumRank) throw invalidArgument("data", `at most ${maximumRank} levels of arrays`, "more");
    sizes.push(innermost.length);
  }
  return { sizes, innermost };
}

function flatten(source: unknown): Values {
  const { sizes, innermost } = outline(source);
  const shape = readShape("data", sizes);
  const size = shapeSize(shape);
  if (size > 0) checkNumber(innermost);
  const flat = allocate(size);
  let count = 0;
  const visit = (value: unknown, level: number): void => {
    const length = shape[level];
    if (length === undefined) {
      flat[count++] = checkNumber(value);
      return;
    }
    if (!isArray(value) || value.length !== length) {
      throw invalidArgument("data", `arrays nested evenly as ${shapeText(shape)}`, value);
    }
    for (let index = 0; index < length; index++) visit(value[index], level + 1);
  };
  visit(source, 0);
  return { flat, inferred: shape };
}

function checkNumber(value: unknown): number {
  if (typeof value === "number") return value;
  throw invalidArgument("data", "a typed array, a number or nested arrays of numbers", value);
}

function allocate(size: number): Float64Array {
  try {
    return new Float64Array(size);
  } catch (cause) {
    throw new MoeError("OUT_OF_MEMORY", `data: no memory for ${size} numbers; pass them in parts`, { cause });
  }
}

function defaultDType(flat: ForeignArray): DType {
  if (flat instanceof Int32Array) return "i32";
  if (flat instanceof Uint8Array) return "u8";
  if (flat instanceof Uint16Array) {
    throw invalidArgument("dtype", '"f16" or "bf16" for a Uint16Array of their bits', undefined);
  }
  return "f32";
}

function encode(flat: ForeignArray, dtype: DType): { array: ArrayBufferView; converts: boolean } {
  const { raw } = dtypes[dtype];
  if (flat instanceof Uint16Array) {
    if (raw !== Uint16Array) {
      throw new MoeError(
        "UNSUPPORTED_DTYPE",
        `dtype: expected "f16" or "bf16" for a Uint16Array, got ${describe(dtype)}`,
      );
    }
    return { array: flat, converts: false };
  }
  if (raw === Uint16Array) {
    return { array: flat instanceof Float32Array ? flat : new Float32Array(flat), converts: true };
  }
  if (flat instanceof raw) return { array: flat, converts: false };
  const array = new raw(flat);
  if (!dtypes[dtype].float) {
    let wrong = 0;
    while (wrong < flat.length && array[wrong] === flat[wrong]) wrong++;
    if (wrong < flat.length) throw invalidArgument(`data[${wrong}]`, `an integer that fits ${dtype}`, flat[wrong]);
  }
  return { array, converts: false };
}
