import type { FloatDType } from "../tensors/dtype.js";
import type { StridedMatrix, TensorHandle } from "../tensors/tensor_handle.js";
import type { GridCodes } from "./grids.js";

/** How the bits of one code are interpreted, before any scale. */
export type CodeType = FloatDType | "e4m3" | "signed_integer" | "unsigned_integer" | "table";

/**
 * How scales are stored. `e8m0` is a power of two with its exponent biased by 127; `u4`, `u6` and `i8` are integers; the
 * lower four bits n of `odd4` stand for 2 n + 1; `dynamic8` is a code of bitsandbytes' dynamic map. All but f32, f16 and
 * bf16 take a byte.
 */
export type ScaleType = "f32" | "f16" | "bf16" | "e4m3" | "e8m0" | "u4" | "u6" | "i8" | "odd4" | "dynamic8";

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
 * value = ((code - zero point) * (scale * super scale + scale offset) * scalar - minimum * super minimum) * input scale
 * of the column.
 */
export interface WeightFormat {
  readonly name: string;
  readonly code: CodeType;
  /** Bits of one code. Codes of fewer than 8 bits fill a byte from its low bits up, lower columns first. */
  readonly bits: number;
  /** For `table`: the values of the 2^bits codes. */
  readonly table?: readonly number[];
  /** What is stored instead of each code. */
  readonly grid?: GridCodes;
  readonly scales?: ScaleLevel;
  /** Scales of the scales. */
  readonly superScales?: ScaleLevel;
  /**
   * What is subtracted, one per scale: a zero point from the code, or a minimum (with a super minimum) after scaling. Or
   * what is added to the scales of a row once these are scaled.
   */
  readonly offset?: "zero_point" | "minimum" | "scale_offset";
}

/** Formats that weights are often quantised to: editors propose these names, and errors the one that is nearest. */
export const commonFormats = [
  ...["int8", "int4_g128", "int4_g32", "uint4_g128", "fp8", "fp8_b128", "mxfp8", "mxfp4", "nvfp4", "nf4", "fp4"],
  ...["q2_k", "q3_k", "q4_0", "q4_1", "q4_k", "q5_0", "q5_1", "q5_k", "q6_k", "q8_0", "iq4_nl", "iq4_xs"],
] as const;
/**
 * The names that editors propose for a weight format.
 *
 * @useDeclaredType
 */
export type CommonFormat = (typeof commonFormats)[number];

/**
 * A format's name. For a plain format, its dtype. Some quantised formats have names of their own: `mxfp4`, `nvfp4`, the
 * block formats of GGUF `q4_1`, `q5_1`, `q2_k`, `q3_k`, `q4_k`, `q5_k`, `q6_k`, `iq4_xs`, its grids `iq3_s`, `iq3_xxs`,
 * `iq2_s`, `iq2_xs`, `iq2_xxs`, `iq1_m`, `iq1_s`, and those of bitsandbytes with nested
 * scales, `nf4_nested` and `fp4_nested`. All others are `<code>_<groups>_<scales>`, such as `i4_g32_bf16`:
 * - code: `i2` `i3` `i4` `i5` `i6` `i8`, signed integers; `u2` ... `u8`, unsigned with a zero point for every scale; `a2`
 *   ... `a8`, unsigned with a minimum for every scale, of its type (f32, f16, bf16), which is subtracted after scaling;
 *   `e4m3` and `e2m1`, small floats; `nf4` and `fp4`, the tables of bitsandbytes; `iq4`, that of GGUF.
 * - groups: `g16`, `g32` and other multiples of 16 up to `g1024`, consecutive columns of a row that share a scale;
 *   `channel`, all columns of a row; `b128`, 128 rows by 128 columns.
 * - scales: `f32`, `f16`, `bf16`, `e4m3` or `e8m0`.
 *
 * Wherever a name is given, a short one may be: `<code>` or `<code>_<groups>` with `int4` for i4 and so on, `uint4` for
 * u4, `fp8` for e4m3, `nf4` and `fp4`. Groups are then by default `channel` for codes of 8 bits, `g64` for tables, else
 * `g128`; scales are bf16 for groups of integers, else f32. So `int4` is `i4_g128_bf16`, `int8` `i8_channel_f32` and
 * `fp8_b128` `e4m3_b128_f32`. Also, `mxfp8` is `e4m3_g32_e8m0`, and GGUF's `q4_0`, `q5_0`, `q8_0` and `iq4_nl` are
 * `i4_g32_f16`, `i5_g32_f16`, `i8_g32_f16` and `iq4_g32_f16`.
 */
export type WeightFormatName = FloatDType | CommonFormat | (string & {});

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
