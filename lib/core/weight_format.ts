import type { FloatDType } from "./dtype.js";
import type { StridedMatrix, TensorHandle } from "./tensor_handle.js";

/** How the bits of one code are interpreted, before any scale. */
export type CodeType = FloatDType | "e4m3" | "signed_integer" | "unsigned_integer" | "table";

/** How scales are stored. `e8m0` is a power of two with its exponent biased by 127, `u6` an unsigned 6-bit integer. */
export type ScaleType = "f32" | "f16" | "bf16" | "e4m3" | "e8m0" | "u6" | "i8";

/**
 * One level of scales: one value for every block of `rows` x `columns` elements; the last blocks may be smaller.
 * `columns` 0 means all columns of the matrix.
 */
export interface ScaleLevel {
  readonly type: ScaleType;
  readonly rows: number;
  readonly columns: number;
}

/**
 * How the elements of a weight matrix are stored:
 * value = ((code - zero point) * scale * super scale * scalar - minimum * super minimum) * input scale of the column.
 */
export interface WeightFormat {
  readonly name: string;
  readonly code: CodeType;
  /** Bits of one code. Codes of fewer than 8 bits fill a byte from its low bits up, lower columns first. */
  readonly bits: number;
  /** For `table`: the values of the 2^bits codes. */
  readonly table?: readonly number[];
  readonly scales?: ScaleLevel;
  /** Scales of the scales. */
  readonly superScales?: ScaleLevel;
  /**
   * What is subtracted, one per scale: a zero point from the code, or a minimum (with a super minimum) after scaling.
   */
  readonly offset?: "zero_point" | "minimum";
}

/** Every format by name. A plain format has the name of its dtype; `f64` exists only on `reference`. */
export const weightFormats: ReadonlyMap<string, WeightFormat> = new Map(
  [
    { name: "f32", code: "f32" as const, bits: 32 },
    { name: "f16", code: "f16" as const, bits: 16 },
    { name: "bf16", code: "bf16" as const, bits: 16 },
    { name: "f64", code: "f64" as const, bits: 64 },
  ].map((format) => [format.name, format]),
);

/** A format's name; for a plain format, its dtype. */
export type WeightFormatName = FloatDType | (string & {});

/** A weight matrix in a device's memory, in any format. */
export interface WeightMatrix {
  readonly format: WeightFormatName;
  readonly rows: number;
  readonly columns: number;
  /** The matrix itself if the format is plain; else bytes, the codes of each row packed one after another. */
  readonly codes: StridedMatrix;
  /** One value for each block of rows and columns; this and the following only if the format has them. */
  readonly scales?: StridedMatrix;
  readonly superScales?: StridedMatrix;
  readonly zeros?: StridedMatrix;
  readonly superZeros?: StridedMatrix;
  /** Default 1. */
  readonly scalar?: number;
  /** [columns] f32. */
  readonly inputScale?: TensorHandle;
  /** [columns] i32: the input that each stored column multiplies. */
  readonly inputOrder?: TensorHandle;
}

/** A matrix of a plain format. */
export function plainWeight(format: FloatDType, codes: StridedMatrix): WeightMatrix {
  return { format, rows: codes.rows, columns: codes.columns, codes };
}

/** Frees all handles of a weight. */
export function freeWeight({
  codes,
  scales,
  superScales,
  zeros,
  superZeros,
  inputScale,
  inputOrder,
}: WeightMatrix): void {
  for (const part of [codes, scales, superScales, zeros, superZeros]) part?.handle.free();
  inputScale?.free();
  inputOrder?.free();
}
