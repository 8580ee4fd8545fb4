import type { FloatDType } from "../../core/tensors/dtype.js";
import { decodeHalves } from "../../core/tensors/half_arrays.js";

// Codes in host memory are rearranged here, a 32-bit word at a time where that is possible.

export type Elements = Uint8Array | Uint16Array | Uint32Array | Float32Array;

/** So many zeros in an array of the same kind. */
export function zerosLike<T extends Elements>(elements: T, length: number): T {
  return new (elements.constructor as new (length: number) => T)(length);
}

/** Bytes as 32-bit words; copied if they are misaligned. */
export function words(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, bytes.byteLength >> 2);
}

/** Bytes as elements of `size` bytes. */
export function elements(bytes: Uint8Array, size: number): Elements {
  if (size === 1) return bytes;
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const count = bytes.byteLength / size;
  return size === 2
    ? new Uint16Array(aligned.buffer, aligned.byteOffset, count)
    : new Uint32Array(aligned.buffer, aligned.byteOffset, count);
}

/** The values of floats' bytes. */
export function floatValues(dtype: FloatDType, bytes: Uint8Array): Float32Array {
  const { buffer } = new Uint8Array(bytes); // the file's own bytes need not be aligned
  return dtype === "f16" || dtype === "bf16" ? decodeHalves(new Uint16Array(buffer), dtype) : new Float32Array(buffer);
}

export function asBytes({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** A matrix of `rows` x `columns` transposed, tile by tile, so that both sides stay in the cache. */
export function transpose<T extends Elements>(source: T, rows: number, columns: number): T {
  const target = zerosLike(source, source.length);
  const tile = 32;
  for (let top = 0; top < rows; top += tile) {
    const bottom = Math.min(top + tile, rows);
    for (let left = 0; left < columns; left += tile) {
      const right = Math.min(left + tile, columns);
      for (let column = left; column < right; column++) {
        for (let row = top; row < bottom; row++) {
          target[column * rows + row] = source[row * columns + column] as number;
        }
      }
    }
  }
  return target;
}

/** The first `kept` bytes of every row of `stride` bytes. */
export function cropRows(bytes: Uint8Array, rows: number, stride: number, kept: number): Uint8Array {
  if (stride === kept) return bytes;
  const target = new Uint8Array(rows * kept);
  for (let row = 0; row < rows; row++) target.set(bytes.subarray(row * stride, row * stride + kept), row * kept);
  return target;
}

/**
 * Flips the highest bit of every code: from codes that have 2^(bits - 1) added to two's complement, and back. Rows are
 * streams of `columns` codes, lower ones in lower bits.
 */
export function flipHighestBits(codes: Uint8Array, rows: number, columns: number, bits: number): void {
  const stride = codes.byteLength / rows;
  const mask = new Uint8Array(stride);
  for (let column = 0; column < columns; column++) {
    const place = column * bits + bits - 1;
    mask[place >> 3] = (mask[place >> 3] as number) | (1 << (place & 7));
  }
  const first = mask[0] as number;
  if (codes.byteOffset % 4 !== 0 || stride % 4 !== 0) flipRows(codes, mask);
  else if (mask.some((byte) => byte !== first)) flipRows(words(codes), words(mask));
  else flipWords(new Int32Array(codes.buffer, codes.byteOffset, codes.byteLength >> 2), Math.imul(first, 0x01010101));
}

/** Four words at a time, which takes half as long as one. */
function flipWords(target: Int32Array, mask: number): void {
  const whole = target.length & ~3;
  for (let index = 0; index < whole; index += 4) {
    target[index] = (target[index] as number) ^ mask;
    target[index + 1] = (target[index + 1] as number) ^ mask;
    target[index + 2] = (target[index + 2] as number) ^ mask;
    target[index + 3] = (target[index + 3] as number) ^ mask;
  }
  for (let index = whole; index < target.length; index++) target[index] = (target[index] as number) ^ mask;
}

function flipRows(target: Uint8Array | Uint32Array, mask: Uint8Array | Uint32Array): void {
  const width = mask.length;
  for (let start = 0; start < target.length; start += width) {
    for (let index = 0; index < width; index++) {
      target[start + index] = (target[start + index] as number) ^ (mask[index] as number);
    }
  }
}

/** Codes of a stream in 32-bit words, lower ones in lower bits, a byte each. */
export function unpack(stream: Uint32Array, count: number, bits: number): Uint8Array {
  const target = new Uint8Array(count);
  const mask = (1 << bits) - 1;
  for (let index = 0; index < count; index++) {
    const place = index * bits;
    const shift = place & 31;
    let code = (stream[place >> 5] as number) >>> shift;
    if (shift + bits > 32) code |= (stream[(place >> 5) + 1] as number) << (32 - shift);
    target[index] = code & mask;
  }
  return target;
}

/** Codes of 32-bit words that have only whole codes, lower ones in lower bits, a byte each. */
export function unpackWords(packed: Uint32Array, count: number, bits: number): Uint8Array {
  const target = new Uint8Array(count);
  const perWord = Math.floor(32 / bits);
  const mask = (1 << bits) - 1;
  for (let index = 0, word = 0; index < count; word++) {
    const end = Math.min(index + perWord, count);
    for (let rest = packed[word] as number; index < end; rest >>>= bits) target[index++] = rest & mask;
  }
  return target;
}

/** Adds code number `index` to a stream of codes, zeros until now, that begins at the byte `start`. */
export function putCode(target: Uint8Array, start: number, index: number, code: number, bits: number): void {
  const place = index * bits;
  const at = start + (place >> 3);
  const wide = code << (place & 7);
  target[at] = (target[at] as number) | (wide & 255);
  if (wide > 255) target[at + 1] = (target[at + 1] as number) | (wide >> 8);
}

/** Rows of 32-bit words that have only whole codes, as rows that are streams in whole bytes. */
export function closeGaps(packed: Uint32Array, rows: number, columns: number, bits: number): Uint8Array {
  const width = packed.length / rows;
  const stride = Math.ceil((columns * bits) / 8);
  const target = new Uint8Array(rows * stride);
  for (let row = 0; row < rows; row++) {
    target.set(pack(unpackWords(packed.subarray(row * width, (row + 1) * width), columns, bits), bits), row * stride);
  }
  return target;
}

/** Rows of codes, a byte each, as rows that are streams in whole bytes. */
export function packRows(codes: Uint8Array, rows: number, bits: number): Uint8Array {
  const columns = codes.length / rows;
  if ((columns * bits) % 8 === 0) return pack(codes, bits);
  const stride = Math.ceil((columns * bits) / 8);
  const target = new Uint8Array(rows * stride);
  for (let row = 0; row < rows; row++) {
    target.set(pack(codes.subarray(row * columns, (row + 1) * columns), bits), row * stride);
  }
  return target;
}

/** Codes, a byte each, as a stream in whole bytes, lower ones in lower bits. */
function pack(codes: Uint8Array, bits: number): Uint8Array {
  if (bits === 8) return codes;
  const target = new Uint8Array(Math.ceil((codes.length * bits) / 8));
  let at = 0;
  let pending = 0;
  let count = 0;
  for (const code of codes) {
    pending |= code << count;
    count += bits;
    if (count < 8) continue;
    target[at++] = pending & 255;
    pending >>>= 8;
    count -= 8;
  }
  if (count > 0) target[at] = pending;
  return target;
}

/** Exchanges the halves of every byte. */
export function swapNibbles(bytes: Uint8Array): void {
  const whole = bytes.byteOffset % 4 === 0 ? words(bytes) : new Uint32Array(0);
  for (let index = 0; index < whole.length; index++) {
    const word = whole[index] as number;
    whole[index] = ((word & 0x0f0f0f0f) << 4) | ((word >>> 4) & 0x0f0f0f0f);
  }
  for (let index = 4 * whole.length; index < bytes.length; index++) {
    const byte = bytes[index] as number;
    bytes[index] = ((byte & 15) << 4) | (byte >> 4);
  }
}
