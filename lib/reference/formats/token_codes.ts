import type { TokenScheme } from "../../core/formats/token_format.js";
import { fromE4M3, fromE8M0, roundToEven, toE4M3, toE8M0 } from "../../core/tensors/dtype.js";

// How rows become 8-bit codes, in float32 operation by operation, so that all devices give the same codes.
// native/core/formats/token_format.h is the same.

const f32 = Math.fround;

/** A row, rounded to codes times scales. */
export function roundTokens(x: Float64Array, { format, columns }: TokenScheme): Float64Array {
  const width = columns === 0 ? x.length : columns;
  const rounded = new Float64Array(x.length);
  for (let first = 0; first < x.length; first += width) {
    const group = x.subarray(first, first + width).map(f32);
    const scale = scaleOf(group, format);
    group.forEach((value, k) => {
      rounded[first + k] = scale * codeOf(value, scale, format);
    });
  }
  return rounded;
}

function scaleOf(group: Float64Array, format: TokenScheme["format"]): number {
  const largest = group.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (!Number.isFinite(largest)) return Number.NaN;
  const scale = f32(largest / (format === "int8" ? 127 : 448));
  // At least the least normal number of float32.
  return format === "fp8_ue8m0" && scale > 0 ? fromE8M0(Math.max(toE8M0(scale), 1)) : scale;
}

/** The nearest code, ties to even. A scale below the normal numbers may be too small for the largest value. */
function codeOf(value: number, scale: number, format: TokenScheme["format"]): number {
  if (!(scale > 0)) return 0;
  const scaled = f32(value / scale);
  return format === "int8" ? roundToEven(Math.min(Math.max(scaled, -127), 127)) : fromE4M3(toE4M3(scaled));
}
