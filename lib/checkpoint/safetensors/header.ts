import { describe, invalidArgument } from "../../core/errors.js";
import { shapeText } from "../../core/tensors/shape.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { checkBeginning } from "../remedies.js";
import {
  isSafetensorsDType,
  isSafetensorsShape,
  type SafetensorsDType,
  safetensorsByteLength,
  safetensorsDTypeNames,
} from "./dtype.js";
import { JsonParser, type JsonRules } from "./json_parser.js";
import { atOnce, inPieces, type Pieces, pieceSize, sorted } from "./pieces.js";
import { isRecord, maximumJsonBytes } from "./strict_json.js";

/** The dtype, shape and place of a tensor in a file. */
export interface SafetensorsInfo {
  /** The type of its elements. */
  readonly dtype: SafetensorsDType;
  /** Its sizes, row-major; empty for a single number. */
  readonly shape: readonly number[];
  /** First byte, counted from the beginning of the file. */
  readonly byteOffset: number;
  /** Bytes of its elements in the file. */
  readonly byteLength: number;
}

/** A file's header, parsed and checked. */
export interface SafetensorsHeader {
  /** By name, in the order of their data. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  /** The file's `__metadata__`; empty if it has none. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** The file begins with the header's length in bytes, a little-endian u64. */
export const lengthBytes = 8;

/** More than any model has in one file: the largest models have about 150,000 in all files. */
const maximumTensors = 2 ** 18;
/** A tensor has about ten values; the metadata may have many. */
const rules: JsonRules = { total: 2 ** 22, perMember: 2 ** 16 };

const metadataKey = "__metadata__";

/**
 * Reads the header's length from the first bytes of a file and checks it against the file's length.
 * @throws BAD_CHECKPOINT
 */
export function headerLength(file: string, firstBytes: Uint8Array, fileBytes: number): number {
  if (fileBytes < lengthBytes) {
    throw badCheckpoint(file, `expected a safetensors file of at least ${lengthBytes} bytes, got ${fileBytes}`);
  }
  const { buffer, byteOffset } = firstBytes;
  const length = new DataView(buffer, byteOffset, lengthBytes).getBigUint64(0, true);
  if (length > maximumJsonBytes) {
    checkBeginning(file, firstBytes, "safetensors");
    throw badCheckpoint(
      file,
      `expected a safetensors header of at most ${maximumJsonBytes} bytes, got a length of ${length}`,
    );
  }
  if (lengthBytes + Number(length) > fileBytes) {
    throw badCheckpoint(
      file,
      `expected a header of ${length} bytes, got a file of ${fileBytes}: truncated, or not a safetensors file`,
    );
  }
  return Number(length);
}

/**
 * Parses a header and checks it: JSON without duplicate keys, known dtypes, sizes that match the offsets, and tensors
 * that tile the data, from the header's end to the file's end, without holes or overlaps.
 * @throws BAD_CHECKPOINT naming file and tensor.
 */
export function parseHeader(file: string, header: Uint8Array, fileBytes: number): SafetensorsHeader {
  return atOnce(parse(file, header, fileBytes));
}

/** {@link parseHeader} with pauses in which the event loop runs. */
export async function readHeader(
  file: string,
  header: Uint8Array,
  fileBytes: number,
  signal: AbortSignal | undefined,
): Promise<SafetensorsHeader> {
  return await inPieces(parse(file, header, fileBytes), signal);
}

type Entry = readonly [string, SafetensorsInfo];

function* parse(file: string, header: Uint8Array, fileBytes: number): Pieces<SafetensorsHeader> {
  if (header[0] !== "{".charCodeAt(0)) {
    throw badCheckpoint(file, `header: expected a JSON object from the first byte on`);
  }
  const dataOffset = lengthBytes + header.byteLength;
  const entries: Entry[] = [];
  let metadata: Record<string, string> = {};
  const parser = new JsonParser(`${file}: header`, header, rules, (name, value) => {
    if (name === metadataKey) metadata = parseMetadata(file, value);
    else if (entries.push([name, parseEntry(file, name, value, dataOffset)]) > maximumTensors) {
      throw badCheckpoint(file, `header: expected at most ${maximumTensors} tensors, got more`);
    }
  });
  yield* parser.parse();
  return { tensors: yield* tile(file, entries, dataOffset, fileBytes), metadata };
}

/**
 * The default alignment of the data. It suffices to align each tensor to its elements, if sorted by falling dtype size.
 */
export const defaultAlignment = 8;

/**
 * The head of a file whose data follow in the order of `tensors`: length, JSON, and spaces up to a multiple of
 * `alignment`.
 * @throws INVALID_ARGUMENT
 */
export function formatHeader(
  tensors: ReadonlyMap<string, Omit<SafetensorsInfo, "byteOffset">>,
  metadata: Readonly<Record<string, string>>,
  alignment: number = defaultAlignment,
): Uint8Array {
  let end = 0;
  const entries = Array.from(tensors, ([name, { dtype, shape, byteLength }]) => {
    const begin = end;
    end += byteLength;
    return [name, { dtype, shape, data_offsets: [begin, end] }] as const;
  });
  const head = Object.keys(metadata).length === 0 ? [] : [[metadataKey, metadata] as const];
  const members = [...head, ...entries].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const length = Math.ceil((lengthBytes + json.byteLength) / alignment) * alignment - lengthBytes;
  if (length > maximumJsonBytes) {
    throw invalidArgument("tensors", `names and metadata that fit into a header of ${maximumJsonBytes} bytes`, length);
  }
  const bytes = new Uint8Array(lengthBytes + length).fill(" ".charCodeAt(0));
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, lengthBytes);
  return bytes;
}

/** Throws INVALID_ARGUMENT unless `name` can name a tensor. */
export function checkTensorName(name: string): void {
  if (name === metadataKey || !isWellFormed(name)) {
    throw invalidArgument("tensors", `names in well-formed Unicode other than "${metadataKey}"`, name);
  }
}

/** Whether UTF-8 can encode `text`: false if it has lone surrogates. */
export function isWellFormed(text: string): boolean {
  return Buffer.from(text).toString() === text;
}

/** How errors name a file's tensor. */
export function tensorPlace(file: string, name: string): string {
  return `${file}: tensor ${JSON.stringify(name)}`;
}

function parseEntry(file: string, name: string, entry: unknown, dataOffset: number): SafetensorsInfo {
  const place = tensorPlace(file, name);
  if (!isWellFormed(name)) throw badCheckpoint(place, "expected a name in well-formed Unicode");
  if (!isRecord(entry)) throw badCheckpoint(place, `expected an object, got ${describe(entry)}`);
  const { dtype, shape, data_offsets: offsets, ...others } = entry;
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) {
    throw badCheckpoint(place, `expected only dtype, shape and data_offsets, got ${describe(unknown)}`);
  }
  if (!isSafetensorsDType(dtype)) {
    throw badCheckpoint(place, `dtype: expected one of ${safetensorsDTypeNames.join(", ")}, got ${describe(dtype)}`);
  }
  if (!isSafetensorsShape(shape)) {
    throw badCheckpoint(place, `shape: expected integers from 0 to 2^53 - 1, got ${jsonText(shape)}`);
  }
  if (!isSafetensorsShape(offsets) || offsets.length !== 2) {
    throw badCheckpoint(place, `data_offsets: expected [begin, end], got ${jsonText(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  const byteLength = safetensorsByteLength(dtype, shape);
  if (byteLength === undefined) {
    throw badCheckpoint(place, `expected a size in whole bytes, fewer than 2^50, got ${dtype} ${shapeText(shape)}`);
  }
  if (end - begin !== byteLength) {
    throw badCheckpoint(
      place,
      `expected ${byteLength} bytes of data for ${dtype} ${shapeText(shape)}, got data_offsets ${shapeText(offsets)}`,
    );
  }
  return { dtype, shape, byteOffset: dataOffset + begin, byteLength };
}

/** A value as short JSON. */
function jsonText(value: unknown): string {
  const text = JSON.stringify(value) ?? "none";
  return text.length > 100 ? `${text.slice(0, 97)}...` : text;
}

/** Sorts the tensors by place and checks that they tile the data. */
function* tile(
  file: string,
  entries: readonly Entry[],
  dataOffset: number,
  fileBytes: number,
): Pieces<ReadonlyMap<string, SafetensorsInfo>> {
  const tensors = new Map<string, SafetensorsInfo>();
  let end = dataOffset;
  for (const [name, info] of yield* sorted(entries, byPlace)) {
    const { byteOffset, byteLength } = info;
    if (byteOffset !== end) {
      throw badCheckpoint(
        tensorPlace(file, name),
        `data_offsets: expected to begin at ${end - dataOffset}, where the previous tensor ends, got ` +
          `${byteOffset - dataOffset}: ${byteOffset < end ? "overlap" : "hole"}`,
      );
    }
    end += byteLength;
    tensors.set(name, info);
    if (tensors.size % pieceSize === 0) yield;
  }
  if (end !== fileBytes) {
    throw badCheckpoint(
      file,
      `expected ${end} bytes according to the header, got ${fileBytes}: ${fileBytes < end ? "truncated" : "trailing bytes"}`,
    );
  }
  return tensors;
}

function byPlace([, a]: Entry, [, b]: Entry): number {
  return a.byteOffset - b.byteOffset || a.byteLength - b.byteLength;
}

function parseMetadata(file: string, metadata: unknown): Record<string, string> {
  if (!isRecord(metadata)) {
    throw badCheckpoint(file, `${metadataKey}: expected an object of strings, got ${describe(metadata)}`);
  }
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string") {
      throw badCheckpoint(file, `${metadataKey}.${key}: expected a string, got ${describe(value)}`);
    }
  }
  return Object.fromEntries(Object.entries(metadata)) as Record<string, string>;
}
