import type { BlockScales, BlockType } from "./block_type.js";
import { eachByte, flipSigns, readNibbles, writeNibbles } from "./code_words.js";

// Blocks of 256 whose scales are integers, with a float16 for all of them.

/** Where the code words of each 128 columns begin; 8 words have the codes of 32 columns. */
const halves = [0, 32] as const;

/** Two bits of 256 codes: each 32 bytes have four times 32 codes, the first in the lowest bits. */
export function readTwoBits(view: DataView, at: number, words: Uint32Array): void {
  for (const half of halves) {
    for (let index = 0; index < 8; index++) {
      const packed = view.getUint32(at + half + 4 * index, true);
      for (let group = 0; group < 4; group++) {
        words[half + 8 * group + index] = (packed >>> (2 * group)) & (3 * eachByte);
      }
    }
  }
}

function writeTwoBits(view: DataView, at: number, words: Uint32Array): void {
  for (const half of halves) {
    for (let index = 0; index < 8; index++) {
      let packed = 0;
      for (let group = 0; group < 4; group++) {
        packed |= ((words[half + 8 * group + index] as number) & (3 * eachByte)) << (2 * group);
      }
      view.setUint32(at + half + 4 * index, packed, true);
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

/** The opposite of {@link addBit}: writes the bit that is `shift` bits above the lowest. */
function writeBit(view: DataView, at: number, words: Uint32Array, shift: number, inverted = 0): void {
  for (let index = 0; index < 8; index++) {
    let packed = 0;
    for (let group = 0; group < 8; group++) {
      packed |= (((words[8 * group + index] as number) >>> shift) & eachByte) << group;
    }
    view.setUint32(at + 4 * index, packed ^ inverted, true);
  }
}

/** Four bits of 256 codes: each 32 bytes have 64 codes. */
function readFourBits(view: DataView, at: number, words: Uint32Array): void {
  for (let chunk = 0; chunk < 4; chunk++) readNibbles(view, at + 32 * chunk, 32, words, 16 * chunk);
}

function writeFourBits(view: DataView, at: number, words: Uint32Array): void {
  for (let chunk = 0; chunk < 4; chunk++) writeNibbles(view, at + 32 * chunk, 32, words, 16 * chunk);
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

const writeSixBitScales: BlockType["writeScales"] = (view, at, source, block) => {
  const { scales, zeros } = writeSupers(view, at, source, block);
  for (let group = 0; group < 4; group++) {
    const place = 8 * block + group;
    const [scale, minimum] = [scales[place + 4] as number, zeros[place + 4] as number];
    view.setUint8(at + 4 + group, (scales[place] as number) | ((scale >> 4) << 6));
    view.setUint8(at + 8 + group, (zeros[place] as number) | ((minimum >> 4) << 6));
    view.setUint8(at + 12 + group, (scale & 15) | ((minimum & 15) << 4));
  }
};

/** Reads a block's float16 values: the scale of its scales, and that of its minima. */
function readSupers(view: DataView, at: number, target: BlockScales, block: number) {
  const { scales, zeros, superScales, superZeros } = target as Required<BlockScales>;
  superScales[block] = view.getUint16(at, true);
  superZeros[block] = view.getUint16(at + 2, true);
  return { scales, zeros };
}

function writeSupers(view: DataView, at: number, source: BlockScales, block: number) {
  const { scales, zeros, superScales, superZeros } = source as Required<BlockScales>;
  view.setUint16(at, superScales[block] as number, true);
  view.setUint16(at + 2, superZeros[block] as number, true);
  return { scales, zeros };
}

/** A scale of 6 bits with a sign, as the number from 0 to 63 that is stored. */
function sixBits(scale: number): number {
  const signed = (scale << 24) >> 24;
  if (signed < -32 || signed > 31) throw new Error(`a scale of ${signed} has more than 6 bits`);
  return signed + 32;
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
  writeCodes: (view, at, words) => writeTwoBits(view, at + 16, words),
  writeScales(view, at, source, block) {
    const { scales, zeros } = writeSupers(view, at + 80, source, block);
    for (let group = 0; group < 16; group++) {
      const place = 16 * block + group;
      view.setUint8(at + group, (scales[place] as number) | ((zeros[place] as number) << 4));
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
  writeCodes(view, at, words) {
    writeTwoBits(view, at + 32, words);
    writeBit(view, at, words, 2, -1);
  },
  writeScales(view, at, { scales, superScales }, block) {
    view.setUint16(at + 108, (superScales as Uint16Array)[block] as number, true);
    const add = (place: number, bits: number) => view.setUint8(place, view.getUint8(place) | bits);
    for (let group = 0; group < 16; group++) {
      const stored = sixBits(scales[16 * block + group] as number);
      add(at + 96 + (group % 8), (stored & 15) << (4 * (group >> 3)));
      add(at + 104 + (group % 4), (stored >> 4) << (2 * (group >> 2)));
    }
  },
};

export const q4_k: BlockType = {
  format: "q4_k",
  readCodes: (view, at, words) => readFourBits(view, at + 16, words),
  readScales: readSixBitScales,
  writeCodes: (view, at, words) => writeFourBits(view, at + 16, words),
  writeScales: writeSixBitScales,
};

export const q5_k: BlockType = {
  format: "q5_k",
  readCodes(view, at, words) {
    readFourBits(view, at + 48, words);
    addBit(view, at + 16, words, 4);
  },
  readScales: readSixBitScales,
  writeCodes(view, at, words) {
    writeFourBits(view, at + 48, words);
    writeBit(view, at + 16, words, 4);
  },
  writeScales: writeSixBitScales,
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
    flipSigns(words, 6);
  },
  readScales(view, at, { scales, superScales }, block) {
    for (let group = 0; group < 16; group++) scales[16 * block + group] = view.getUint8(at + 192 + group);
    (superScales as Uint16Array)[block] = view.getUint16(at + 208, true);
  },
  writeCodes(view, at, words) {
    flipSigns(words, 6);
    for (const half of halves) {
      for (let index = 0; index < 8; index++) {
        const place = half + index;
        const [a, b] = [words[place] as number, words[place + 8] as number];
        const [c, d] = [words[place + 16] as number, words[place + 24] as number];
        const low = 15 * eachByte;
        view.setUint32(at + 2 * half + 4 * index, (a & low) | ((c & low) << 4), true);
        view.setUint32(at + 2 * half + 32 + 4 * index, (b & low) | ((d & low) << 4), true);
        const high = (word: number) => (word >>> 4) & (3 * eachByte);
        view.setUint32(at + 128 + half + 4 * index, high(a) | (high(b) << 2) | (high(c) << 4) | (high(d) << 6), true);
      }
    }
  },
  writeScales(view, at, { scales, superScales }, block) {
    for (let group = 0; group < 16; group++) view.setUint8(at + 192 + group, scales[16 * block + group] as number);
    view.setUint16(at + 208, (superScales as Uint16Array)[block] as number, true);
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
  writeCodes(view, at, words) {
    for (let group = 0; group < 8; group++) writeNibbles(view, at + 8 + 16 * group, 16, words, 8 * group);
  },
  writeScales(view, at, { scales, superScales }, block) {
    view.setUint16(at, (superScales as Uint16Array)[block] as number, true);
    let high = 0;
    for (let group = 0; group < 8; group++) {
      const stored = sixBits(scales[8 * block + group] as number);
      const place = at + 4 + (group >> 1);
      view.setUint8(place, view.getUint8(place) | ((stored & 15) << (4 * (group & 1))));
      high |= (stored >> 4) << (2 * group);
    }
    view.setUint16(at + 2, high, true);
  },
};
