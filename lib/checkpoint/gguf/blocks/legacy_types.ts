import { type BlockType, negatedF16 } from "./block_type.js";
import { eachByte, flipSigns, readNibbles, spreadBits, writeNibbles } from "./code_words.js";

// Blocks of 32 with one float16 scale.

export const readScale: BlockType["readScales"] = (view, at, { scales }, block) => {
  scales[block] = view.getUint16(at, true);
};

const writeScale: BlockType["writeScales"] = (view, at, { scales }, block) => {
  view.setUint16(at, scales[block] as number, true);
};

/** A scale and what ggml adds after scaling. */
const readScaleAndMinimum: BlockType["readScales"] = (view, at, { scales, zeros }, block) => {
  scales[block] = view.getUint16(at, true);
  (zeros as Uint16Array)[block] = negatedF16(view.getUint16(at + 2, true));
};

const writeScaleAndMinimum: BlockType["writeScales"] = (view, at, { scales, zeros }, block) => {
  view.setUint16(at, scales[block] as number, true);
  view.setUint16(at + 2, negatedF16((zeros as Uint16Array)[block] as number), true);
};

/** Nibbles, and a word with each code's fifth bit before them. */
function readFiveBits(view: DataView, at: number, words: Uint32Array): void {
  readNibbles(view, at + 4, 16, words);
  const fifth = view.getUint32(at, true);
  for (let index = 0; index < 8; index++) {
    words[index] = (words[index] as number) | (spreadBits((fifth >>> (4 * index)) & 15) << 4);
  }
}

function writeFiveBits(view: DataView, at: number, words: Uint32Array): void {
  writeNibbles(view, at + 4, 16, words);
  let fifth = 0;
  for (let index = 0; index < 8; index++) {
    const bits = ((words[index] as number) >>> 4) & eachByte;
    // Moves the lowest bits of four bytes together.
    fifth |= ((bits | (bits >>> 7) | (bits >>> 14) | (bits >>> 21)) & 15) << (4 * index);
  }
  view.setUint32(at, fifth, true);
}

export const q4_0: BlockType = {
  format: "i4_g32_f16",
  readCodes(view, at, words) {
    readNibbles(view, at + 2, 16, words);
    flipSigns(words, 4);
  },
  readScales: readScale,
  writeCodes(view, at, words) {
    flipSigns(words, 4);
    writeNibbles(view, at + 2, 16, words);
  },
  writeScales: writeScale,
};

export const q4_1: BlockType = {
  format: "q4_1",
  readCodes: (view, at, words) => readNibbles(view, at + 4, 16, words),
  readScales: readScaleAndMinimum,
  writeCodes: (view, at, words) => writeNibbles(view, at + 4, 16, words),
  writeScales: writeScaleAndMinimum,
};

export const q5_0: BlockType = {
  format: "i5_g32_f16",
  readCodes(view, at, words) {
    readFiveBits(view, at + 2, words);
    flipSigns(words, 5);
  },
  readScales: readScale,
  writeCodes(view, at, words) {
    flipSigns(words, 5);
    writeFiveBits(view, at + 2, words);
  },
  writeScales: writeScale,
};

export const q5_1: BlockType = {
  format: "q5_1",
  readCodes: (view, at, words) => readFiveBits(view, at + 4, words),
  readScales: readScaleAndMinimum,
  writeCodes: (view, at, words) => writeFiveBits(view, at + 4, words),
  writeScales: writeScaleAndMinimum,
};

export const q8_0: BlockType = {
  format: "i8_g32_f16",
  readCodes(view, at, words) {
    for (let index = 0; index < 8; index++) words[index] = view.getUint32(at + 2 + 4 * index, true);
  },
  readScales: readScale,
  writeCodes(view, at, words) {
    for (let index = 0; index < 8; index++) view.setUint32(at + 2 + 4 * index, words[index] as number, true);
  },
  writeScales: writeScale,
};

export const iq4_nl: BlockType = {
  format: "iq4_g32_f16",
  readCodes: (view, at, words) => readNibbles(view, at + 2, 16, words),
  readScales: readScale,
  writeCodes: (view, at, words) => writeNibbles(view, at + 2, 16, words),
  writeScales: writeScale,
};
