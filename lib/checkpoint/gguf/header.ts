import { describe } from "../../core/errors.js";
import { shapeText } from "../../core/tensors/shape.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { checkBeginning } from "../remedies.js";
import { tensorPlace } from "../safetensors/header.js";
import { atOnce, inPieces, type Pieces } from "../safetensors/pieces.js";
import type { TransferOptions } from "../safetensors/regular_file.js";
import { HeaderCursor } from "./header_cursor.js";
import { alignmentKey, type GgufValue, readEntry, readName } from "./metadata.js";
import { type GgufType, ggufByteLength, ggufTypeNames, ggufTypeOf, ggufTypes, typeIdText } from "./types.js";

/** The type, shape and place of a tensor in a file. */
export interface GgufInfo {
  /** How its elements are stored. */
  readonly type: GgufType;
  /** Sizes from the outermost on, so that the last one is a row's: the reverse of ggml's order. */
  readonly shape: readonly number[];
  /** First byte, counted from the beginning of the file. */
  readonly byteOffset: number;
  /** Bytes of its elements in the file. */
  readonly byteLength: number;
}

/** A file's header, parsed and checked. */
export interface GgufHeader {
  /** 2 or 3. */
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** By name, in the order of their data. */
  readonly tensors: ReadonlyMap<string, GgufInfo>;
}

const magic = 0x46554747; // "GGUF"
const magicText = "GGUF";
/** More than any model has: the largest have about 150,000 tensors, in all their files. */
const maximumTensors = 2 ** 18;
const maximumEntries = 2 ** 16;
/** The least bytes of an entry of the metadata (key, type, value), and of a tensor (name, rank, type, offset). */
const leastEntryBytes = 8 + 1 + 4 + 1;
const leastTensorBytes = 8 + 1 + 4 + 4 + 8;
/** ggml's GGML_MAX_DIMS. */
const maximumRank = 4;
const defaultAlignment = 32;

/**
 * Parses the header of a file in memory and checks it; see {@link readHeader}.
 * @throws BAD_CHECKPOINT naming file and tensor.
 */
export function parseHeader(path: string, file: Uint8Array): GgufHeader {
  return atOnce(parse(new HeaderCursor(path, file.byteLength, file)));
}

/** Where a header's bytes come from. */
interface Source {
  readonly path: string;
  readonly size: number;
  read(target: Uint8Array, position: number, options?: TransferOptions): Promise<void>;
}

/**
 * Reads a header and checks it, with pauses in which the event loop runs: known types, rows of whole blocks, unique
 * names, and tensors that follow each other in the order of the header, each aligned, within the file and without a rest.
 * @throws BAD_CHECKPOINT naming file and tensor; the signal's reason.
 */
export async function readHeader(file: Source, signal: AbortSignal | undefined): Promise<GgufHeader> {
  const read = (target: Uint8Array, position: number) => file.read(target, position, { signal });
  return await inPieces(parse(new HeaderCursor(file.path, file.size, read)), signal);
}

function* parse(cursor: HeaderCursor): Pieces<GgufHeader> {
  const { path } = cursor;
  const version = yield* readVersion(cursor);
  const tensorCount = yield* cursor.count(maximumTensors, leastTensorBytes, "number of tensors");
  const entryCount = yield* cursor.count(maximumEntries, leastEntryBytes, "number of metadata entries");
  const metadata = new Map<string, GgufValue>();
  while (metadata.size < entryCount) {
    const [key, value] = yield* readEntry(cursor);
    if (metadata.has(key))
      throw badCheckpoint(path, `metadata: expected unique keys, got ${JSON.stringify(key)} twice`);
    metadata.set(key, value);
  }
  const align = aligner(path, metadata.get(alignmentKey));
  const tensors = new Map<string, GgufInfo>();
  let end = 0;
  while (tensors.size < tensorCount) {
    const name = yield* readName(cursor, `tensor ${tensors.size}`);
    if (tensors.has(name)) throw badCheckpoint(path, `expected unique tensors, got ${JSON.stringify(name)} twice`);
    const info = yield* readInfo(cursor, name, align(end));
    end = info.byteOffset + info.byteLength;
    tensors.set(name, info);
  }
  return { version, metadata, tensors: place(cursor, tensors, align, end) };
}

function* readVersion(cursor: HeaderCursor): Pieces<number> {
  const { path } = cursor;
  const first = yield* cursor.u32(magicText);
  if (first !== magic) {
    const firstBytes = new Uint8Array(Uint32Array.of(first).buffer);
    checkBeginning(path, firstBytes, magicText);
    const begins = describe(Buffer.from(firstBytes).toString("latin1"));
    throw badCheckpoint(
      path,
      `expected a GGUF file, which begins with "${magicText}", got one that begins with ${begins}`,
    );
  }
  const version = yield* cursor.u32("version");
  if (version === 2 || version === 3) return version;
  const swapped = version > 0 && version % 2 ** 16 === 0;
  throw badCheckpoint(path, `expected GGUF version 2 or 3, got ${swapped ? "a big-endian file" : version}`);
}

/** Rounds up to the data's alignment. */
function aligner(path: string, value: GgufValue = defaultAlignment): (offset: number) => number {
  const alignment = value as number;
  if (alignment === 0 || (alignment & (alignment - 1)) !== 0) {
    throw badCheckpoint(path, `metadata: ${alignmentKey}: expected a power of two, got ${alignment}`);
  }
  return (offset) => Math.ceil(offset / alignment) * alignment;
}

/** Reads a tensor's entry; `expected` is where its data must begin, counted from the data's beginning. */
function* readInfo(cursor: HeaderCursor, name: string, expected: number): Pieces<GgufInfo> {
  const place = tensorPlace(cursor.path, name);
  const fail = (problem: string) => badCheckpoint(place, problem);
  const what = `tensor ${JSON.stringify(name)}`;
  const rank = yield* cursor.u32(what);
  if (rank > maximumRank) throw fail(`expected at most ${maximumRank} dimensions, got ${rank}`);
  const shape: number[] = [];
  while (shape.length < rank) {
    const size = yield* cursor.u64(what);
    if (size >= 2n ** 50n) throw fail(`expected sizes below 2^50, got ${size}`);
    shape.unshift(Number(size));
  }
  const id = yield* cursor.u32(what);
  const type = ggufTypeOf(id);
  if (type === undefined) throw fail(`expected one of the types ${ggufTypeNames.join(", ")}, got ${typeIdText(id)}`);
  const { elements } = ggufTypes[type];
  if ((shape.at(-1) ?? 1) % elements !== 0) {
    throw fail(`expected rows of whole blocks of ${elements} elements for ${type}, got ${shapeText(shape)}`);
  }
  const byteLength = ggufByteLength(type, shape);
  if (byteLength === undefined) throw fail(`expected fewer than 2^50 bytes, got ${type} ${shapeText(shape)}`);
  const offset = yield* cursor.u64(what);
  if (offset !== BigInt(expected)) {
    throw fail(`offset: expected ${expected}, the aligned end of the tensor before, got ${offset}`);
  }
  return { type, shape, byteOffset: expected, byteLength };
}

/** The tensors with offsets from the beginning of the file, once it is clear that it has exactly their data. */
function place(
  { path, position, fileBytes }: HeaderCursor,
  tensors: ReadonlyMap<string, GgufInfo>,
  align: (offset: number) => number,
  dataBytes: number,
): ReadonlyMap<string, GgufInfo> {
  const dataOffset = align(position);
  const end = tensors.size === 0 ? position : dataOffset + dataBytes;
  if (fileBytes < end) {
    const last = [...tensors].find(
      ([, { byteOffset, byteLength }]) => dataOffset + byteOffset + byteLength > fileBytes,
    );
    throw badCheckpoint(
      last === undefined ? path : tensorPlace(path, last[0]),
      `expected ${end} bytes according to the header, got ${fileBytes}: truncated`,
    );
  }
  const padded = dataOffset + align(dataBytes);
  if (fileBytes > padded) {
    throw badCheckpoint(path, `expected ${padded} bytes according to the header, got ${fileBytes}: trailing bytes`);
  }
  return new Map(Array.from(tensors, ([name, info]) => [name, { ...info, byteOffset: dataOffset + info.byteOffset }]));
}
