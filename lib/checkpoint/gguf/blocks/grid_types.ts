import type { BlockReader } from "./block_type.js";
import { nibbleAt, spreadBits } from "./code_words.js";
import { type Grid, iq1Grid, iq2SGrid, iq2XsGrid, iq2XxsGrid, iq3SGrid, iq3XxsGrid } from "./grids.js";

// Blocks of 256 columns, of which 4 or 8 at a time are a point of a grid with signs. Here every column has a code of its
// own, its coordinate with its sign above it: these take more bits, but no kernel has to know a grid.

interface GridLayout {
  readonly format: string;
  readonly grid: Grid;
  /** The number of the block's point `index`. */
  point(view: DataView, at: number, index: number): number;
  /** The signs of the columns from 8 * `index` on, the first in the lowest bit. */
  signs(view: DataView, at: number, index: number): number;
  /** Columns that share a scale. */
  readonly columns: 16 | 32;
  /** An integer: scales are one more than twice as much. */
  scale(view: DataView, at: number, group: number): number;
  /** A float16, the scale of the block's scales, unless the block begins with it. */
  superScale?(view: DataView, at: number): number;
}

function gridType({ format, grid, columns, ...layout }: GridLayout): BlockReader {
  const signBit = grid.levels === 3 ? 2 : 3;
  const groups = 256 / columns;
  return {
    format,
    grid,
    readCodes(view, at, words) {
      const { points } = grid;
      for (let index = 0; index < 32; index++) {
        const first = grid.places === 8 ? 2 * layout.point(view, at, index) : layout.point(view, at, 2 * index);
        const second = grid.places === 8 ? first + 1 : layout.point(view, at, 2 * index + 1);
        const signs = layout.signs(view, at, index);
        words[2 * index] = (points[first] as number) | (spreadBits(signs & 15) << signBit);
        words[2 * index + 1] = (points[second] as number) | (spreadBits(signs >> 4) << signBit);
      }
    },
    readScales(view, at, { scales, superScales }, block) {
      for (let group = 0; group < groups; group++) {
        scales[groups * block + group] = 2 * layout.scale(view, at, group) + 1;
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
  grid: iq2XxsGrid,
  point: (view, at, index) => view.getUint8(at + 2 + 8 * (index >> 2) + (index & 3)),
  ...wordOfSigns(6, 8),
  columns: 32,
});

export const iq2_xs = gridType({
  format: "iq2_xs",
  grid: iq2XsGrid,
  point: (view, at, index) => view.getUint16(at + 2 + 2 * index, true) & 511,
  signs: (view, at, index) => evenSigns(view.getUint16(at + 2 + 2 * index, true) >> 9),
  columns: 16,
  scale: nibbleScales(66),
});

/** The format is that of IQ2_XS: the grid alone is larger. */
export const iq2_s = gridType({
  format: "iq2_xs",
  grid: iq2SGrid,
  point: (view, at, index) =>
    view.getUint8(at + 2 + index) | (((view.getUint8(at + 66 + (index >> 2)) >> (2 * (index & 3))) & 3) << 8),
  signs: byteSigns(34),
  columns: 16,
  scale: nibbleScales(74),
});

export const iq3_xxs = gridType({
  format: "iq3_xxs",
  grid: iq3XxsGrid,
  point: (view, at, index) => view.getUint8(at + 2 + index),
  ...wordOfSigns(66, 4),
  columns: 32,
});

export const iq3_s = gridType({
  format: "iq3_s",
  grid: iq3SGrid,
  point: (view, at, index) =>
    view.getUint8(at + 2 + index) | (((view.getUint8(at + 66 + (index >> 3)) >> (index & 7)) & 1) << 8),
  signs: byteSigns(74),
  columns: 32,
  scale: nibbleScales(106),
});

// Here the sign is that of an eighth, which is added to coordinates.

/** 16 bits for 32 columns: three for the number of each point, three for the scale, and the sign. */
const iq1Bits = (view: DataView, at: number, index: number) => view.getUint16(at + 34 + 2 * index, true);

export const iq1_s = gridType({
  format: "iq1_s",
  grid: iq1Grid,
  point: (view, at, index) =>
    view.getUint8(at + 2 + index) | (((iq1Bits(view, at, index >> 2) >> (3 * (index & 3))) & 7) << 8),
  signs: (view, at, index) => (iq1Bits(view, at, index >> 2) >= 0x8000 ? 0xff : 0),
  columns: 32,
  scale: (view, at, group) => (iq1Bits(view, at, group) >> 12) & 7,
});

/** The scale of scales is divided among the upper bits of four words with four scales each. */
export const iq1_m = gridType({
  format: "iq1_m",
  grid: iq1Grid,
  point: (view, at, index) => view.getUint8(at + index) | ((nibbleAt(view, at + 32, index) & 7) << 8),
  signs: (view, at, index) => (nibbleAt(view, at + 32, index) >= 8 ? 0xff : 0),
  columns: 16,
  scale: (view, at, group) => (view.getUint16(at + 48 + 2 * (group >> 2), true) >> (3 * (group & 3))) & 7,
  superScale: (view, at) =>
    [0, 1, 2, 3].reduce((bits, part) => bits | ((view.getUint8(at + 49 + 2 * part) >> 4) << (4 * part)), 0),
});
