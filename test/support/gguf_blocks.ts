import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseSafetensors, type SafetensorsTensor } from "../../lib/checkpoint/safetensors/index.js";
import { fromF16 } from "../../lib/core/tensors/dtype.js";
import { memoized } from "./memoized.js";

// The values of GGUF's blocks, element by element and as slow as the tables of ggml-common.h read: the conversion of
// whole blocks has to agree.

const e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6];
const iq4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

type Block = (at: number) => number;
type Decoder = (byte: Block, element: number) => number;

const signed = (byte: number) => (byte > 127 ? byte - 256 : byte);
const half = (byte: Block, at: number) => fromF16(byte(at) | (byte(at + 1) << 8));
/** A nibble of a row of `count` bytes, whose low nibbles come first. */
const nibble = (byte: Block, at: number, count: number, element: number) =>
  element < count ? byte(at + element) & 15 : byte(at + element - count) >> 4;
/** Bit `index` of bytes in little-endian order. */
const bit = (byte: Block, at: number, index: number) => (byte(at + Math.floor(index / 8)) >> (index % 8)) & 1;

/** The scale and minimum of the j-th 32 elements of Q4_K and Q5_K. */
function sixBits(byte: Block, j: number): [number, number] {
  const s = (index: number) => byte(4 + index);
  if (j < 4) return [s(j) & 63, s(j + 4) & 63];
  return [(s(j + 4) & 15) | ((s(j - 4) >> 6) << 4), (s(j + 4) >> 4) | ((s(j) >> 6) << 4)];
}

function kBlock(bits: 4 | 5): Decoder {
  return (byte, element) => {
    const j = Math.floor(element / 32);
    const [scale, minimum] = sixBits(byte, j);
    const chunk = Math.floor(element / 64);
    const low = nibble(byte, (bits === 4 ? 16 : 48) + 32 * chunk, 32, element % 64);
    const high = bits === 4 ? 0 : (byte(16 + (element % 32)) >> j) & 1;
    return half(byte, 0) * scale * (low + 16 * high) - half(byte, 2) * minimum;
  };
}

/** The two bits of an element of Q2_K and Q3_K. */
const twoBits = (byte: Block, at: number, element: number) =>
  (byte(at + 32 * Math.floor(element / 128) + (element % 32)) >> (2 * (Math.floor(element / 32) % 4))) & 3;

function q3Scale(byte: Block, group: number): number {
  const low = (byte(96 + (group % 8)) >> (4 * Math.floor(group / 8))) & 15;
  return (low | (((byte(104 + (group % 4)) >> (2 * Math.floor(group / 4))) & 3) << 4)) - 32;
}

function q6(byte: Block, element: number): number {
  const [n, rest] = [Math.floor(element / 128), element % 128];
  const [quarter, l] = [Math.floor(rest / 32), rest % 32];
  const ql = byte(64 * n + 32 * (quarter % 2) + l);
  const low = quarter < 2 ? ql & 15 : ql >> 4;
  const high = (byte(128 + 32 * n + l) >> (2 * quarter)) & 3;
  return half(byte, 208) * signed(byte(192 + 8 * n + 2 * quarter + Math.floor(l / 16))) * ((low | (high << 4)) - 32);
}

function e4m3(bits: number): number {
  const magnitude = bits & 127;
  if (magnitude === 127) return 0;
  const [exponent, mantissa] = [magnitude >> 3, magnitude & 7];
  return exponent === 0 ? mantissa / 512 : (1 + mantissa / 8) * 2 ** (exponent - 7);
}

/** The files with golden blocks. */
export const goldenBlocks = ["blocks", "grids"].map((name) =>
  join(import.meta.dirname, `../golden/gguf/${name}.safetensors`),
) as [string, string];

/** Coordinate `place` of a grid's point. */
type GridValue = (point: number, place: number) => number;

const gridFile = memoized(() => parseSafetensors(readFileSync(goldenBlocks[1])).tensors);
const grid = memoized((type: string): GridValue => {
  const { data, shape } = gridFile().get(`${type}.grid`) as SafetensorsTensor<"U8">;
  const places = shape[1] as number;
  return (point, place) => data[point * places + place] as number;
});

const word = (byte: Block, at: number) => byte(at) | (byte(at + 1) << 8);
/** Sign `place` of eight, an even number of which is negative: seven are stored. */
function evenSign(seven: number, place: number): number {
  const ones = [0, 1, 2, 3, 4, 5, 6].filter((index) => (seven >> index) & 1);
  return (place < 7 ? ones.includes(place) : ones.length % 2 === 1) ? -1 : 1;
}
const sign = (byte: Block, at: number, element: number) => (bit(byte, at, element) === 1 ? -1 : 1);
/** Nibble `index` of bytes, the low one first. */
const nibbleOf = (byte: Block, at: number, index: number) =>
  (byte(at + Math.floor(index / 2)) >> (4 * (index % 2))) & 15;
/** Bits of 32 from a byte on: `first` to `first` + 6, or the upper four. */
const sevenBits = (byte: Block, at: number, first: number) =>
  Math.floor((word(byte, at) + word(byte, at + 2) * 65536) / 2 ** first) % 128;
const upperBits = (byte: Block, at: number) => byte(at + 3) >> 4;

/** Ternary digit `digit` of a byte of TQ1_0. */
const ternary = (byte: number, digit: number) => Math.floor((((byte * 3 ** digit) % 256) * 3) / 256);

function tq1(byte: Block, i: number): number {
  if (i < 160) return ternary(byte(i % 32), Math.floor(i / 32));
  if (i < 240) return ternary(byte(32 + (i % 16)), Math.floor((i - 160) / 16));
  return ternary(byte(48 + (i % 4)), Math.floor((i - 240) / 4));
}

/** The float16 of IQ1_M, of which each of four words has four bits. */
const dividedHalf = (byte: Block) =>
  fromF16([0, 1, 2, 3].reduce((bits, part) => bits + (byte(49 + 2 * part) >> 4) * 16 ** part, 0));

/** Writes it into the block that begins at `at`. */
export function writeDividedHalf(view: DataView, at: number, bits: number): void {
  for (let part = 0; part < 4; part++) {
    const place = at + 49 + 2 * part;
    view.setUint8(place, (view.getUint8(place) & 15) | (((bits >> (4 * part)) & 15) << 4));
  }
}

export const blockDecoders = {
  Q4_0: (byte, i) => (nibble(byte, 2, 16, i) - 8) * half(byte, 0),
  Q4_1: (byte, i) => nibble(byte, 4, 16, i) * half(byte, 0) + half(byte, 2),
  Q5_0: (byte, i) => (nibble(byte, 6, 16, i) + 16 * bit(byte, 2, i) - 16) * half(byte, 0),
  Q5_1: (byte, i) => (nibble(byte, 8, 16, i) + 16 * bit(byte, 4, i)) * half(byte, 0) + half(byte, 2),
  Q8_0: (byte, i) => signed(byte(2 + i)) * half(byte, 0),
  Q2_K: (byte, i) => {
    const scale = byte(Math.floor(i / 16));
    return half(byte, 80) * (scale & 15) * twoBits(byte, 16, i) - half(byte, 82) * (scale >> 4);
  },
  Q3_K: (byte, i) => {
    const high = (byte(i % 32) >> Math.floor(i / 32)) & 1;
    return half(byte, 108) * q3Scale(byte, Math.floor(i / 16)) * (twoBits(byte, 32, i) - (high ? 0 : 4));
  },
  Q4_K: kBlock(4),
  Q5_K: kBlock(5),
  Q6_K: q6,
  IQ4_NL: (byte, i) => (iq4[nibble(byte, 2, 16, i)] as number) * half(byte, 0),
  IQ4_XS: (byte, i) => {
    const ib = Math.floor(i / 32);
    const low = (byte(4 + Math.floor(ib / 2)) >> (4 * (ib % 2))) & 15;
    const high = ((byte(2) | (byte(3) << 8)) >> (2 * ib)) & 3;
    return half(byte, 0) * ((low | (high << 4)) - 32) * (iq4[nibble(byte, 8 + 16 * ib, 16, i % 32)] as number);
  },
  MXFP4: (byte, i) => (e2m1[nibble(byte, 1, 16, i)] as number) * 2 ** (byte(0) - 127),
  NVFP4: (byte, i) => {
    const group = Math.floor(i / 16);
    return (e2m1[nibble(byte, 4 + 8 * group, 8, i % 16)] as number) * e4m3(byte(group));
  },
  IQ1_S: (byte, i) => {
    const [group, quarter] = [Math.floor(i / 32), Math.floor(i / 8)];
    const bits = word(byte, 34 + 2 * group);
    const point = byte(2 + quarter) + 256 * ((bits >> (3 * (quarter % 4))) % 8);
    const delta = bits >= 32768 ? -1 / 8 : 1 / 8;
    return half(byte, 0) * (2 * ((bits >> 12) % 8) + 1) * (grid("IQ1_S")(point, i % 8) - 1 + delta);
  },
  IQ1_M: (byte, i) => {
    const [group, eighth] = [Math.floor(i / 16), Math.floor(i / 8)];
    const bits = nibbleOf(byte, 32, eighth);
    const point = byte(eighth) + 256 * (bits % 8);
    const scale = (word(byte, 48 + 2 * Math.floor(group / 4)) >> (3 * (group % 4))) % 8;
    return dividedHalf(byte) * (2 * scale + 1) * (grid("IQ1_S")(point, i % 8) - 1 + (bits >= 8 ? -1 / 8 : 1 / 8));
  },
  IQ2_XXS: (byte, i) => {
    const [at, part] = [2 + 8 * Math.floor(i / 32), Math.floor((i % 32) / 8)];
    const value = grid("IQ2_XXS")(byte(at + part), i % 8) * evenSign(sevenBits(byte, at + 4, 7 * part), i % 8);
    return half(byte, 0) * (0.5 + upperBits(byte, at + 4)) * 0.25 * value;
  },
  IQ2_XS: (byte, i) => {
    const bits = word(byte, 2 + 2 * Math.floor(i / 8));
    const scale = nibbleOf(byte, 66, Math.floor(i / 16));
    return half(byte, 0) * (0.5 + scale) * 0.25 * grid("IQ2_XS")(bits % 512, i % 8) * evenSign(bits >> 9, i % 8);
  },
  IQ2_S: (byte, i) => {
    const part = Math.floor(i / 8);
    const point = byte(2 + part) + 256 * ((byte(66 + Math.floor(part / 4)) >> (2 * (part % 4))) % 4);
    const scale = nibbleOf(byte, 74, Math.floor(i / 16));
    return half(byte, 0) * (0.5 + scale) * 0.25 * grid("IQ2_S")(point, i % 8) * sign(byte, 34, i);
  },
  IQ3_XXS: (byte, i) => {
    const [at, part] = [66 + 4 * Math.floor(i / 32), Math.floor((i % 32) / 8)];
    const value = grid("IQ3_XXS")(byte(2 + Math.floor(i / 4)), i % 4) * evenSign(sevenBits(byte, at, 7 * part), i % 8);
    return half(byte, 0) * (0.5 + upperBits(byte, at)) * 0.5 * value;
  },
  IQ3_S: (byte, i) => {
    const part = Math.floor(i / 4);
    const scale = nibbleOf(byte, 106, Math.floor(i / 32));
    const value = grid("IQ3_S")(byte(2 + part) + 256 * bit(byte, 66, part), i % 4);
    return half(byte, 0) * (1 + 2 * scale) * value * sign(byte, 74, i);
  },
  TQ1_0: (byte, i) => (tq1(byte, i) - 1) * half(byte, 52),
  TQ2_0: (byte, i) => (twoBits(byte, 0, i) - 1) * half(byte, 64),
  Q1_0: (byte, i) => (2 * bit(byte, 2, i) - 1) * half(byte, 0),
  Q2_0: (byte, i) => (((byte(2 + Math.floor(i / 4)) >> (2 * (i % 4))) & 3) - 1) * half(byte, 0),
} as const satisfies Record<string, Decoder>;

export type DecodedType = keyof typeof blockDecoders;

/** The values of blocks of `bytes` bytes and `elements` elements each. */
export function decodeBlocks(
  type: DecodedType,
  blocks: Uint8Array,
  { bytes, elements }: { readonly bytes: number; readonly elements: number },
): Float64Array {
  const decode: Decoder = blockDecoders[type];
  return Float64Array.from({ length: (blocks.length / bytes) * elements }, (_, index) => {
    const begin = Math.floor(index / elements) * bytes;
    return decode((at) => blocks[begin + at] as number, index % elements);
  });
}

/** Where a type's blocks have float16 values. */
export const halfPlaces: Readonly<Record<DecodedType, readonly number[]>> = {
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  Q2_K: [80, 82],
  Q3_K: [108],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
  IQ4_NL: [0],
  IQ4_XS: [0],
  MXFP4: [],
  NVFP4: [],
  IQ1_S: [0],
  // Divided among four bytes.
  IQ1_M: [],
  IQ2_XXS: [0],
  IQ2_XS: [0],
  IQ2_S: [0],
  IQ3_XXS: [0],
  IQ3_S: [0],
  TQ1_0: [52],
  TQ2_0: [64],
  Q1_0: [0],
  Q2_0: [0],
};

/** The types that weight formats are not written to: not every matrix of their formats has such blocks. */
export const readOnlyTypes: readonly DecodedType[] = [
  ...(["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"] as const),
  ...(["TQ1_0", "TQ2_0", "Q1_0"] as const),
];
