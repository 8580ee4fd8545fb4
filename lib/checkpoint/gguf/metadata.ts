import { badCheckpoint } from "../bad_checkpoint.js";
import type { Pieces } from "../safetensors/pieces.js";
import type { HeaderCursor } from "./header_cursor.js";

/** Typed arrays that hold a file's arrays of numbers. */
export type GgufArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | BigUint64Array
  | BigInt64Array
  | Float64Array;

/**
 * A value of a file's metadata. Integers of 64 bits are numbers where those are exact, else bigint. Text that is not
 * UTF-8, as some tokenizers have it, gets replacement characters.
 */
export type GgufValue = number | bigint | boolean | string | GgufArray | readonly boolean[] | readonly string[];

/** Longest string, and most elements of an array: far above any tokenizer. */
const maximumStringBytes = 2 ** 24;
export const maximumElements = 2 ** 22;
/** Longest key or name. */
const maximumNameBytes = 2 ** 16 - 1;

interface NumberType {
  readonly bytes: number;
  read(view: DataView, at: number): number | bigint;
  /** The elements of bytes that it owns. */
  array(buffer: ArrayBuffer): GgufArray;
}

/** An integer of 64 bits as a number, if that is exact. */
const exact = (value: bigint) => (BigInt.asIntN(54, value) === value ? Number(value) : value);

const numberTypes: ReadonlyMap<number, NumberType> = new Map([
  [0, { bytes: 1, read: (view, at) => view.getUint8(at), array: (buffer) => new Uint8Array(buffer) }],
  [1, { bytes: 1, read: (view, at) => view.getInt8(at), array: (buffer) => new Int8Array(buffer) }],
  [2, { bytes: 2, read: (view, at) => view.getUint16(at, true), array: (buffer) => new Uint16Array(buffer) }],
  [3, { bytes: 2, read: (view, at) => view.getInt16(at, true), array: (buffer) => new Int16Array(buffer) }],
  [4, { bytes: 4, read: (view, at) => view.getUint32(at, true), array: (buffer) => new Uint32Array(buffer) }],
  [5, { bytes: 4, read: (view, at) => view.getInt32(at, true), array: (buffer) => new Int32Array(buffer) }],
  [6, { bytes: 4, read: (view, at) => view.getFloat32(at, true), array: (buffer) => new Float32Array(buffer) }],
  [
    10,
    { bytes: 8, read: (view, at) => exact(view.getBigUint64(at, true)), array: (buffer) => new BigUint64Array(buffer) },
  ],
  [
    11,
    { bytes: 8, read: (view, at) => exact(view.getBigInt64(at, true)), array: (buffer) => new BigInt64Array(buffer) },
  ],
  [12, { bytes: 8, read: (view, at) => view.getFloat64(at, true), array: (buffer) => new Float64Array(buffer) }],
] satisfies [number, NumberType][]);

const uint32Type = 4;
const booleanType = 7;
const stringType = 8;
const arrayType = 9;

/** The key whose value says how the data are aligned; it has to be a u32. */
export const alignmentKey = "general.alignment";

/** Reads one key and its value. */
export function* readEntry(cursor: HeaderCursor): Pieces<readonly [string, GgufValue]> {
  const key = yield* readName(cursor, "metadata: key");
  const place = `metadata: ${JSON.stringify(key)}`;
  const type = yield* cursor.u32(place);
  if (key === alignmentKey && type !== uint32Type) {
    throw badCheckpoint(cursor.path, `${place}: expected a u32 (value type ${uint32Type}), got value type ${type}`);
  }
  return [key, yield* readValue(cursor, type, place)];
}

function* readValue(cursor: HeaderCursor, type: number, place: string): Pieces<GgufValue> {
  const numbers = numberTypes.get(type);
  if (numbers !== undefined) {
    const at = yield* cursor.take(numbers.bytes, place);
    return numbers.read(cursor.view, at);
  }
  if (type === booleanType) return yield* readBoolean(cursor, place);
  if (type === stringType) return yield* readString(cursor, place);
  if (type === arrayType) return yield* readArray(cursor, place);
  throw badCheckpoint(cursor.path, `${place}: expected a value type from 0 to 12, got ${type}`);
}

function* readArray(cursor: HeaderCursor, place: string): Pieces<GgufValue> {
  const type = yield* cursor.u32(place);
  const numbers = numberTypes.get(type);
  // A string has at least its length.
  const elementBytes = numbers?.bytes ?? (type === stringType ? 8 : type === booleanType ? 1 : undefined);
  if (elementBytes === undefined) {
    const got = type === arrayType ? "arrays, which ggml does not read either" : `value type ${type}`;
    throw badCheckpoint(cursor.path, `${place}: expected an array of numbers, booleans or strings, got ${got}`);
  }
  const count = yield* cursor.count(maximumElements, elementBytes, `${place}: elements`);
  if (numbers !== undefined) {
    const at = yield* cursor.take(count * elementBytes, place);
    return numbers.array(cursor.copy(at, count * elementBytes));
  }
  const values: (boolean | string)[] = [];
  const read = type === stringType ? readString : readBoolean;
  while (values.length < count) values.push(yield* read(cursor, place));
  return values as boolean[] | string[];
}

function* readBoolean(cursor: HeaderCursor, place: string): Pieces<boolean> {
  const at = yield* cursor.take(1, place);
  const value = cursor.view.getUint8(at);
  if (value <= 1) return value === 1;
  throw badCheckpoint(cursor.path, `${place}: expected a boolean, 0 or 1, got ${value}`);
}

function* readString(cursor: HeaderCursor, place: string): Pieces<string> {
  const length = yield* cursor.count(maximumStringBytes, 1, `${place}: bytes of a string`);
  return cursor.text(yield* cursor.take(length, place), length);
}

/** Reads the name of a key or tensor: UTF-8, and not empty. */
export function* readName(cursor: HeaderCursor, place: string): Pieces<string> {
  const length = yield* cursor.count(maximumNameBytes, 1, `${place}: bytes of a name`);
  const name = cursor.strictText(yield* cursor.take(length, place), length);
  if (name !== undefined && name !== "") return name;
  throw badCheckpoint(cursor.path, `${place}: expected a name in UTF-8, got ${name === "" ? "none" : "other bytes"}`);
}
