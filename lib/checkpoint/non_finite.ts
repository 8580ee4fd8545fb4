import type { ScaleType } from "../core/formats/weight_format.js";
import { elements } from "./schemes/bits.js";

/** The bits of an exponent that has no finite value. */
const exponents: Partial<Record<ScaleType, number>> = { f32: 0x7f800000, f16: 0x7c00, bf16: 0x7f80 };

/** The first of some stored scales that is NaN or infinite; -1 if none is. Integers never are. */
export function firstNonFinite(type: ScaleType, bytes: Uint8Array): number {
  if (type === "e4m3") return firstNaN8(bytes);
  if (type === "e8m0") return bytes.indexOf(255);
  const exponent = exponents[type];
  if (exponent === undefined) return -1;
  const values = elements(bytes, type === "f32" ? 4 : 2);
  for (let index = 0; index < values.length; index++) {
    if (((values[index] as number) & exponent) === exponent) return index;
  }
  return -1;
}

/** The first byte that is NaN as e4m3: all bits but the sign's are set. */
export function firstNaN8(bytes: Uint8Array): number {
  // Buffers are searched by the C library, ten times as fast as by a loop here.
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [positive, negative] = [buffer.indexOf(0x7f), buffer.indexOf(0xff)];
  return positive < 0 || negative < 0 ? Math.max(positive, negative) : Math.min(positive, negative);
}
