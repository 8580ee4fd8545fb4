import { availableParallelism } from "node:os";
import { loadedNative, type NativeBinding } from "../../../core/addon/native.js";
import type { ScaleLevel, WeightFormat } from "../../../core/formats/weight_format.js";
import { findFormat, rowBytes, scaleBytes, weightFormat } from "../../../core/formats/weight_formats.js";
import { newBytes } from "../../../core/tensors/allocated.js";
import { badCheckpoint } from "../../bad_checkpoint.js";
import { firstNonFinite } from "../../non_finite.js";
import { asBytes } from "../../schemes/bits.js";
import { type GgufType, ggufTypes } from "../types.js";
import type { BlockReader, BlockScales, BlockType } from "./block_type.js";
import { packUnits, packWords, unpackWords } from "./code_words.js";
import { q1_0, q2_0, tq1_0, tq2_0 } from "./few_bit_types.js";
import { mxfp4, nvfp4 } from "./fp4_types.js";
import { iq1_m, iq1_s, iq2_s, iq2_xs, iq2_xxs, iq3_s, iq3_xxs } from "./grid_types.js";
import { iq4_xs, q2_k, q3_k, q4_k, q5_k, q6_k } from "./k_types.js";
import { iq4_nl, q4_0, q4_1, q5_0, q5_1, q8_0 } from "./legacy_types.js";

/** The quantised types that weight formats become. */
const writtenTypes: ReadonlyMap<GgufType, BlockType> = new Map<GgufType, BlockType>([
  ["Q4_0", q4_0],
  ["Q4_1", q4_1],
  ["Q5_0", q5_0],
  ["Q5_1", q5_1],
  ["Q8_0", q8_0],
  ["Q2_K", q2_k],
  ["Q3_K", q3_k],
  ["Q4_K", q4_k],
  ["Q5_K", q5_k],
  ["Q6_K", q6_k],
  ["IQ4_NL", iq4_nl],
  ["IQ4_XS", iq4_xs],
  ["MXFP4", mxfp4],
  ["NVFP4", nvfp4],
  ["Q2_0", q2_0],
]);

/** The weight formats that have blocks in GGUF, by GGUF's names where formats have such a name. */
export const formatsWithBlocks: readonly string[] = Array.from(writtenTypes, ([type, { format }]) => {
  const name = type.toLowerCase();
  return findFormat(name) === undefined ? format : name;
});

/** The quantised types that become weight formats. Not every matrix of the formats of the others has such blocks. */
export const blockTypes: ReadonlyMap<GgufType, BlockReader> = new Map<GgufType, BlockReader>([
  ...writtenTypes,
  ["IQ1_S", iq1_s],
  ["IQ1_M", iq1_m],
  ["IQ2_XXS", iq2_xxs],
  ["IQ2_XS", iq2_xs],
  ["IQ2_S", iq2_s],
  ["IQ3_XXS", iq3_xxs],
  ["IQ3_S", iq3_s],
  ["TQ1_0", tq1_0],
  ["TQ2_0", tq2_0],
  ["Q1_0", q1_0],
]);

/** A matrix's codes and scales, as the fields of QuantizedWeight hold them. */
export interface BlockWeight extends BlockScales {
  readonly codes: Uint8Array;
}

/** Blocks of one type, and what becomes of them. */
interface Conversion {
  readonly type: GgufType;
  readonly reader: BlockReader;
  readonly format: WeightFormat;
  readonly blocks: Uint8Array;
  readonly view: DataView;
  readonly count: number;
  readonly codes: Uint8Array;
  readonly scales: BlockScales;
}

/**
 * The codes and scales of a matrix that a GGUF file stores as `blocks`, row after row: the values are the same. Those of
 * NVFP4 lack the super scale, which is another tensor.
 * @param place where the blocks come from, for errors.
 * @throws BAD_CHECKPOINT for a scale that is no number.
 */
export function convertBlocks(type: GgufType, blocks: Uint8Array, place: string): BlockWeight {
  const conversion = begin(type, blocks);
  readCodes(conversion);
  return finish(conversion, place);
}

/** The same. If the addon is loaded, threads of its own read the codes. */
export async function convertBlocksAside(type: GgufType, blocks: Uint8Array, place: string): Promise<BlockWeight> {
  const native = loadedNative();
  if (native === undefined) return convertBlocks(type, blocks, place);
  const conversion = begin(type, blocks);
  const reading = readCodesAside(native, conversion);
  try {
    return finish(conversion, place);
  } finally {
    await reading;
  }
}

function begin(type: GgufType, blocks: Uint8Array): Conversion {
  const reader = blockTypes.get(type) as BlockReader;
  const { elements, bytes } = ggufTypes[type];
  const count = blocks.byteLength / bytes;
  const format = weightFormat(reader.format);
  const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.byteLength);
  const codes = newBytes(rowBytes(format, count * elements));
  return { type, reader, format, blocks, view, count, codes, scales: allocateScales(format, count * elements) };
}

function readCodes({ type, reader, format, view, count, codes }: Conversion): void {
  const { elements, bytes } = ggufTypes[type];
  const { bits, grid } = format;
  const words = new Uint32Array(grid === undefined ? elements / 4 : elements / 8);
  for (let block = 0, end = 0; block < count; block++) {
    reader.readCodes(view, block * bytes, words);
    end = grid === undefined ? packWords(words, bits, codes, end) : packUnits(words, grid.bits, codes, end);
  }
}

/** Threads that convert a matrix: libuv has four unless UV_THREADPOOL_SIZE says otherwise. */
const threads = Math.min(4, availableParallelism());
/** Fewer are not worth a thread. */
const leastBlocks = 1024;

async function readCodesAside(native: NativeBinding, { type, blocks, count, codes }: Conversion): Promise<void> {
  const { bytes } = ggufTypes[type];
  const codeBytes = codes.byteLength / count;
  const piece = Math.max(leastBlocks, Math.ceil(count / threads));
  const pieces: Promise<void>[] = [];
  for (let first = 0; first < count; first += piece) {
    const end = Math.min(first + piece, count);
    const from = blocks.subarray(first * bytes, end * bytes);
    const to = codes.subarray(first * codeBytes, end * codeBytes);
    pieces.push(native.convertGgufCodes(type, end - first, from, to));
  }
  await Promise.all(pieces);
}

function finish({ type, reader, format, view, count, codes, scales }: Conversion, place: string): BlockWeight {
  const { bytes } = ggufTypes[type];
  for (let block = 0; block < count; block++) reader.readScales(view, block * bytes, scales, block);
  checkScales(format, scales, place);
  return { codes, ...scales };
}

/** The type whose blocks have what a weight format has; undefined if there is none. */
export function blockTypeOf(format: WeightFormat): GgufType | undefined {
  return [...writtenTypes].find(([, { format: name }]) => weightFormat(name) === format)?.[0];
}

/** The opposite of {@link convertBlocks}, of rows of whole blocks. Scales of NVFP4's scales are left to another tensor. */
export function toBlocks(type: GgufType, { codes, ...scales }: BlockWeight): Uint8Array {
  const { format: name, writeCodes, writeScales } = writtenTypes.get(type) as BlockType;
  const { elements, bytes } = ggufTypes[type];
  const { bits } = weightFormat(name);
  const count = (codes.byteLength * 8) / bits / elements;
  const blocks = newBytes(count * bytes);
  const view = new DataView(blocks.buffer);
  const words = new Uint32Array(elements / 4);
  for (let block = 0; block < count; block++) {
    unpackWords(codes, bits, block * elements, words);
    writeCodes(view, block * bytes, words);
    writeScales(view, block * bytes, scales, block);
  }
  return blocks;
}

function allocateScales({ scales, superScales, offset }: WeightFormat, elements: number): BlockScales {
  const values = ({ type, columns }: ScaleLevel) => {
    return new (scaleBytes(type) === 2 ? Uint16Array : Uint8Array)(elements / columns);
  };
  const perBlock = superScales?.type === "f16" ? superScales : undefined;
  const minimum = offset === "minimum";
  return {
    scales: values(scales as ScaleLevel),
    ...(minimum && { zeros: values(scales as ScaleLevel) }),
    ...(perBlock && { superScales: values(perBlock) as Uint16Array }),
    ...(perBlock && minimum && { superZeros: values(perBlock) as Uint16Array }),
  };
}

function checkScales(format: WeightFormat, levels: BlockScales, place: string): void {
  for (const [role, values] of Object.entries(levels) as [keyof BlockScales, Uint8Array | Uint16Array][]) {
    const { type } = (role.startsWith("super") ? format.superScales : format.scales) as ScaleLevel;
    const bad = firstNonFinite(type, asBytes(values));
    if (bad < 0) continue;
    const expected = type === "e8m0" ? "exponents up to 254" : "finite float16 values";
    throw badCheckpoint(place, `${role}: expected ${expected}, got the bits 0x${values[bad]?.toString(16)} at ${bad}`);
  }
}
