import { fromBF16, fromF16 } from "../../core/dtype.js";
import { MoeError } from "../../core/errors.js";
import { shapeSize, shapeText } from "../../core/shape.js";
import { arraysIn } from "./arrays.js";
import type { OutputArray, SubjectInputs } from "./subject.js";

/**
 * The values of one output that a subject returned.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH if it returned something else.
 */
export function returnedValues(outputs: unknown, output: string, { shape, dtype }: OutputArray): ArrayLike<number> {
  const returned = (outputs as Record<string, unknown> | null | undefined)?.[output];
  if (!isArray(returned)) {
    throw new MoeError(
      "INVALID_ARGUMENT",
      `${output}: expected an array of ${shapeText(shape)} values, got ${describe(returned)}`,
    );
  }
  if (returned.length !== shapeSize(shape)) {
    const sizes = `expected ${shapeSize(shape)} values of shape ${shapeText(shape)}, got ${returned.length}`;
    throw new MoeError("SHAPE_MISMATCH", `${output}: ${sizes}`);
  }
  return toFloat64(returned, dtype);
}

/** Copies of the bytes of all input tensors. */
export function inputBytes(inputs: SubjectInputs): Record<string, Buffer> {
  return Object.fromEntries(
    arraysIn(inputs).map(([path, { data }]) => [
      path,
      Buffer.from(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)),
    ]),
  );
}

/** The inputs whose bytes are not what {@link inputBytes} copied. */
export function changedInputs(before: Readonly<Record<string, Buffer>>, inputs: SubjectInputs): string[] {
  const after = inputBytes(inputs);
  return Object.keys(before).filter((field) => Buffer.compare(before[field] as Buffer, after[field] as Buffer) !== 0);
}

function isArray(value: unknown): value is ArrayLike<number> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

function describe(value: unknown): string {
  return value === undefined ? "undefined" : value === null ? "null" : `${typeof value}`;
}

function toFloat64(values: ArrayLike<number>, dtype: string): ArrayLike<number> {
  const is16 = dtype === "f16" || dtype === "bf16";
  return is16 && values instanceof Uint16Array ? toFloat32({ data: values, dtype }) : values;
}

/** The values of a tensor as float32, of 16-bit floats too. */
export function toFloat32({ data, dtype }: { data: ArrayLike<number>; dtype: string }): Float32Array {
  if (dtype === "f16") return Float32Array.from(data, fromF16);
  if (dtype === "bf16") return Float32Array.from(data, fromBF16);
  return Float32Array.from(data);
}
