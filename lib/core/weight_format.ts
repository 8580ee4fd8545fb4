import type { FloatDType } from "./dtype.js";
import type { StridedMatrix, TensorHandle } from "./tensor_handle.js";

/** What the bits of one code mean before any scale. */
export type CodeType = FloatDType | "e4m3" | "signed_integer" | "unsigned_integer" | "table";

/** The storage of scales; `e8m0` is a power of two, its exponent biased by 127; `u6` are unsigned integers of six bits. */
export type ScaleType = "f32" | "f16" | "bf16" | "e4m3" | "e8m0" | "u6" | "i8";

/**
 * One level of scales: a value for every `rows` x `columns` elements, those of the last rows and columns may be fewer; 0
 * columns: as many as the matrix has.
 */
export interface ScaleLevel {
  readonly type: ScaleType;
  readonly rows: number;
  readonly columns: number;
}

/**
 * How the elements of a weight matrix are stored:
 * value = (code - zero point) * scale * super scale * the matrix's scalar - minimum * super minimum, then times the input
 * scale of its column.
 */
export interface WeightFormat {
  readonly name: string;
  readonly code: CodeType;
  /** Of a code; below 8, the code of the lower column has the lower bits of a byte. */
  readonly bits: number;
  /** The values of the 2^bits codes, of `table`. */
  readonly table?: readonly number[];
  readonly scales?: ScaleLevel;
  /** The scales' own scales. */
  readonly superScales?: ScaleLevel;
  /** What is subtracted, in the groups of the scales: an integer code before the scale, or a number of its own two levels after. */
  readonly offset?: "zero_point" | "minimum";
}

/** Every format by its name. Plain formats are named as their dtypes; `f64` is on `reference` only. */
export const weightFormats: ReadonlyMap<string, WeightFormat> = new Map(
  [
    { name: "f32", code: "f32" as const, bits: 32 },
    { name: "f16", code: "f16" as const, bits: 16 },
    { name: "bf16", code: "bf16" as const, bits: 16 },
    { name: "f64", code: "f64" as const, bits: 64 },
  ].map((format) => [format.name, format]),
);

/** A format's name; that of a plain one is a dtype. */
export type WeightFormatName = FloatDType | (string & {});

/** A weight matrix in a device's memory, in any format. */
export interface WeightMatrix {
  readonly format: WeightFormatName;
  readonly rows: number;
  readonly columns: number;
  /** Of a plain format the matrix itself; else bytes, each row's codes one after another. */
  readonly codes: StridedMatrix;
  /** One value for each group of rows and columns; these and the following where the format has them. */
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

/** Frees the handles of a weight. */
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
