import { types } from "node:util";

// Values that users pass may be proxies, have properties that hide those of their class, or come from another realm. What
// is read here is what such a value is, not what it says.

/** `Array.isArray`, but for a revoked proxy, for which that throws. */
export function isArray(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

const arrays = { Float32Array, Float64Array, Uint16Array, Int32Array, Uint8Array };

/** A typed array that tensors can be made from. */
export type ForeignArray = Float32Array | Float64Array | Uint16Array | Int32Array | Uint8Array;

const typedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object;
const kindOf = getter<string>(typedArrayPrototype, Symbol.toStringTag);
const bufferOf = getter<ArrayBuffer>(typedArrayPrototype, "buffer");
const byteOffsetOf = getter<number>(typedArrayPrototype, "byteOffset");
const lengthOf = getter<number>(typedArrayPrototype, "length");
const resizable = getter<boolean>(ArrayBuffer.prototype, "resizable");
const growable = getter<boolean>(SharedArrayBuffer.prototype, "growable");

/** Why an array cannot be taken: of another kind, over a buffer that can change its length or that was transferred away. */
export type Unfit = "kind" | "resizable" | "transferred";

/** A plain array over the memory of `view`, whatever properties that has of its own. */
export function plainArray(view: ArrayBufferView): ForeignArray | Unfit {
  const kind = kindOf?.(view) as keyof typeof arrays | undefined;
  if (kind === undefined || !Object.hasOwn(arrays, kind)) return "kind";
  const buffer = bufferOf?.(view) as ArrayBuffer;
  if (types.isSharedArrayBuffer(buffer) ? growable?.(buffer) : resizable?.(buffer)) return "resizable";
  try {
    return new arrays[kind](buffer, byteOffsetOf?.(view), lengthOf?.(view));
  } catch {
    return "transferred";
  }
}

/** A getter of a built-in class, taken before anybody could replace it; undefined where this version of Node has none. */
function getter<T>(prototype: object, name: string | symbol): ((object: object) => T) | undefined {
  const get = Object.getOwnPropertyDescriptor(prototype, name)?.get;
  return get && ((object) => get.call(object) as T);
}
