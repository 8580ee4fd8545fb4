import type { ScaleLevel, WeightFormat } from "../../../core/formats/weight_format.js";
import { fromF16, toF16 } from "../../../core/tensors/dtype.js";
import type { GgufType } from "../types.js";
import { packWords } from "./code_words.js";
import type { BlockWeight } from "./convert.js";

/** Whether blocks have scales from -32 to 31, where the weight format has 8 bits. */
export function hasSixBitScales(type: GgufType): boolean {
  return type === "Q3_K" || type === "IQ4_XS";
}

const largest = 31;
const largestF16 = 65504;

/**
 * A matrix of `values` whose scales fit into 6 bits, made from one whose scales have 8: the scale of a block's scales
 * becomes the largest of them over 31, rounded to float16, and its scales and then its codes the nearest there are.
 * @returns also the relative error; see {@link quantizationError}.
 */
export function withSixBitScales(
  { bits, table, scales: level, superScales: superLevel }: WeightFormat,
  values: Float32Array,
  weight: BlockWeight,
): { readonly bytes: BlockWeight; readonly error: number } {
  const [width, blockWidth] = [(level as ScaleLevel).columns, (superLevel as ScaleLevel).columns];
  const given = new Int8Array(weight.scales.buffer, weight.scales.byteOffset, weight.scales.length);
  const superScales = Uint16Array.from(weight.superScales as Uint16Array);
  const scales = new Int8Array(given.length);
  const codes = new Uint8Array(weight.codes.length);
  const nearest = table === undefined ? nearestInteger(bits) : nearestOf(table);
  const unpacked = new Uint8Array(blockWidth);
  const words = new Uint32Array(unpacked.buffer);
  let [difference, size, end] = [0, 0, 0];
  for (let first = 0; first < values.length; first += blockWidth) {
    const block = first / blockWidth;
    const groups = given.subarray(first / width, (first + blockWidth) / width);
    const before = fromF16(superScales[block] as number);
    const most = groups.reduce((most, scale) => Math.max(most, Math.abs(scale)), 0);
    const bitsAfter = toF16(Math.min((most * before) / largest, largestF16));
    const after = fromF16(bitsAfter);
    superScales[block] = bitsAfter;
    for (let start = 0; start < blockWidth; start += width) {
      const group = (first + start) / width;
      const scale = after === 0 ? 0 : clamp(Math.round(((given[group] as number) * before) / after), -32, largest);
      scales[group] = scale;
      const factor = Math.fround(scale * after);
      for (let column = start; column < start + width; column++) {
        const value = values[first + column] as number;
        const code = nearest(factor === 0 ? 0 : value / factor);
        unpacked[column] = code & ((1 << bits) - 1);
        difference += ((table?.[code] ?? code) * factor - value) ** 2;
        size += value ** 2;
      }
    }
    end = packWords(words, bits, codes, end);
  }
  const bytes = { codes, scales: new Uint8Array(scales.buffer), superScales };
  return { bytes, error: size === 0 ? 0 : Math.sqrt(difference / size) };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}

/** Signed codes; ties go to the even one. */
function nearestInteger(bits: number): (value: number) => number {
  const half = 2 ** (bits - 1);
  return (value) => {
    const floor = Math.floor(value);
    const rest = value - floor;
    const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
    return clamp(rounded, -half, half - 1);
  };
}

/** Codes of a table that ascends; ties go to the lower one. */
function nearestOf(table: readonly number[]): (value: number) => number {
  return (value) => {
    let code = 0;
    while (code + 1 < table.length && value > ((table[code] as number) + (table[code + 1] as number)) / 2) code++;
    return code;
  };
}
