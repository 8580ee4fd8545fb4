import type { ScaleType } from "../core/weight_format.js";
import { elements, words } from "./schemes/bits.js";

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
  const whole = bytes.byteOffset % 4 === 0 ? words(bytes) : new Uint32Array(0);
  let index = 0;
  // Adding 1 to the low seven bits carries into the highest one for 127 only.
  while (index < whole.length && ((((whole[index] as number) & 0x7f7f7f7f) + 0x01010101) & 0x80808080) === 0) index++;
  for (let at = 4 * index; at < bytes.length; at++) if (((bytes[at] as number) & 0x7f) === 0x7f) return at;
  return -1;
}
