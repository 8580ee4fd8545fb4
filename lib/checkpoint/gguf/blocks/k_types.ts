import type { BlockScales, BlockType } from "./block_type.js";
import { eachByte, readNibbles, removeOffset } from "./code_words.js";

// Blocks of 256 whose scales are integers, with a float16 for all of them.

/** Where the code words of each 128 columns begin; 8 words have the codes of 32 columns. */
const halves = [0, 32] as const;

/** Two bits of 256 codes: each 32 bytes have four times 32 codes, the first in the lowest bits. */
function readTwoBits(view: DataView, at: number, words: Uint32Array): void {
  for (const half of halves) {
    for (let index = 0; index < 8; index++) {
      const packed = view.getUint32(at + half + 4 * index, true);
      for (let group = 0; group < 4; group++) {
        words[half + 8 * group + index] = (packed >>> (2 * group)) & (3 * eachByte);
      }
    }
  }
}

/** One bit of 256 codes: bit g of 32 bytes belongs to the g-th 32 codes; adds it `shift` bits above the others. */
function addBit(view: DataView, at: number, words: Uint32Array, shift: number, inverted = 0): void {
  for (let index = 0; index < 8; index++) {
    const packed = view.getUint32(at + 4 * index, true) ^ inverted;
    for (let group = 0; group < 8; group++) {
      const place = 8 * group + index;
      words[place] = (words[place] as number) | (((packed >>> group) & eachByte) << shift);
    }
  }
}

/** Four bits of 256 codes: each 32 bytes have 64 codes. */
function readFourBits(view: DataView, at: number, words: Uint32Array): void {
  for (let chunk = 0; chunk < 4; chunk++) readNibbles(view, at + 32 * chunk, 32, words, 16 * chunk);
}

/** Eight scales and minima of 6 bits, in 12 bytes behind the float16 values for all of them. */
const readSixBitScales: BlockType["readScales"] = (view, at, target, block) => {
  const { scales, zeros } = readSupers(view, at, target, block);
  for (let group = 0; group < 4; group++) {
    const low = view.getUint8(at + 4 + group);
    const high = view.getUint8(at + 8 + group);
    const both = view.getUint8(at + 12 + group);
    const place = 8 * block + group;
    scales[place] = low & 63;
    zeros[place] = high & 63;
    scales[place + 4] = (both & 15) | ((low >> 6) << 4);
    zeros[place + 4] = (both >> 4) | ((high >> 6) << 4);
  }
};

/** Reads a block's float16 values: the scale of its scales, and that of its minima. */
function readSupers(view: DataView, at: number, target: BlockScales, block: number) {
  const { scales, zeros, superScales, superZeros } = target as Required<BlockScales>;
  superScales[block] = view.getUint16(at, true);
  superZeros[block] = view.getUint16(at + 2, true);
  return { scales, zeros };
}

export const q2_k: BlockType = {
  format: "q2_k",
  readCodes: (view, at, words) => readTwoBits(view, at + 16, words),
  readScales(view, at, target, block) {
    const { scales, zeros } = readSupers(view, at + 80, target, block);
    for (let group = 0; group < 16; group++) {
      const both = view.getUint8(at + group);
      scales[16 * block + group] = both & 15;
      zeros[16 * block + group] = both >> 4;
    }
  },
};

export const q3_k: BlockType = {
  format: "q3_k",
  readCodes(view, at, words) {
    readTwoBits(view, at + 32, words);
    // The third bit is stored inverted: without it 4 is subtracted, which makes it the sign.
    addBit(view, at, words, 2, -1);
  },
  readScales(view, at, { scales, superScales }, block) {
    (superScales as Uint16Array)[block] = view.getUint16(at + 108, true);
    for (let group = 0; group < 16; group++) {
      const low = (view.getUint8(at + 96 + (group % 8)) >> (4 * (group >> 3))) & 15;
      const high = (view.getUint8(at + 104 + (group % 4)) >> (2 * (group >> 2))) & 3;
      scales[16 * block + group] = (low | (high << 4)) - 32;
    }
  },
};

export const q4_k: BlockType = {
  format: "q4_k",
  readCodes: (view, at, words) => readFourBits(view, at + 16, words),
  readScales: readSixBitScales,
};

export const q5_k: BlockType = {
  format: "q5_k",
  readCodes(view, at, words) {
    readFourBits(view, at + 48, words);
    addBit(view, at + 16, words, 4);
  },
  readScales: readSixBitScales,
};

export const q6_k: BlockType = {
  format: "q6_k",
  readCodes(view, at, words) {
    // Each 64 bytes of nibbles and 32 bytes of two bits have 128 codes.
    for (const half of halves) {
      for (let index = 0; index < 8; index++) {
        const first = view.getUint32(at + 2 * half + 4 * index, true);
        const second = view.getUint32(at + 2 * half + 32 + 4 * index, true);
        const high = view.getUint32(at + 128 + half + 4 * index, true);
        const place = half + index;
        words[place] = (first & (15 * eachByte)) | ((high & (3 * eachByte)) << 4);
        words[place + 8] = (second & (15 * eachByte)) | (((high >>> 2) & (3 * eachByte)) << 4);
        words[place + 16] = ((first >>> 4) & (15 * eachByte)) | (((high >>> 4) & (3 * eachByte)) << 4);
        words[place + 24] = ((second >>> 4) & (15 * eachByte)) | (((high >>> 6) & (3 * eachByte)) << 4);
      }
    }
    removeOffset(words, 6);
  },
  readScales(view, at, { scales, superScales }, block) {
    for (let group = 0; group < 16; group++) scales[16 * block + group] = view.getUint8(at + 192 + group);
    (superScales as Uint16Array)[block] = view.getUint16(at + 208, true);
  },
};

export const iq4_xs: BlockType = {
  format: "iq4_xs",
  readCodes(view, at, words) {
    for (let group = 0; group < 8; group++) readNibbles(view, at + 8 + 16 * group, 16, words, 8 * group);
  },
  readScales(view, at, { scales, superScales }, block) {
    (superScales as Uint16Array)[block] = view.getUint16(at, true);
    const high = view.getUint16(at + 2, true);
    for (let group = 0; group < 8; group++) {
      const low = (view.getUint8(at + 4 + (group >> 1)) >> (4 * (group & 1))) & 15;
      scales[8 * block + group] = (low | (((high >> (2 * group)) & 3) << 4)) - 32;
    }
  },
};
