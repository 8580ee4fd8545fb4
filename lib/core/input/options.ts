import { checkChoice, checkInteger, describe, invalidArgument, MoeError } from "../errors.js";
import { checkFloatDType, type FloatDType } from "../tensors/dtype.js";
import { attempt, isArray, longestList, unreadable } from "./foreign.js";
import { nearestHint } from "./nearest_name.js";

// Every options object that a user passes is described once, by a schema of the readers below. Reading it makes a new
// object: each field is read exactly once (so a getter cannot return something else after its check), checked, and
// given its default; names that are not in the schema are refused. Past the schema, code never looks at the user's
// object.

/**
 * Checks the value of the option `name` and returns it in its final form; throws INVALID_ARGUMENT. An option that was
 * not given is undefined.
 */
export type Reader<T> = (value: unknown, name: string) => T;

/** What a reader returns. */
export type Read<R> = R extends Reader<infer T> ? T : never;

/** A reader for each name of an options type: a schema that `satisfies` it has exactly these names. */
export type Fields<Options> = { readonly [Name in keyof Options]-?: Reader<unknown> };

type ReadFields<F> = { readonly [Name in keyof F]: Read<F[Name]> };

/** An integer from `minimum` to `maximum`. */
export function integer(minimum: number, maximum?: number): Reader<number> {
  return (value, name) => {
    checkInteger(name, value, minimum, maximum);
    return value;
  };
}

/** A number for which `fits` is true; `expected` describes such numbers in words. */
export function number(fits: (value: number) => boolean, expected: string): Reader<number> {
  return (value, name) => {
    if (typeof value === "number" && fits(value)) return value;
    throw invalidArgument(name, expected, value);
  };
}

/** A number that devices compute with in float32, which must fit as well once it is rounded to that. */
function float32(fits: (value: number) => boolean, expected: string): Reader<number> {
  const read = number(fits, expected);
  return (value, name) => {
    const given = read(value, name);
    if (fits(Math.fround(given))) return given;
    throw invalidArgument(name, `${expected} in float32`, given);
  };
}

export const finite = float32(Number.isFinite, "a finite number");
export const nonNegative = float32((value) => value >= 0 && Number.isFinite(value), "a finite number >= 0");
export const positive = float32((value) => value > 0 && Number.isFinite(value), "a finite number > 0");
export const positiveOrInfinite = float32((value) => value > 0, "a number > 0");

/** A bigint from `minimum` to 2^64 - 1, such as an address; `expected` describes it in words. */
export function unsigned64(minimum: bigint, expected: string): Reader<bigint> {
  return (value, name) => {
    if (typeof value === "bigint" && value >= minimum && value < 2n ** 64n) return value;
    throw invalidArgument(name, expected, value);
  };
}

export const boolean: Reader<boolean> = (value, name) => {
  if (typeof value === "boolean") return value;
  throw invalidArgument(name, "a boolean", value);
};

export const text: Reader<string> = (value, name) => {
  if (typeof value === "string") return value;
  throw invalidArgument(name, "a string", value);
};

/** A function, typed as `T`. */
export function callback<T>(): Reader<T> {
  return (value, name) => {
    if (typeof value === "function") return value as T;
    throw invalidArgument(name, "a function", value);
  };
}

/** One of the strings of a list. */
export function choice<const T extends string>(choices: readonly T[]): Reader<T> {
  return (value, name) => {
    checkChoice(name, value, choices);
    return value;
  };
}

/** A floating-point dtype. */
export const floatDType: Reader<FloatDType> = (value, name) => {
  checkFloatDType(name, value);
  return value;
};

/** Passes the value on, for checks that need more than the value, such as a bound that depends on a tensor's shape. */
export const unchecked: Reader<unknown> = (value) => value;

/** A list whose entries are each read once; at most `longestList` of them. */
export function list<T>(entry: Reader<T>): Reader<readonly T[]> {
  return (value, name) => {
    if (!isArray(value)) throw invalidArgument(name, "a list", value);
    const length = attempt(`${name}.length`, () => value.length);
    checkInteger(`${name}.length`, length, 0, longestList);
    return Array.from({ length }, (_, index) => readField(value, index, entry, `${name}[${index}]`));
  };
}

/** An object whose names the user chooses: its own enumerable fields, in a new object without a prototype. */
export function record<T>(entry: Reader<T>, expected: string): Reader<Readonly<Record<string, T>>> {
  return (value, name) => {
    checkObject(value, name, expected);
    const result = Object.create(null) as Record<string, T>;
    for (const key of attempt(name, () => Object.keys(value))) {
      result[key] = readField(value, key, entry, `${name}[${JSON.stringify(key)}]`);
    }
    return result;
  };
}

/** What options are that are left out, by their readers. */
const fallbacks = new WeakMap<Reader<unknown>, { readonly value: unknown }>();

/** An option that may be left out; it is then undefined or `fallback`. */
export function optional<T>(reader: Reader<T>): Reader<T | undefined>;
export function optional<T>(reader: Reader<T>, fallback: T): Reader<T>;
export function optional<T>(reader: Reader<T>, fallback?: T): Reader<T | undefined> {
  const read: Reader<T | undefined> = (value, name) => (value === undefined ? fallback : reader(value, name));
  fallbacks.set(read, { value: fallback });
  return read;
}

/** A boolean, or an object that `reader` reads. `expected` replaces the reader's own description in the error. */
export function booleanOr<T extends object>(reader: Reader<T>, expected?: string): Reader<boolean | T> {
  return (value, name) => {
    if (typeof value === "boolean") return value;
    if (expected !== undefined && typeof value !== "object") throw invalidArgument(name, expected, value);
    return reader(value, name);
  };
}

/**
 * An object with these options and no others. As in destructuring, fields may be inherited, but not from `Object.prototype`; own
 * enumerable names (what `...rest` would collect) must be known. Errors name a field `name.field`, or just `field` if `name` is "options".
 * @param marks an object that can be disposed of is accepted only if it has any of these fields.
 */
export function object<const F extends Readonly<Record<string, Reader<unknown>>>>(
  fields: F,
  example: string,
  marks: readonly string[] = [],
): Reader<ReadFields<F>> {
  const names = Object.keys(fields);
  const read = fieldsReader(fields);
  return (value, name) => {
    checkObject(value, name, `an object such as ${example}`, marks);
    for (const given of attempt(name, () => Object.keys(value))) {
      if (!Object.hasOwn(fields, given)) throw unknownOption(name, given, names);
    }
    return read(value, name);
  };
}

/**
 * A record as this package returns them, such as a routing. Each field is read once. Other fields are ignored, as the
 * record may come from a function that returns more.
 */
export function results<const F extends Readonly<Record<string, Reader<unknown>>>>(fields: F): Reader<ReadFields<F>> {
  const read = fieldsReader(fields);
  const names = Object.keys(fields);
  const expected = `an object such as { ${names.join(", ")} }`;
  return (value, name) => {
    checkObject(value, name, expected, names);
    return read(value, name);
  };
}

function fieldsReader<F extends Readonly<Record<string, Reader<unknown>>>>(
  fields: F,
): (value: object, name: string) => ReadFields<F> {
  const entries = Object.entries(fields).map(([field, reader]) => ({ field, reader, fallback: fallbacks.get(reader) }));
  return (value, name) => {
    const prefix = name === "options" ? "" : `${name}.`;
    const result: Record<string, unknown> = {};
    for (const { field, reader, fallback } of entries) {
      const place = prefix + field;
      const given = fieldOf(value, field, place);
      // Most options are left out, and readers called for nothing would be most of the time that a call takes here.
      result[field] = given === undefined && fallback ? fallback.value : reader(given, place);
    }
    return result as ReadFields<F>;
  };
}

/**
 * Reads a field of an object that a user passes, once; undefined if only `Object.prototype` has it, where any package of the
 * process may have put it. `place` names it in errors.
 */
function fieldOf(object: object, field: string | number, place: string): unknown {
  try {
    const value = (object as Record<string | number, unknown>)[field];
    return value !== undefined && field in Object.prototype && !hasField(object, field) ? undefined : value;
  } catch (cause) {
    throw unreadable(place, cause);
  }
}

/** Whether an object or one of its classes has a field. */
function hasField(object: object, field: string | number): boolean {
  for (let each: object | null = object; each !== null && each !== Object.prototype; ) {
    if (Object.hasOwn(each, field)) return true;
    each = Object.getPrototypeOf(each);
  }
  return false;
}

/** Reads a field and checks it. */
function readField<T>(object: object, field: string | number, reader: Reader<T>, place: string): T {
  return reader(fieldOf(object, field, place), place);
}

/** @param fields an object that can be disposed of is no tensor if it has any of these. */
function checkObject(
  value: unknown,
  name: string,
  expected: string,
  fields: readonly string[] = [],
): asserts value is object {
  if (typeof value === "object" && value !== null && hasOptions(value, fields)) return;
  throw invalidArgument(name, expected, value);
}

function hasOptions(value: object, fields: readonly string[]): boolean {
  try {
    // A tensor, an array or a Map has none of the options: whatever the caller meant by it would be ignored.
    if (ArrayBuffer.isView(value) || Symbol.iterator in value) return false;
    return !(Symbol.dispose in value) || fields.some((field) => field in value);
  } catch {
    return false; // a revoked proxy
  }
}

function unknownOption(object: string, given: string, names: readonly string[]): MoeError {
  const hint = nearestHint(given, names) || `; expected ${names.join(", ")}`;
  return new MoeError("INVALID_ARGUMENT", `${object}: there is no option ${describe(given)}${hint}`);
}
