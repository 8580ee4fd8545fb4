import { type Shape, sameShape, shapeText } from "../../core/tensors/shape.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { tensorPlace } from "../safetensors/header.js";
import type { LocatedWeight, TensorRange } from "./located_weight.js";

/** A tensor of integers in a file. */
export interface IntegerTensor extends Pick<TensorRange, "file" | "name" | "byteLength"> {
  /** As the file names it: I32, or I64. */
  readonly dtype: string;
  readonly shape: Shape;
}

/**
 * A weight of integers from 0 to `limit` - 1, which the device gets as i32.
 * @param origin what the expected shape is from, for errors.
 * @throws BAD_CHECKPOINT for another dtype or shape, and when it is read for an integer out of range.
 */
export function locateIntegers(
  { file, name, byteLength, dtype, shape: stored }: IntegerTensor,
  shape: Shape,
  limit: number,
  origin: string,
): LocatedWeight {
  const place = tensorPlace(file.path, name);
  if (dtype !== "I32" && dtype !== "I64") throw badCheckpoint(place, `expected dtype I32 or I64, got ${dtype}`);
  if (!sameShape(stored, shape)) {
    throw badCheckpoint(place, `expected shape ${shapeText(shape)} from ${origin}, got ${shapeText(stored)}`);
  }
  const convert = ([bytes]: readonly Uint8Array[]) => ({ codes: checked(bytes as Uint8Array, dtype, limit, place) });
  return { name, format: "i32", shape, layout: {}, ranges: [{ file, name, byteOffset: 0, byteLength }], convert };
}

function checked(bytes: Uint8Array, dtype: "I32" | "I64", limit: number, place: string): Uint8Array {
  const given =
    dtype === "I32"
      ? new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
      : new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
  const integers = new Int32Array(given.length);
  for (const [index, value] of given.entries()) {
    if (value < 0 || value >= limit) {
      throw badCheckpoint(place, `expected integers from 0 to ${limit - 1}, got ${value} at ${index}`);
    }
    integers[index] = Number(value);
  }
  return new Uint8Array(integers.buffer);
}
