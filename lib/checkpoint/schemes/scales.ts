import { fromBF16, fromF16 } from "../../core/dtype.js";
import { decodeHalves } from "../../core/half_arrays.js";
import type { Shape } from "../../core/shape.js";
import type { ScaleType } from "../../core/weight_format.js";
import { firstNaN8, firstNonFinite } from "../non_finite.js";
import type { SafetensorsDType } from "../safetensors/dtype.js";
import type { FoundTensor, StoredMatrix } from "./stored_matrix.js";

/** The dtypes of scales that are floats. */
export const floats: readonly SafetensorsDType[] = ["F32", "F16", "BF16"];

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

/**
 * How a format calls the groups of K columns that share one of `count` scales.
 * @throws BAD_CHECKPOINT if K is no multiple of a group, or formats have no groups of this size.
 */
export function groupsOf(matrix: StoredMatrix, tensor: FoundTensor, count: number): string {
  const { columns } = matrix;
  if (count === 1) return "channel";
  if (count === 0 || columns % count !== 0) {
    throw matrix.errorAt(tensor, `expected one scale for each group of the ${columns} columns, got ${count}`);
  }
  const size = columns / count;
  if (size % 16 !== 0 || size > largestGroup) {
    throw matrix.errorAt(
      tensor,
      `expected groups of a multiple of 16 columns, up to ${largestGroup}, got ${columns} columns in groups of ${size}`,
    );
  }
  return `g${size}`;
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
 * @throws BAD_CHECKPOINT if one is NaN or infinite.
 */
export function checkScales(matrix: StoredMatrix, tensor: FoundTensor, bytes: Uint8Array, columns: number): Uint8Array {
  const at = firstNonFinite(scaleType(tensor), bytes);
  if (at < 0) return bytes;
  const place = `[${Math.floor(at / columns)}, ${at % columns}]`;
  throw matrix.errorAt(tensor, `expected finite scales, got NaN or infinity at ${place}`);
}

/** @throws BAD_CHECKPOINT if one of the codes is NaN. */
export function checkE4M3(matrix: StoredMatrix, tensor: FoundTensor, bytes: Uint8Array): Uint8Array {
  const at = firstNaN8(bytes);
  if (at < 0) return bytes;
  const place = `[${Math.floor(at / matrix.columns)}, ${at % matrix.columns}]`;
  throw matrix.errorAt(tensor, `expected numbers, got NaN at ${place}`);
}

/** The value of a float's bytes. */
export function scalarOf({ info }: FoundTensor, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (info.dtype === "F32") return view.getFloat32(0, true);
  return (info.dtype === "F16" ? fromF16 : fromBF16)(view.getUint16(0, true));
}

/** The shapes in which files store a single number. */
export const scalarShapes: readonly Shape[] = [[], [1], [1, 1]];

/** Floats as float32 values, such as a scale for every column. */
export function floatsOf({ info }: FoundTensor, bytes: Uint8Array): Float32Array {
  const { buffer } = new Uint8Array(bytes); // the file's own bytes need not be aligned
  if (info.dtype === "F32") return new Float32Array(buffer);
  return decodeHalves(new Uint16Array(buffer), info.dtype === "F16" ? "f16" : "bf16");
}
