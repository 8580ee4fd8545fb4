import { badCheckpoint } from "../bad_checkpoint.js";
import type { Pieces } from "./pieces.js";

/** Nested objects and arrays. Files of checkpoints have about six levels. */
const maximumDepth = 64;
/** A string is decoded in one call, which must be short. */
const maximumStringBytes = 2 ** 24;
const maximumNumberBytes = 1024;
/** White space and tokens that are read between two yields. */
const spaceBytes = 2 ** 16;
const tokensPerPiece = 256;

/** What a text may have. The number of values is limited so that a malicious text cannot fill the memory. */
export interface JsonRules {
  /** Values in the whole text, including nested ones. */
  readonly total: number;
  /** Values in one member of the outermost object. */
  readonly perMember: number;
  /** Whether numbers may be NaN, Infinity and -Infinity, which Python writes; default false, as JSON has none. */
  readonly nonFinite?: boolean;
}

interface Level {
  /** One of the two is set. */
  readonly array: unknown[] | undefined;
  readonly object: Record<string, unknown> | undefined;
  /** Name of the member whose value comes next. */
  key: string;
}

type Expected = "value" | "value or end" | "name" | "name or end" | "colon" | "comma or end" | "nothing";

const [quote, backslash, comma, colon, space] = [0x22, 0x5c, 0x2c, 0x3a, 0x20];
const [openObject, closeObject, openArray, closeArray] = [0x7b, 0x7d, 0x5b, 0x5d];
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const numberSyntax = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
/** Whether a byte can be part of a number or a word. */
const isWordByte = Array.from({ length: 256 }, (_, byte) => /[-+.0-9A-Za-z]/.test(String.fromCharCode(byte)));
const words: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ["true", true],
  ["false", false],
  ["null", null],
]);
const nonFiniteNumbers: ReadonlyMap<string, unknown> = new Map(
  [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map((value) => [String(value), value]),
);

/**
 * Parses UTF-8 JSON whose outermost value is an object, in pieces, and passes on each member of that object when it is
 * complete. Stricter than JSON.parse: duplicate names are rejected, so that all readers see the same contents, and depth
 * and sizes are limited. Objects have no prototype, so that every name in them comes from the text.
 */
export class JsonParser {
  readonly #place: string;
  readonly #bytes: Buffer;
  readonly #rules: JsonRules;
  readonly #words: ReadonlyMap<string, unknown>;
  readonly #member: (name: string, value: unknown) => void;
  readonly #names = new Set<string>();
  readonly #levels: Level[] = [];
  #at = 0;
  #expected: Expected = "value";
  #values = 0;
  #valuesBefore = 0;

  /** @param place where the text comes from, for errors. */
  constructor(place: string, bytes: Uint8Array, rules: JsonRules, member: (name: string, value: unknown) => void) {
    this.#place = place;
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#rules = rules;
    this.#words = rules.nonFinite ? new Map([...words, ...nonFiniteNumbers]) : words;
    this.#member = member;
  }

  /** @throws BAD_CHECKPOINT, and what `member` throws. */
  *parse(): Pieces<void> {
    for (let tokens = 1; !this.#step(); tokens++) if (tokens % tokensPerPiece === 0) yield;
  }

  /** Reads one token. Returns true at the end of the text. */
  #step(): boolean {
    if (!this.#skipSpace()) return false;
    const byte = this.#bytes[this.#at];
    const level = this.#levels.at(-1);
    if (level === undefined) return this.#outside(byte);
    switch (this.#expected) {
      case "name or end":
        if (byte === closeObject) this.#close();
        else this.#name(level, byte);
        break;
      case "name":
        this.#name(level, byte);
        break;
      case "colon":
        if (byte !== colon) throw this.#unexpected();
        this.#expect("value");
        break;
      case "comma or end":
        if (byte === comma) this.#expect(level.object ? "name" : "value");
        else if (byte === (level.object ? closeObject : closeArray)) this.#close();
        else throw this.#unexpected();
        break;
      case "value or end":
        if (byte === closeArray) this.#close();
        else this.#value(byte);
        break;
      default:
        this.#value(byte);
    }
    return false;
  }

  /** Before or after the outermost object. */
  #outside(byte: number | undefined): boolean {
    if (this.#expected === "nothing") {
      if (byte === undefined) return true;
      throw this.#unexpected();
    }
    if (byte === openArray) throw badCheckpoint(this.#place, "expected a JSON object, got an array");
    if (byte !== openObject) throw this.#unexpected("a JSON object");
    this.#open(Object.create(null) as Record<string, unknown>, undefined);
    return false;
  }

  #name(level: Level, byte: number | undefined): void {
    if (byte !== quote) throw this.#unexpected();
    const name = this.#string();
    const outermost = this.#levels.length === 1;
    if (outermost ? this.#names.has(name) : Object.hasOwn(level.object as object, name)) {
      throw badCheckpoint(this.#place, `expected unique keys, got ${JSON.stringify(name)} twice`);
    }
    if (outermost) this.#names.add(name);
    level.key = name;
    this.#expected = "colon";
  }

  #value(byte: number | undefined): void {
    this.#countValue();
    if (byte === openObject) this.#open(Object.create(null) as Record<string, unknown>, undefined);
    else if (byte === openArray) this.#open(undefined, []);
    else this.#complete(byte === quote ? this.#string() : this.#word());
  }

  #open(object: Record<string, unknown> | undefined, array: unknown[] | undefined): void {
    if (this.#levels.length === maximumDepth) {
      throw badCheckpoint(this.#place, `expected JSON of at most ${maximumDepth} levels, got more`);
    }
    this.#levels.push({ object, array, key: "" });
    this.#expect(object ? "name or end" : "value or end");
  }

  #close(): void {
    const { object, array } = this.#levels.pop() as Level;
    this.#at++;
    if (this.#levels.length === 0) this.#expected = "nothing";
    else this.#complete(object ?? array);
  }

  /** Adds a complete value to its container. */
  #complete(value: unknown): void {
    const level = this.#levels.at(-1) as Level;
    this.#expected = "comma or end";
    if (this.#levels.length === 1) {
      this.#valuesBefore = this.#values;
      this.#member(level.key, value);
    } else if (level.array) level.array.push(value);
    else (level.object as Record<string, unknown>)[level.key] = value;
  }

  #countValue(): void {
    const { total, perMember } = this.#rules;
    this.#values++;
    if (this.#values > total) throw badCheckpoint(this.#place, `expected at most ${total} values, got more`);
    if (this.#values - this.#valuesBefore > perMember) {
      const name = JSON.stringify((this.#levels[0] as Level).key.slice(0, 60));
      throw badCheckpoint(this.#place, `${name}: expected at most ${perMember} values, got more`);
    }
  }

  #expect(what: Expected): void {
    this.#at++;
    this.#expected = what;
  }

  /** Returns false if the white space is so long that it counts as a step of its own. */
  #skipSpace(): boolean {
    const bytes = this.#bytes;
    const end = this.#at + spaceBytes;
    for (let byte = bytes[this.#at]; byte !== undefined && byte <= space; byte = bytes[this.#at]) {
      if (byte !== space && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) throw this.#unexpected();
      if (++this.#at === end) return false;
    }
    return true;
  }

  /** Reads the string that starts here. */
  #string(): string {
    const bytes = this.#bytes;
    const begin = this.#at;
    const limit = begin + maximumStringBytes;
    let at = begin + 1;
    let plain = true;
    for (let byte = bytes[at]; byte !== quote; byte = bytes[at]) {
      if (byte === undefined) throw badCheckpoint(this.#place, "expected valid UTF-8 JSON, got a string without end");
      if (at > limit) throw badCheckpoint(this.#place, `expected strings of at most ${maximumStringBytes} bytes`);
      if (byte === backslash) at++;
      if (byte === backslash || byte < space || byte > 0x7e) plain = false;
      at++;
    }
    this.#at = at + 1;
    if (plain) return bytes.toString("latin1", begin + 1, at);
    try {
      return JSON.parse(utf8.decode(bytes.subarray(begin, at + 1))) as string;
    } catch (cause) {
      throw badCheckpoint(this.#place, `expected valid UTF-8 JSON: ${(cause as Error).message}`, cause);
    }
  }

  /** Reads the number or word that starts here. */
  #word(): unknown {
    const begin = this.#at;
    let end = begin;
    while (isWordByte[this.#bytes[end] as number] && end - begin <= maximumNumberBytes) end++;
    const text = this.#bytes.toString("latin1", begin, end);
    const isNumber = numberSyntax.test(text) && text.length <= maximumNumberBytes;
    if (!isNumber && !this.#words.has(text)) throw this.#unexpected();
    this.#at = end;
    return isNumber ? Number(text) : this.#words.get(text);
  }

  #unexpected(expected = "valid UTF-8 JSON"): Error {
    const text = this.#bytes.toString("latin1", this.#at, this.#at + 16);
    const got = text === "" ? "its end" : JSON.stringify(text);
    return badCheckpoint(this.#place, `expected ${expected}, got ${got} at byte ${this.#at}`);
  }
}
