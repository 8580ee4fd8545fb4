import { types } from "node:util";
import { describe, invalidArgument, isMoeError, MoeError, unexpected } from "../errors.js";

// Values that users pass may be proxies, have properties that hide those of their class, or come from another realm. What
// is read here is what such a value is, not what it says; and what it throws when it is looked at is an error about the
// parameter.

/** What `read` finds in a value that a user passes. INVALID_ARGUMENT if its getters, its traps or a revoked proxy throw. */
export function attempt<T>(parameter: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw unreadable(parameter, cause);
  }
}

/** The error about a value that a user passes, whose getters, traps or revoked proxy threw `cause`. */
export function unreadable(parameter: string, cause: unknown): MoeError {
  if (isMoeError(cause)) return cause;
  const message = `${parameter}: expected a value that can be read, got one that throws (${describe(cause)})`;
  return new MoeError("INVALID_ARGUMENT", message, { cause });
}

/** Most entries of a list that a user passes: a proxy can say that it has more than fit into memory, an iterable has no end. */
export const longestList = 2 ** 20;

/** `Array.isArray`, but for a revoked proxy, for which that throws. */
export function isArray(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

const arrays = {
  Uint8Array,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
  BigUint64Array,
  BigInt64Array,
};

export type ArrayKind = keyof typeof arrays;
export type ArrayOfKind<K extends ArrayKind> = InstanceType<(typeof arrays)[K]>;

const kindOf = getter<string>(Uint8Array.prototype, Symbol.toStringTag);
const bufferOf = getter<ArrayBuffer>(Uint8Array.prototype, "buffer");
const byteOffsetOf = getter<number>(Uint8Array.prototype, "byteOffset");
const lengthOf = getter<number>(Uint8Array.prototype, "length");
const resizable = getter<boolean>(ArrayBuffer.prototype, "resizable");
const growable = getter<boolean>(SharedArrayBuffer.prototype, "growable");

/**
 * A plain array over the memory of `value`, whatever properties that has of its own.
 * @param expected describes it in the error.
 * @throws INVALID_ARGUMENT if it is of none of these kinds, or over a buffer that can change its length or that was
 * transferred away.
 */
export function typedArray<const K extends ArrayKind>(
  parameter: string,
  value: unknown,
  kinds: readonly K[],
  expected: string,
): ArrayOfKind<K> {
  const kind = kinds.find((candidate) => candidate === kindOf?.(value));
  if (kind === undefined) throw invalidArgument(parameter, expected, value);
  const buffer = bufferOf?.(value) as ArrayBuffer;
  if (types.isSharedArrayBuffer(buffer) ? growable?.(buffer) : resizable?.(buffer)) {
    const fixed = "an array over a buffer of fixed length; pass a copy (array.slice())";
    throw unexpected(parameter, fixed, "a resizable buffer");
  }
  try {
    return new arrays[kind](buffer, byteOffsetOf?.(value), lengthOf?.(value)) as ArrayOfKind<K>;
  } catch {
    throw unexpected(
      parameter,
      "an array with its buffer",
      "one whose buffer was transferred; transfer a copy instead",
    );
  }
}

const mapEntries = Map.prototype.entries;

/** The entries of a Map, whatever iterator it has of its own; undefined for any other value. */
export function entriesOfMap(value: unknown): [unknown, unknown][] | undefined {
  return types.isMap(value) ? [...mapEntries.call(value)] : undefined;
}

/**
 * A getter of a built-in class or of one that it extends, taken before anybody could replace it; undefined where this version of
 * Node has none. (A program may have replaced a built-in class by one that extends it.)
 */
function getter<T>(prototype: object | null, name: string | symbol): ((object: unknown) => T) | undefined {
  if (prototype === null) return undefined;
  const get = Object.getOwnPropertyDescriptor(prototype, name)?.get;
  return get ? (object) => get.call(object) as T : getter<T>(Object.getPrototypeOf(prototype), name);
}
