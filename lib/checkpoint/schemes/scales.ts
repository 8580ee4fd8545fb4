import type { ScaleType } from "../../core/formats/weight_format.js";
import { greatestCommonDivisor } from "../../core/greatest_common_divisor.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Shape } from "../../core/tensors/shape.js";
import { firstNaN8, firstNonFinite } from "../non_finite.js";
import type { SafetensorsDType } from "../safetensors/dtype.js";
import { type Elements, elements, floatValues, zerosLike } from "./bits.js";
import { type FoundTensor, floats, type StoredMatrix } from "./stored_matrix.js";

const types: Partial<Record<SafetensorsDType, ScaleType>> = {
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
  F8_E4M3: "e4m3",
  F8_E8M0: "e8m0",
  U8: "e8m0",
};

/** How a weight format calls the dtype of a checked tensor of scales. */
export function scaleType({ info }: FoundTensor): ScaleType {
  return types[info.dtype] as ScaleType;
}

/** The largest group that formats have. */
export const largestGroup = 1024;

/** Groups of columns that share a scale. */
export interface ColumnGroups {
  /** Columns of a group in the files; the last one may have fewer. */
  readonly size: number;
  /** How a format calls the groups that the layer will have: the same, or equal parts of them. */
  readonly name: string;
  /** Rows with a value for each group of the files, as rows with one for each of the format's. */
  spread<T extends Elements>(values: T): T;
}

/**
 * The groups of columns that the `count` scales of a row in `tensor` belong to.
 * @param hasZeros whether there are zero points, with which devices have pieces that are narrower than others in whole groups only.
 * @throws BAD_CHECKPOINT if they are neither the scales of groups of equal size, nor of a size that the configuration
 * names, the last one smaller; or if formats have no groups of this size.
 */
export function groupsOf(matrix: StoredMatrix, tensor: FoundTensor, count: number, hasZeros = false): ColumnGroups {
  const { columns, quantization } = matrix;
  const sizes = quantization.stated.flatMap((one) => (Number.isFinite(one.columns) ? (one.columns as number) : []));
  const named = sizes.find((size) => Math.ceil(columns / size) === count);
  const size = named ?? columns / count;
  if (!Number.isInteger(size)) {
    throw matrix.errorAt(
      tensor,
      `expected one scale for each group of the ${columns} columns, got ${count}; if the last group is smaller, the ` +
        "configuration has to name the group_size",
    );
  }
  const narrow = hasZeros ? matrix.restColumns : 0;
  let stored = greatestCommonDivisor(matrix.uncutGroup(size), narrow);
  while (stored > largestGroup && stored % 2 === 0) stored /= 2;
  if (count === 1 && (narrow === 0 || stored % 16 !== 0)) {
    return { size: columns, name: "channel", spread: (values) => values };
  }
  if (stored % 16 !== 0 || stored > largestGroup) {
    throw matrix.errorAt(
      tensor,
      `expected groups of a multiple of 16 columns, up to ${largestGroup}, got ${columns} columns in groups of ${stored}`,
    );
  }
  return { size, name: `g${stored}`, spread: (values) => spreadGroups(values, count, columns, size, stored) };
}

/** Repeats the values of groups of `size` columns for the smaller ones of `stored` columns that they consist of. */
export function spreadGroups<T extends Elements>(
  values: T,
  count: number,
  columns: number,
  size: number,
  stored: number,
): T {
  if (size === stored) return values;
  const [rows, width] = [values.length / count, Math.ceil(columns / stored)];
  const target = zerosLike(values, rows * width);
  for (let row = 0; row < rows; row++) {
    for (let group = 0; group < width; group++) {
      target[row * width + group] = values[row * count + Math.floor((group * stored) / size)] as number;
    }
  }
  return target;
}

/** The bytes of scales as elements of their dtype's size. */
export function scaleElements({ info }: FoundTensor, bytes: Uint8Array): Elements {
  return elements(bytes, info.dtype === "F32" ? 4 : floats.includes(info.dtype) ? 2 : 1);
}

/** The second size of scales [N, groups]; [N] has one. @throws BAD_CHECKPOINT for another shape */
export function groupCount(matrix: StoredMatrix, tensor: FoundTensor): number {
  const shape: Shape = matrix.shapeOf(tensor);
  const [rows, count = 1] = shape;
  if (rows === matrix.rows && shape.length <= 2) return count;
  throw matrix.errorAt(
    tensor,
    `expected a scale for each of ${matrix.rows} rows and each group of columns, got shape [${shape.join(", ")}]`,
  );
}

/**
 * Returns `bytes`, the scales of `tensor` in rows of `columns`.
 * @param type default that of the tensor's dtype.
 * @throws BAD_CHECKPOINT if one is NaN or infinite.
 */
export function checkScales(
  matrix: StoredMatrix,
  tensor: FoundTensor,
  bytes: Uint8Array,
  columns: number,
  type: ScaleType = scaleType(tensor),
): Uint8Array {
  const at = firstNonFinite(type, bytes);
  if (at < 0) return bytes;
  throw matrix.errorAt(tensor, `expected finite scales, got NaN or infinity at ${placeIn(at, columns)}`);
}

/** The row and column of an element, for errors. */
export function placeIn(index: number, columns: number): string {
  return `[${Math.floor(index / columns)}, ${index % columns}]`;
}

/** @throws BAD_CHECKPOINT if one of the codes is NaN. */
export function checkE4M3(matrix: StoredMatrix, tensor: FoundTensor, bytes: Uint8Array): Uint8Array {
  const at = firstNaN8(bytes);
  if (at < 0) return bytes;
  throw matrix.errorAt(tensor, `expected numbers, got NaN at ${placeIn(at, matrix.columns)}`);
}

/** The shapes in which files store a number for a matrix, or where they hold a pair of matrices, one for each. */
export function numberShapes(matrix: StoredMatrix): readonly Shape[] {
  return [[], [1], [1, 1], ...(matrix.isPair ? [[2]] : [])];
}

/** Whether a tensor has one of {@link numberShapes}. */
export function isNumber(matrix: StoredMatrix, tensor: FoundTensor): boolean {
  return numberShapes(matrix).some((shape) => matrix.hasShape(tensor, shape));
}

/** A number for each of `rows` rows, of one number for all or one for each half of them. */
export function ofEachRow<T extends Elements>(numbers: T, rows: number): T {
  const target = zerosLike(numbers, rows);
  const each = rows / numbers.length;
  for (const [index, number] of numbers.entries()) target.fill(number, index * each, (index + 1) * each);
  return target;
}

/** Floats as float32 values, such as a scale for every column. */
export function floatsOf({ info }: FoundTensor, bytes: Uint8Array): Float32Array {
  return floatValues(info.dtype.toLowerCase() as FloatDType, bytes);
}

/** Factors, or the reciprocals of divisors, in float32. @throws BAD_CHECKPOINT unless they are finite. */
export function asFactors(
  matrix: StoredMatrix,
  tensor: FoundTensor,
  stored: Float32Array,
  divides: boolean,
): Float32Array {
  return stored.map((value) => {
    const factor = Math.fround(divides ? 1 / value : value);
    if (Number.isFinite(factor) && Number.isFinite(value)) return factor;
    throw matrix.errorAt(tensor, `expected a finite number${divides ? " other than 0" : ""}, got ${value}`);
  });
}
