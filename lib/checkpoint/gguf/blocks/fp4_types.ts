import type { BlockType } from "./block_type.js";
import { readNibbles, writeNibbles } from "./code_words.js";

/** 32 codes and the exponent of their scale. */
export const mxfp4: BlockType = {
  format: "mxfp4",
  readCodes: (view, at, words) => readNibbles(view, at + 1, 16, words),
  readScales(view, at, { scales }, block) {
    scales[block] = view.getUint8(at);
  },
  writeCodes: (view, at, words) => writeNibbles(view, at + 1, 16, words),
  writeScales: (view, at, { scales }, block) => view.setUint8(at, scales[block] as number),
};

/** Four groups of 16 codes. The scale of a group is an e4m3 without sign; ggml takes what would be NaN for 0. */
export const nvfp4: BlockType = {
  format: "nvfp4",
  readCodes(view, at, words) {
    for (let group = 0; group < 4; group++) readNibbles(view, at + 4 + 8 * group, 8, words, 4 * group);
  },
  readScales(view, at, { scales }, block) {
    for (let group = 0; group < 4; group++) {
      const scale = view.getUint8(at + group) & 0x7f;
      scales[4 * block + group] = scale === 0x7f ? 0 : scale;
    }
  },
  writeCodes(view, at, words) {
    for (let group = 0; group < 4; group++) writeNibbles(view, at + 4 + 8 * group, 8, words, 4 * group);
  },
  writeScales(view, at, { scales }, block) {
    for (let group = 0; group < 4; group++) view.setUint8(at + group, scales[4 * block + group] as number);
  },
};
