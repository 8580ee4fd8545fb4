import { MoeError } from "../../core/errors.js";
import type { WeightFormat } from "../../core/formats/weight_format.js";
import {
  byteOfColumn,
  isPlain,
  levelRoles,
  levelsOf,
  rowBytes,
  scaleBytes,
  weightFormat,
} from "../../core/formats/weight_formats.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, shapeText } from "../../core/tensors/shape.js";
import { asBytes, floatValues } from "../schemes/bits.js";
import { type LocatedWeight, placeOf, type QuantizedBytes } from "./located_weight.js";

type Axis = "rows" | "columns";

/**
 * Two matrices as one: the rows of the second below those of the first, or its columns to the right. It has their format, or is
 * float32 if they have different ones, or groups would not be whole.
 * @throws UNSUPPORTED_OPERATION if neither is possible.
 */
export function joinedWeight(matrices: readonly LocatedWeight[], axis: Axis): LocatedWeight {
  const [first] = matrices as readonly [LocatedWeight];
  const names = matrices.map(({ name }) => name).join(" and ");
  const refuse = (expected: string, got: string) =>
    new MoeError(
      "UNSUPPORTED_OPERATION",
      `${placeOf(first)}: expected ${expected} to make one matrix of ${names}, got ${got}`,
    );
  for (const { layout, changesInputs } of matrices) {
    const { orient = "out_in", part } = layout;
    if (part !== undefined || orient !== "out_in") {
      throw refuse("tensors of single matrices with outputs first", part ?? orient);
    }
    if (changesInputs) throw refuse("weights without an input scale or order", "such a weight");
  }
  const shapes = matrices.map(({ shape }) => shape as readonly [number, number]);
  const [heights, widths] = [shapes.map(([rows]) => rows), shapes.map(([, columns]) => columns)];
  const shape = axis === "rows" ? [sum(heights), widths[0] as number] : [heights[0] as number, sum(widths)];
  const common = { name: names, shape, layout: {}, ranges: matrices.flatMap(({ ranges }) => ranges) };
  const format = weightFormat(first.format);
  if (matrices.every((one) => one.format === first.format) && isWholeGroups(format, shapes.slice(0, -1), axis)) {
    const convert = async (bytes: readonly Uint8Array[]) =>
      joinedFields(await eachOf(matrices, bytes, fieldsOf), format, shapes, axis);
    return { ...common, format: first.format, convert };
  }
  if (matrices.some((one) => one.values === undefined && !isPlain(weightFormat(one.format)))) {
    const formats = matrices.map((one) => `${one.format} of ${shapeText(one.shape)}`).join(" and ");
    throw refuse("one format with whole groups of columns", formats);
  }
  const convert = async (bytes: readonly Uint8Array[]) => {
    const parts = await eachOf(matrices, bytes, valuesOf);
    return joinedFields(
      parts.map((codes) => ({ codes: asBytes(codes) })),
      weightFormat("f32"),
      shapes,
      axis,
    );
  };
  return { ...common, format: "f32", convert };
}

/**
 * A vector of `count` elements, of which a located one has the first; the others are a number, or like its last. It is float32, as
 * devices keep such.
 */
export function extendedVector(weight: LocatedWeight, count: number, others: number | "the last"): LocatedWeight {
  const convert = async (bytes: readonly Uint8Array[]) => {
    const known = await valuesOf(weight, bytes);
    const all = new Float32Array(count).fill(others === "the last" ? (known.at(-1) as number) : others);
    all.set(known);
    return { codes: asBytes(all) };
  };
  return { ...weight, format: "f32", shape: [count], convert };
}

/** A vector that no file has. */
export function constantVector(name: string, count: number, value: number): LocatedWeight {
  const convert = () => ({ codes: asBytes(new Float32Array(count).fill(value)) });
  return { name, format: "f32", shape: [count], layout: {}, ranges: [], convert };
}

/** Whether all matrices but the last are whole groups, of whole bytes, along the axis. */
function isWholeGroups(format: WeightFormat, shapes: readonly Shape[], axis: Axis): boolean {
  const levels = Object.values(levelsOf(format)).filter((level) => level !== undefined);
  return (shapes as readonly (readonly [number, number])[]).every(([rows, columns]) => {
    if (axis === "rows") return levels.every((level) => rows % level.rows === 0);
    if (!Number.isInteger(byteOfColumn(format, columns))) return false;
    return levels.every((level) => level.columns > 0 && columns % level.columns === 0);
  });
}

/** What `read` makes of each matrix and the bytes of its ranges. */
async function eachOf<T>(
  matrices: readonly LocatedWeight[],
  bytes: readonly Uint8Array[],
  read: (matrix: LocatedWeight, bytes: readonly Uint8Array[]) => Promise<T>,
): Promise<readonly T[]> {
  const results: T[] = [];
  let taken = 0;
  for (const matrix of matrices) {
    const end = taken + matrix.ranges.length;
    results.push(await read(matrix, bytes.slice(taken, end)));
    taken = end;
  }
  return results;
}

async function fieldsOf({ convert }: LocatedWeight, bytes: readonly Uint8Array[]): Promise<QuantizedBytes> {
  return convert === undefined ? { codes: bytes[0] as Uint8Array } : await convert(bytes);
}

async function valuesOf(weight: LocatedWeight, bytes: readonly Uint8Array[]): Promise<Float32Array> {
  if (weight.values !== undefined) return await weight.values(bytes);
  const { codes } = await fieldsOf(weight, bytes);
  return floatValues(weight.format as FloatDType, codes);
}

/** The fields of matrices of one format. */
function joinedFields(
  parts: readonly QuantizedBytes[],
  format: WeightFormat,
  shapes: readonly (readonly [number, number])[],
  axis: Axis,
): QuantizedBytes {
  const levels = levelsOf(format);
  const join = (field: "codes" | (typeof levelRoles)[number], rowOf: (columns: number) => number) => {
    const fields = parts.map((part) => asBytes(part[field] as ArrayBufferView));
    return axis === "rows"
      ? concatenated(fields)
      : interleaved(
          fields,
          shapes.map(([, columns]) => rowOf(columns)),
        );
  };
  const joined: Record<string, Uint8Array> = { codes: join("codes", (columns) => rowBytes(format, columns)) };
  for (const role of levelRoles) {
    const level = levels[role];
    if (level === undefined) continue;
    joined[role] = join(role, (columns) => Math.ceil(columns / (level.columns || columns)) * scaleBytes(level.type));
  }
  return joined as unknown as QuantizedBytes;
}

function concatenated(fields: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(sum(fields.map(({ length }) => length)));
  let at = 0;
  for (const field of fields) {
    all.set(field, at);
    at += field.length;
  }
  return all;
}

/** Rows of the first with those of the others after them. @param strides the bytes of a row of each. */
function interleaved(fields: readonly Uint8Array[], strides: readonly number[]): Uint8Array {
  const stride = sum(strides);
  const all = new Uint8Array(sum(fields.map(({ length }) => length)));
  let left = 0;
  for (const [index, field] of fields.entries()) {
    const own = strides[index] as number;
    for (let row = 0; row * own < field.length; row++) {
      all.set(field.subarray(row * own, (row + 1) * own), row * stride + left);
    }
    left += own;
  }
  return all;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
