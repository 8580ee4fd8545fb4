import { checkChoice, MoeError } from "../errors.js";

/** Element types of tensors. `f64` exists only on the `reference` device. */
export type DType = "f32" | "f16" | "bf16" | "f64" | "i32" | "u8";

/** Floating-point element types. */
export type FloatDType = "f32" | "f16" | "bf16" | "f64";

/** The typed array that `tensor.raw()` returns: the stored bits. */
export type RawArrayOf<D extends DType> = D extends "f32"
  ? Float32Array
  : D extends "f16" | "bf16"
    ? Uint16Array
    : D extends "f64"
      ? Float64Array
      : D extends "i32"
        ? Int32Array
        : D extends "u8"
          ? Uint8Array
          : never;

/** The typed array that `tensor.data()` returns; 16-bit floats come as a Float32Array. */
export type ArrayOf<D extends DType> = D extends "f16" | "bf16" ? Float32Array : RawArrayOf<D>;

interface DTypeInfo {
  readonly bytes: number;
  readonly float: boolean;
  /** Typed array of the stored bits. */
  readonly raw: RawConstructor;
  /** Typed array of the values. */
  readonly values: RawConstructor;
}

type RawConstructor =
  | Float32ArrayConstructor
  | Float64ArrayConstructor
  | Uint16ArrayConstructor
  | Int32ArrayConstructor
  | Uint8ArrayConstructor;

/** The one table of element types. */
export const dtypes: Readonly<Record<DType, DTypeInfo>> = {
  f32: { bytes: 4, float: true, raw: Float32Array, values: Float32Array },
  f16: { bytes: 2, float: true, raw: Uint16Array, values: Float32Array },
  bf16: { bytes: 2, float: true, raw: Uint16Array, values: Float32Array },
  f64: { bytes: 8, float: true, raw: Float64Array, values: Float64Array },
  i32: { bytes: 4, float: false, raw: Int32Array, values: Int32Array },
  u8: { bytes: 1, float: false, raw: Uint8Array, values: Uint8Array },
};

export const dtypeNames = Object.keys(dtypes) as readonly DType[];

export const floatDTypes = dtypeNames.filter((name): name is FloatDType => dtypes[name].float);

/** Throws INVALID_ARGUMENT unless `dtype` names a dtype. */
export function checkDType(dtype: unknown): asserts dtype is DType {
  checkChoice("dtype", dtype, dtypeNames);
}

/** Throws INVALID_ARGUMENT unless `value` names a dtype, UNSUPPORTED_DTYPE unless it is a floating-point one. */
export function checkFloatDType(parameter: string, value: unknown): asserts value is FloatDType {
  if (!(dtypeNames as readonly unknown[]).includes(value)) checkChoice(parameter, value, floatDTypes);
  if (!dtypes[value as DType].float) {
    throw new MoeError("UNSUPPORTED_DTYPE", `${parameter}: expected f32, f16 or bf16, got ${value}`);
  }
}

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

/**
 * The float32 bits of `value`, rounded to odd: a value between two floats becomes the one whose last bit is 1. Rounding
 * that to 16 bits gives the same result as rounding `value` itself; rounding to the nearest float first would round
 * twice.
 */
function oddFloatBits(value: number): number {
  scratchFloat[0] = value;
  const error = value - (scratchFloat[0] as number);
  const bits = scratchBits[0] as number;
  if (error === 0 || Number.isNaN(error)) return bits;
  const towardZero = error > 0 === value > 0 ? bits : bits - 1;
  return towardZero | 1;
}

/** The value of float32 bits. */
function fromFloatBits(bits: number): number {
  scratchBits[0] = bits;
  return scratchFloat[0] as number;
}

/** The bfloat16 bits of `value`, rounded to nearest even; NaN stays NaN. */
export function toBF16(value: number): number {
  const bits = oddFloatBits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** The value of bfloat16 bits. */
export function fromBF16(bits: number): number {
  return fromFloatBits(bits << 16);
}

/** The IEEE binary16 bits of `value`, rounded to nearest even; values out of range become infinity. */
export function toF16(value: number): number {
  const bits = oddFloatBits(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x33000001) return sign; // below half of the smallest subnormal
  if (magnitude < 0x38800000) {
    const shift = 126 - (magnitude >>> 23); // result = mantissa >> shift, in units of 2^-24
    const mantissa = (magnitude & 0x7fffff) | 0x800000;
    const truncated = mantissa >>> shift;
    const rest = mantissa & ((1 << shift) - 1);
    const half = 1 << (shift - 1);
    return sign | (truncated + (rest > half || (rest === half && (truncated & 1) === 1) ? 1 : 0));
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

/** The value of IEEE binary16 bits. */
export function fromF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * fromFloatBits(((exponent - 15 + 127) << 23) | (mantissa << 13));
}

/** The value of e4m3 bits (OCP 8-bit floating point without infinities): 0x7f and 0xff are NaN. */
export function fromE4M3(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >> 3) & 0xf;
  const mantissa = bits & 7;
  if (exponent === 15 && mantissa === 7) return Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : fromFloatBits(((exponent - 7 + 127) << 23) | (mantissa << 20)));
}

/** The value of e8m0 bits, a power of two: 255 is NaN. */
export function fromE8M0(bits: number): number {
  return bits === 255 ? Number.NaN : 2 ** (bits - 127);
}

/** The e4m3 bits nearest to a float32 value, ties to even; magnitudes above 448 become 448. */
export function toE4M3(value: number): number {
  const sign = value < 0 ? 0x80 : 0;
  const magnitude = Math.abs(value);
  if (magnitude >= 448) return sign | 0x7e;
  if (magnitude < 2 ** -6) return sign | roundToEven(magnitude * 2 ** 9);
  scratchFloat[0] = magnitude;
  const bits = scratchBits[0] as number;
  return sign | (((bits + 0x7ffff + ((bits >>> 20) & 1)) >>> 20) - (120 << 3));
}

/** The e8m0 bits of the least power of two that is no less than a float32 value >= 0, from 2^-127 to 2^127. */
export function toE8M0(value: number): number {
  scratchFloat[0] = value;
  const bits = scratchBits[0] as number;
  if (bits <= 0x00400000) return 0;
  return Math.min((bits >>> 23) + ((bits & 0x7fffff) === 0 ? 0 : 1), 254);
}

/** The nearest integer of a float32 value of magnitude below 2^22; ties go to the even one. */
export function roundToEven(value: number): number {
  const shift = 1.5 * 2 ** 23;
  return Math.fround(Math.fround(value + shift) - shift);
}
