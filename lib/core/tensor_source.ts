import { type DType, dtypes } from "./dtype.js";
import { describe, invalidArgument, MoeError } from "./errors.js";
import { checkShape, type Shape, shapeSize, shapeText } from "./shape.js";

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
  if (shape !== undefined) checkShape("shape", shape);
  const flat = ArrayBuffer.isView(source) ? checkArray(source) : flatten(source);
  const inferred = ArrayBuffer.isView(source) ? [flat.length] : nestedShape(source);
  const target = dtype ?? defaultDType(flat);
  const wanted = shape ?? inferred;
  if (shapeSize(wanted) !== flat.length) {
    throw new MoeError(
      "SHAPE_MISMATCH",
      `data: expected ${shapeSize(wanted)} values for shape ${shapeText(wanted)}, got ${flat.length}`,
    );
  }
  return { dtype: target, shape: wanted, ...encode(flat, target) };
}

type Flat = Float32Array | Float64Array | Uint16Array | Int32Array | Uint8Array | number[];

function checkArray(view: ArrayBufferView): Flat {
  const known =
    view instanceof Float32Array ||
    view instanceof Float64Array ||
    view instanceof Uint16Array ||
    view instanceof Int32Array ||
    view instanceof Uint8Array;
  if (!known) {
    throw invalidArgument("data", "Float32Array, Float64Array, Uint16Array, Int32Array or Uint8Array", view);
  }
  const { buffer } = view;
  if ((buffer as { resizable?: boolean }).resizable || (buffer as { growable?: boolean }).growable) {
    throw invalidArgument(
      "data",
      "an array over a buffer of fixed length; pass a copy (array.slice())",
      "a resizable buffer",
    );
  }
  try {
    new Uint8Array(buffer, 0, 0);
  } catch (cause) {
    throw new MoeError(
      "INVALID_ARGUMENT",
      "data: expected an array with its buffer, got one whose buffer was transferred; transfer a copy instead",
      { cause },
    );
  }
  return view as Flat;
}

function nestedShape(source: unknown): number[] {
  const shape: number[] = [];
  for (let level = source; Array.isArray(level); level = level[0]) shape.push(level.length);
  return shape;
}

function flatten(source: unknown): number[] {
  const shape = nestedShape(source);
  checkShape("data", shape);
  const flat: number[] = [];
  const visit = (value: unknown, level: number): void => {
    if (level < shape.length) {
      if (!Array.isArray(value) || value.length !== shape[level]) {
        throw invalidArgument("data", `arrays nested evenly as ${shapeText(shape)}`, value);
      }
      for (const entry of value) visit(entry, level + 1);
    } else if (typeof value === "number") {
      flat.push(value);
    } else {
      throw invalidArgument("data", "a typed array, a number or nested arrays of numbers", value);
    }
  };
  visit(source, 0);
  return flat;
}

function defaultDType(flat: Flat): DType {
  if (flat instanceof Int32Array) return "i32";
  if (flat instanceof Uint8Array) return "u8";
  if (flat instanceof Uint16Array) {
    throw invalidArgument("dtype", '"f16" or "bf16" for a Uint16Array of their bits', undefined);
  }
  return "f32";
}

function encode(flat: Flat, dtype: DType): { array: ArrayBufferView; converts: boolean } {
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
    return { array: flat instanceof Float32Array ? flat : Float32Array.from(flat), converts: true };
  }
  if (flat instanceof raw) return { array: flat, converts: false };
  const array = raw.from(flat as ArrayLike<number>);
  if (!dtypes[dtype].float) {
    const wrong = array.findIndex((value: number, index: number) => value !== flat[index]);
    if (wrong >= 0) throw invalidArgument(`data[${wrong}]`, `an integer that fits ${dtype}`, flat[wrong]);
  }
  return { array, converts: false };
}
