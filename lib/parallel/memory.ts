import { dtypes, type FloatDType, type RawArrayOf } from "../core/tensors/dtype.js";
import type { Tensor } from "../core/tensors/tensor.js";

// Memory of frames, used again. If each request had fresh memory, the garbage collector would be busy with large ones for longer
// than it takes to fill them, on threads that the experts need.

/** Smaller memory is left to the garbage collector. */
const smallestKept = 2 ** 16;
/** Bytes that are kept for later. */
const mostKept = 2 ** 27;

const kept: ArrayBuffer[] = [];
let bytesKept = 0;

/** Memory from a multiple of 8 bytes on, with anything in it. */
export function takeMemory(bytes: number): Buffer {
  if (bytes < smallestKept) return Buffer.alloc(bytes);
  // In powers of two, so that requests of about as many tokens can use the same.
  const capacity = 2 ** Math.ceil(Math.log2(bytes));
  const found = kept.findIndex(({ byteLength }) => byteLength === capacity);
  if (found < 0) return Buffer.from(new ArrayBuffer(capacity), 0, bytes);
  const [memory] = kept.splice(found, 1) as [ArrayBuffer];
  bytesKept -= capacity;
  return Buffer.from(memory, 0, bytes);
}

/** Gives back memory that was taken; nothing may use it any more. */
export function giveMemory({ buffer }: ArrayBufferView): void {
  const { byteLength } = buffer;
  if (byteLength < smallestKept || bytesKept + byteLength > mostKept) return;
  bytesKept += byteLength;
  kept.push(buffer as ArrayBuffer);
}

/** The stored bits of a tensor, in memory to be given back. */
export async function readBits<D extends FloatDType | "i32">(tensor: Tensor<D>): Promise<RawArrayOf<D>> {
  const memory = takeMemory(tensor.byteLength);
  const { raw } = dtypes[tensor.dtype];
  const bits = new raw(memory.buffer as ArrayBuffer, memory.byteOffset, tensor.size) as RawArrayOf<D>;
  await tensor.readInto(bits);
  return bits;
}
