// Codes on their way from a file's blocks to a row of dense bits: one in a byte, four in a 32-bit word, in the order of
// the columns. Or units of a grid (see GridCodes), one in a word.

/** Mask of the lowest bit of each byte; times n, a mask or value n for each. */
export const eachByte = 0x01010101;

/**
 * Reads `bytes` bytes whose low nibbles are the first codes and whose high nibbles are the next ones.
 * @param first index of the first word to write.
 */
export function readNibbles(view: DataView, at: number, bytes: number, words: Uint32Array, first = 0): void {
  const count = bytes / 4;
  for (let index = 0; index < count; index++) {
    const packed = view.getUint32(at + 4 * index, true);
    words[first + index] = packed & 0x0f0f0f0f;
    words[first + count + index] = (packed >>> 4) & 0x0f0f0f0f;
  }
}

/** The opposite of {@link readNibbles}. */
export function writeNibbles(view: DataView, at: number, bytes: number, words: Uint32Array, first = 0): void {
  const count = bytes / 4;
  for (let index = 0; index < count; index++) {
    const low = (words[first + index] as number) & 0x0f0f0f0f;
    const high = (words[first + count + index] as number) & 0x0f0f0f0f;
    view.setUint32(at + 4 * index, low | (high << 4), true);
  }
}

/** Nibble `index` of bytes, the low one of each first. */
export function nibbleAt(view: DataView, at: number, index: number): number {
  return (view.getUint8(at + (index >> 1)) >> (4 * (index & 1))) & 15;
}

/** Four bits, one in each byte. */
export function spreadBits(bits: number): number {
  return (bits * 0x00204081) & eachByte;
}

/** Makes signed codes of those that are stored with an offset of half their range, or the other way round. */
export function flipSigns(words: Uint32Array, bits: number): void {
  const sign = eachByte << (bits - 1);
  for (let index = 0; index < words.length; index++) words[index] = (words[index] as number) ^ sign;
}

/** Writes codes of `bits` bits, lower columns in lower bits. @returns the first byte behind them. */
export function packWords(words: Uint32Array, bits: number, target: Uint8Array, at: number): number {
  let end = at;
  if (bits % 2 === 0) {
    for (let index = 0; index < words.length; index++) {
      let dense = denseWord(words[index] as number, bits);
      for (const next = end + bits / 2; end < next; dense >>>= 8) target[end++] = dense;
    }
    return end;
  }
  for (let index = 0; index < words.length; index += 2) {
    const second = denseWord(words[index + 1] as number, bits);
    let dense = denseWord(words[index] as number, bits) | (second << (4 * bits));
    for (const next = end + Math.min(4, bits); end < next; dense >>>= 8) target[end++] = dense;
    if (bits === 5) target[end++] = second >>> 12;
  }
  return end;
}

/** Writes units of `bits` bits side by side. @returns the first byte behind them, which they fill. */
export function packUnits(units: Uint32Array, bits: number, target: Uint8Array, at: number): number {
  let end = at;
  let pending = 0;
  let held = 0;
  for (const unit of units) {
    pending += unit * 2 ** held;
    for (held += bits; held >= 8; held -= 8, pending = Math.floor(pending / 256)) target[end++] = pending % 256;
  }
  return end;
}

/** The codes of a word side by side. */
function denseWord(word: number, bits: number): number {
  const mask = (1 << bits) - 1;
  const space = 8 - bits;
  return (
    (word & mask) |
    ((word >>> space) & (mask << bits)) |
    ((word >>> (2 * space)) & (mask << (2 * bits))) |
    ((word >>> (3 * space)) & (mask << (3 * bits)))
  );
}

/** The opposite of {@link packWords}: codes from number `first` on, which is a multiple of 8. */
export function unpackWords(codes: Uint8Array, bits: number, first: number, words: Uint32Array): void {
  const start = (first / 8) * bits;
  for (let index = 0; index < words.length; index++) {
    const place = 4 * index * bits;
    const at = start + (place >>> 3);
    const dense =
      (codes[at] as number) | ((codes[at + 1] ?? 0) << 8) | ((codes[at + 2] ?? 0) << 16) | ((codes[at + 3] ?? 0) << 24);
    // Four codes of an odd number of bits begin or end within a byte.
    words[index] = spreadWord(dense >>> (place & 7), bits);
  }
}

/** The opposite of {@link denseWord}. */
function spreadWord(dense: number, bits: number): number {
  const mask = (1 << bits) - 1;
  const space = 8 - bits;
  return (
    (dense & mask) |
    ((dense << space) & (mask << 8)) |
    ((dense << (2 * space)) & (mask << 16)) |
    ((dense << (3 * space)) & (mask << 24))
  );
}
