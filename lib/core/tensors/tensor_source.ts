import { describe, invalidArgument, MoeError, unexpected } from "../errors.js";
import { type ArrayOfKind, attempt, isArray, typedArray } from "../input/foreign.js";
import { allocated } from "./allocated.js";
import { type DType, dtypes } from "./dtype.js";
import { checkNests, type NestedSource } from "./nested.js";
import { maximumRank, readShape, type Shape, shapeSize, shapeText } from "./shape.js";

/** What a tensor can be made from. A Uint16Array holds the bits of f16 or bf16 values. */
export type TensorSource = Float32Array | Float64Array | Uint16Array | Int32Array | Uint8Array | NestedSource;

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
  const { flat, inferred } = ArrayBuffer.isView(source) ? valuesOf(source) : attempt("data", () => flatten(source));
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

/** Arrays of which tensors can be made. */
const kinds = ["Float32Array", "Float64Array", "Uint16Array", "Int32Array", "Uint8Array"] as const;
type FlatArray = ArrayOfKind<(typeof kinds)[number]>;

/** All values of a source in order, and the shape that they come in. */
interface Values {
  readonly flat: FlatArray;
  readonly inferred: Shape;
}

function valuesOf(view: ArrayBufferView): Values {
  const flat = typedArray("data", view, kinds, "Float32Array, Float64Array, Uint16Array, Int32Array or Uint8Array");
  return { flat, inferred: [flat.length] };
}

/** The sizes that the first entries of nested arrays have, and what is within. */
function outline(source: unknown): { sizes: number[]; innermost: unknown } {
  const sizes: number[] = [];
  let innermost = source;
  for (; isArray(innermost); innermost = innermost[0]) {
    // Arrays can hold themselves.
    if (sizes.length === maximumRank) throw unexpected("data", `at most ${maximumRank} levels of arrays`, "more");
    sizes.push(innermost.length);
  }
  return { sizes, innermost };
}

function flatten(source: unknown): Values {
  const { sizes, innermost } = outline(source);
  const shape = readShape("data", sizes);
  const size = shapeSize(shape);
  if (size > 0) checkNumber(innermost);
  checkNests("data", shape, "pass a typed array");
  const flat = allocated(
    8 * size,
    `data: no memory for ${size} numbers; pass them in parts`,
    () => new Float64Array(size),
  );
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

function defaultDType(flat: FlatArray): DType {
  if (flat instanceof Int32Array) return "i32";
  if (flat instanceof Uint8Array) return "u8";
  if (flat instanceof Uint16Array) {
    throw invalidArgument("dtype", '"f16" or "bf16" for a Uint16Array of their bits', undefined);
  }
  return "f32";
}

function encode(flat: FlatArray, dtype: DType): { array: ArrayBufferView; converts: boolean } {
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
  const copied = (make: () => FlatArray) =>
    allocated(8 * flat.length, `data: no memory for a copy of ${flat.length} values; pass them in parts`, make);
  if (raw === Uint16Array) {
    return { array: flat instanceof Float32Array ? flat : copied(() => new Float32Array(flat)), converts: true };
  }
  if (flat instanceof raw) return { array: flat, converts: false };
  const array = copied(() => new raw(flat));
  if (!dtypes[dtype].float) {
    let wrong = 0;
    while (wrong < flat.length && array[wrong] === flat[wrong]) wrong++;
    if (wrong < flat.length) throw invalidArgument(`data[${wrong}]`, `an integer that fits ${dtype}`, flat[wrong]);
  }
  return { array, converts: false };
}
