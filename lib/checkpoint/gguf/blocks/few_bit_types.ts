import { type BlockReader, type BlockType, negatedF16 } from "./block_type.js";
import { eachByte, nibbleAt, spreadBits } from "./code_words.js";
import { readTwoBits } from "./k_types.js";
import { readScale } from "./legacy_types.js";

// Blocks with one float16 scale whose codes count from -1, most of them to 1 and some to 2. Signed codes of two bits go
// from -2 to 1 instead, so both have the other sign here: codes and scales.

/** Codes that count from -1, or the other way round. */
const negated = (word: number) => (5 * eachByte - word) & (3 * eachByte);

function negate(words: Uint32Array): void {
  for (let index = 0; index < words.length; index++) words[index] = negated(words[index] as number);
}

const readNegatedScale =
  (place: number): BlockReader["readScales"] =>
  (view, at, { scales }, block) => {
    scales[block] = negatedF16(view.getUint16(at + place, true));
  };

export const q2_0: BlockType = {
  format: "i2_g64_f16",
  readCodes(view, at, words) {
    for (let index = 0; index < 16; index++) {
      const packed = view.getUint8(at + 2 + index);
      // Moves four neighbouring codes to a byte each.
      words[index] = negated((packed | (packed << 6) | (packed << 12) | (packed << 18)) & (3 * eachByte));
    }
  },
  readScales: readNegatedScale(0),
  writeCodes(view, at, words) {
    for (let index = 0; index < 16; index++) {
      const word = negated(words[index] as number);
      view.setUint8(at + 2 + index, (word | (word >> 6) | (word >> 12) | (word >> 18)) & 0xff);
    }
  },
  writeScales: (view, at, { scales }, block) => view.setUint16(at, negatedF16(scales[block] as number), true),
};

export const tq2_0: BlockReader = {
  format: "i2_g256_f16",
  readCodes(view, at, words) {
    readTwoBits(view, at, words);
    negate(words);
  },
  readScales: readNegatedScale(64),
};

/** Where bytes with ternary digits begin, how many there are, and the digits of each. The first digits of all come first. */
const ternaryParts = [
  [0, 32, 5],
  [32, 16, 5],
  [48, 4, 4],
] as const;

/** Ternary fractions: digit n of x / 256 is the integer of 3 * frac(3^n * x / 256). */
export const tq1_0: BlockReader = {
  format: "i2_g256_f16",
  readCodes(view, at, words) {
    let next = 0;
    for (const [first, bytes, digits] of ternaryParts) {
      for (let digit = 0, power = 1; digit < digits; digit++, power *= 3) {
        for (let place = at + first; place < at + first + bytes; place += 4) {
          const packed = view.getUint32(place, true);
          words[next++] = ternaryDigits(packed, power) | (ternaryDigits(packed >>> 8, power) << 8);
        }
      }
    }
    negate(words);
  },
  readScales: readNegatedScale(52),
};

/** The digits of the first and third byte. */
function ternaryDigits(packed: number, power: number): number {
  const each = 0x00ff00ff;
  return (((((packed & each) * power) & each) * 3) >>> 8) & each;
}

/** A bit for 1 or -1. */
export const q1_0: BlockReader = {
  format: "i2_g128_f16",
  readCodes(view, at, words) {
    for (let index = 0; index < 32; index++) {
      words[index] = 3 * eachByte - 2 * spreadBits(nibbleAt(view, at + 2, index));
    }
  },
  readScales: readScale,
};
