import type { GridCodes } from "../../../core/formats/grids.js";
import { weightFormat } from "../../../core/formats/weight_formats.js";
import type { BlockReader } from "./block_type.js";
import { nibbleAt } from "./code_words.js";

// Blocks of 256 columns, of which 4 or 8 at a time are a point of a grid with signs. Formats have the same units, but all
// of their signs.

interface GridLayout {
  readonly format: string;
  /** The number of the block's point `index`. */
  point(view: DataView, at: number, index: number): number;
  /** The signs of the columns from 8 * `index` on, the first in the lowest bit; or the only one. */
  signs(view: DataView, at: number, index: number): number;
  /** Columns that share a scale. */
  readonly columns: 16 | 32;
  /** Stored as odd4. */
  scale(view: DataView, at: number, group: number): number;
  /** A float16, the scale of the block's scales, unless the block begins with it. */
  superScale?(view: DataView, at: number): number;
}

function gridType({ format, columns, ...layout }: GridLayout): BlockReader {
  const { coordinates, numberBits, bits, signBits } = weightFormat(format).grid as GridCodes;
  const points = 8 / coordinates;
  const groups = 256 / columns;
  return {
    format,
    readCodes(view, at, units) {
      for (let index = 0; index < 32; index++) {
        let unit = layout.signs(view, at, index) << (bits - signBits);
        for (let i = 0; i < points; i++) unit |= layout.point(view, at, points * index + i) << (i * numberBits);
        units[index] = unit;
      }
    },
    readScales(view, at, { scales, superScales }, block) {
      for (let group = 0; group < groups; group++) {
        scales[groups * block + group] = layout.scale(view, at, group);
      }
      (superScales as Uint16Array)[block] = layout.superScale?.(view, at) ?? view.getUint16(at, true);
    },
  };
}

/** Eight signs of which an even number is negative: the last follows from the others. */
function evenSigns(seven: number): number {
  let odd = seven ^ (seven >> 4);
  odd ^= odd >> 2;
  odd ^= odd >> 1;
  return seven | ((odd & 1) << 7);
}

/** Seven signs of 8 columns, for four times 8 columns in one word, above which there is the scale of these. */
const wordOfSigns = (first: number, step: number): Pick<GridLayout, "signs" | "scale"> => ({
  signs: (view, at, index) =>
    evenSigns((view.getUint32(at + first + step * (index >> 2), true) >>> (7 * (index & 3))) & 127),
  scale: (view, at, group) => view.getUint8(at + first + 3 + step * group) >> 4,
});

/** Scales of four bits. */
const nibbleScales =
  (first: number): GridLayout["scale"] =>
  (view, at, group) =>
    nibbleAt(view, at + first, group);

/** Signs of a byte each. */
const byteSigns =
  (first: number): GridLayout["signs"] =>
  (view, at, index) =>
    view.getUint8(at + first + index);

export const iq2_xxs = gridType({
  format: "iq2_xxs",
  point: (view, at, index) => view.getUint8(at + 2 + 8 * (index >> 2) + (index & 3)),
  ...wordOfSigns(6, 8),
  columns: 32,
});

export const iq2_xs = gridType({
  format: "iq2_xs",
  point: (view, at, index) => view.getUint16(at + 2 + 2 * index, true) & 511,
  signs: (view, at, index) => evenSigns(view.getUint16(at + 2 + 2 * index, true) >> 9),
  columns: 16,
  scale: nibbleScales(66),
});

export const iq2_s = gridType({
  format: "iq2_s",
  point: (view, at, index) =>
    view.getUint8(at + 2 + index) | (((view.getUint8(at + 66 + (index >> 2)) >> (2 * (index & 3))) & 3) << 8),
  signs: byteSigns(34),
  columns: 16,
  scale: nibbleScales(74),
});

export const iq3_xxs = gridType({
  format: "iq3_xxs",
  point: (view, at, index) => view.getUint8(at + 2 + index),
  ...wordOfSigns(66, 4),
  columns: 32,
});

export const iq3_s = gridType({
  format: "iq3_s",
  point: (view, at, index) =>
    view.getUint8(at + 2 + index) | (((view.getUint8(at + 66 + (index >> 3)) >> (index & 7)) & 1) << 8),
  signs: byteSigns(74),
  columns: 32,
  scale: nibbleScales(106),
});

// Here one sign is that of eighths, which are added to coordinates.

/** 16 bits for 32 columns: three for the number of each point, three for the scale, and the sign. */
const iq1Bits = (view: DataView, at: number, index: number) => view.getUint16(at + 34 + 2 * index, true);

export const iq1_s = gridType({
  format: "iq1_s",
  point: (view, at, index) =>
    view.getUint8(at + 2 + index) | (((iq1Bits(view, at, index >> 2) >> (3 * (index & 3))) & 7) << 8),
  signs: (view, at, index) => iq1Bits(view, at, index >> 2) >> 15,
  columns: 32,
  scale: (view, at, group) => (iq1Bits(view, at, group) >> 12) & 7,
});

/** The scale of scales is divided among the upper bits of four words with four scales each. */
export const iq1_m = gridType({
  format: "iq1_m",
  point: (view, at, index) => view.getUint8(at + index) | ((nibbleAt(view, at + 32, index) & 7) << 8),
  signs: (view, at, index) => nibbleAt(view, at + 32, index) >> 3,
  columns: 16,
  scale: (view, at, group) => (view.getUint16(at + 48 + 2 * (group >> 2), true) >> (3 * (group & 3))) & 7,
  superScale: (view, at) =>
    [0, 1, 2, 3].reduce((bits, part) => bits | ((view.getUint8(at + 49 + 2 * part) >> 4) << (4 * part)), 0),
});
