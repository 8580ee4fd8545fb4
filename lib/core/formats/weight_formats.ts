import { describe, MoeError } from "../errors.js";
import { nearestHint } from "../input/nearest_name.js";
import { type GridCodes, iq1Grid, iq2SGrid, iq2XsGrid, iq2XxsGrid, iq3SGrid, iq3XxsGrid } from "./grids.js";
import {
  type CommonFormat,
  commonFormats,
  type ScaleLevel,
  type ScaleType,
  type WeightFormat,
  type WeightFormatName,
} from "./weight_format.js";

// The weight formats by name; native/core/formats has the same.

/** OCP MX, E2M1. */
const e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];
/** NF4 and FP4 of bitsandbytes (functional.py), as float32. */
const nf4 = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
];
const fp4 = [0, 0.0625, 8, 12, 4, 6, 2, 3, -0, -0.0625, -8, -12, -4, -6, -2, -3].map((value) =>
  Math.fround(value / 12),
);
/** IQ4_NL and IQ4_XS of GGUF (ggml-common.h). */
const iq4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/**
 * The values of `dynamic8`: the signed dynamic map of bitsandbytes (create_dynamic_map in functional.py), as float32. 127
 * magnitudes of either sign, 0 as code 127 and 1 as code 255. The magnitudes below 10^(i - 6), i = 0 .. 6, are the middles
 * of 2^i equal parts of what lies between its tenth and itself.
 */
export const dynamic8: readonly number[] = Array.from({ length: 256 }, (_, code) => {
  if (code === 127 || code === 255) return code === 127 ? 0 : 1;
  const place = Math.abs(code - 127);
  const power = Math.floor(Math.log2(place));
  const magnitude = Math.fround((18 * place + 9 - 16 * 2 ** power) / (256 * 5 ** (7 - power)));
  return code < 127 ? -magnitude : magnitude;
});

/** Magnitudes, and the same with the other sign. */
const withSigns = (values: readonly number[]) => [...values, ...values.map((value) => -value)];
/**
 * What elements of IQ1, IQ2 and IQ3 of GGUF are times odd scales (ggml-quants.c). Codes are the coordinates of a grid's
 * points, below the sign of an eighth or of the element (see GridCodes); 3 is none.
 */
const iq1 = [-0.875, 0.125, 1.125, 0, -1.125, -0.125, 0.875, 0];
const iq2 = withSigns([1, 3.125, 5.375, 0]);
const iq3_xxs = withSigns([1, 3, 5, 7, 9, 11, 13, 15.5]);
const iq3_s = withSigns([1, 3, 5, 7, 9, 11, 13, 15]);

const tables = { e2m1, nf4, fp4, iq4, iq1, iq2, iq3_xxs, iq3_s } as const;

type Coding = Omit<WeightFormat, "name" | "scales" | "superScales">;

function tableOf(name: keyof typeof tables): Coding {
  const table = tables[name];
  return { code: "table", bits: Math.log2(table.length), table };
}
const groups = (type: ScaleType, columns: number, rows = 1): ScaleLevel => ({ type, rows, columns });
const minimum = (bits: number): Coding => ({ code: "unsigned_integer", bits, offset: "minimum" });
const signed = (bits: number): Coding => ({ code: "signed_integer", bits });
const super256 = groups("f16", 256);
const nested = {
  scales: groups("dynamic8", 64),
  superScales: groups("f32", 256),
  offset: "scale_offset",
} as const;

/** The formats that have names of their own. A plain one has the name of its dtype; `f64` exists only on `reference`. */
export const namedFormats: ReadonlyMap<string, WeightFormat> = new Map(
  (
    [
      { name: "f32", code: "f32", bits: 32 },
      { name: "f16", code: "f16", bits: 16 },
      { name: "bf16", code: "bf16", bits: 16 },
      { name: "f64", code: "f64", bits: 64 },
      { name: "mxfp4", ...tableOf("e2m1"), scales: groups("e8m0", 32) },
      // The scale of the scales is the tensor's, kept for each row.
      { name: "nvfp4", ...tableOf("e2m1"), scales: groups("e4m3", 16), superScales: groups("f32", 0) },
      // GGUF. Codes stand in the order of the columns; those of signed types have their offset subtracted.
      { name: "q4_1", ...minimum(4), scales: groups("f16", 32) },
      { name: "q5_1", ...minimum(5), scales: groups("f16", 32) },
      { name: "q2_k", ...minimum(2), scales: groups("u4", 16), superScales: super256 },
      { name: "q3_k", ...signed(3), scales: groups("i8", 16), superScales: super256 },
      { name: "q4_k", ...minimum(4), scales: groups("u6", 32), superScales: super256 },
      { name: "q5_k", ...minimum(5), scales: groups("u6", 32), superScales: super256 },
      { name: "q6_k", ...signed(6), scales: groups("i8", 16), superScales: super256 },
      { name: "iq4_xs", ...tableOf("iq4"), scales: groups("i8", 32), superScales: super256 },
      { name: "iq3_xxs", ...tableOf("iq3_xxs"), grid: iq3XxsGrid, scales: groups("odd4", 32), superScales: super256 },
      { name: "iq3_s", ...tableOf("iq3_s"), grid: iq3SGrid, scales: groups("odd4", 32), superScales: super256 },
      { name: "iq2_xxs", ...tableOf("iq2"), grid: iq2XxsGrid, scales: groups("odd4", 32), superScales: super256 },
      { name: "iq2_xs", ...tableOf("iq2"), grid: iq2XsGrid, scales: groups("odd4", 16), superScales: super256 },
      { name: "iq2_s", ...tableOf("iq2"), grid: iq2SGrid, scales: groups("odd4", 16), superScales: super256 },
      { name: "iq1_s", ...tableOf("iq1"), grid: iq1Grid, scales: groups("odd4", 32), superScales: super256 },
      { name: "iq1_m", ...tableOf("iq1"), grid: iq1Grid, scales: groups("odd4", 16), superScales: super256 },
      // bitsandbytes with nested scales. There a scale of scales is for 256 of them, which run on across rows.
      { name: "nf4_nested", ...tableOf("nf4"), ...nested },
      { name: "fp4_nested", ...tableOf("fp4"), ...nested },
    ] satisfies WeightFormat[]
  ).map((format) => [format.name, format]),
);

/**
 * The formats that are only read from checkpoints, each with the one to quantise to instead. {@link quantize} cannot make
 * them: nested scales are computed over whole tensors, and the points of IQ1 to IQ3 by a search on their grids.
 */
export const readOnlyFormats: ReadonlyMap<string, CommonFormat> = new Map([
  ["nf4_nested", "nf4"],
  ["fp4_nested", "fp4"],
  ["iq3_xxs", "q3_k"],
  ["iq3_s", "q3_k"],
  ["iq2_xxs", "q2_k"],
  ["iq2_xs", "q2_k"],
  ["iq2_s", "q2_k"],
  ["iq1_s", "q2_k"],
  ["iq1_m", "q2_k"],
]);

const parsed = new Map<string, WeightFormat>();

/** The format of this name, or of this short name; undefined if there is none. */
export function findFormat(name: WeightFormatName): WeightFormat | undefined {
  const known = namedFormats.get(name) ?? parsed.get(name);
  if (known !== undefined) return known;
  const long = longName(name);
  const format = long === undefined ? parse(name) : findFormat(long);
  if (format !== undefined) parsed.set(name, format);
  return format;
}

/** Short names of single formats. */
const shortNames: ReadonlyMap<string, WeightFormatName> = new Map([
  ["mxfp8", "e4m3_g32_e8m0"],
  ["q4_0", "i4_g32_f16"],
  ["q5_0", "i5_g32_f16"],
  ["q8_0", "i8_g32_f16"],
  ["iq4_nl", "iq4_g32_f16"],
]);

const shortName = /^(?:(u?int)([234568])|(fp8)|(nf4|fp4))(?:_(g[1-9]\d{1,3}|channel|b128))?$/;

/** The name of the format that a short name means; see {@link WeightFormatName}. */
function longName(text: string): WeightFormatName | undefined {
  const match = shortName.exec(text);
  if (match === null) return shortNames.get(text);
  const [, integer, bits, float8, table, given] = match;
  const code =
    integer !== undefined ? `${integer === "int" ? "i" : "u"}${bits}` : float8 !== undefined ? "e4m3" : table;
  const groups = given ?? (table !== undefined ? "g64" : float8 !== undefined || bits === "8" ? "channel" : "g128");
  return `${code}_${groups}_${integer !== undefined && groups.startsWith("g") ? "bf16" : "f32"}`;
}

/** As {@link findFormat}. @throws UNSUPPORTED_DTYPE if there is none. */
export function weightFormat(name: WeightFormatName, parameter = "format"): WeightFormat {
  const format = typeof name === "string" ? findFormat(name) : undefined;
  if (format !== undefined) return format;
  throw new MoeError(
    "UNSUPPORTED_DTYPE",
    `${parameter}: expected the name of a weight format such as "int4_g128", "mxfp4" or "q4_k", got ${misspelt(name)}`,
  );
}

/** Describes what is no format's name for an error, with the common format that it may stand for. */
export function misspelt(name: unknown): string {
  return describe(name) + (typeof name === "string" ? nearestHint(name, commonFormats) : "");
}

const name =
  /^(?:([iua])([234568])|(e4m3|e2m1|nf4|fp4|iq4))_(?:g([1-9]\d{1,3})|(channel|b128))_(f32|f16|bf16|e4m3|e8m0)$/;

function parse(text: string): WeightFormat | undefined {
  const match = name.exec(text);
  if (match === null) return undefined;
  const [, sign, bits, float, group, whole, type] = match;
  if (sign === "a" && (type === "e4m3" || type === "e8m0")) return undefined;
  const columns = group === undefined ? (whole === "b128" ? 128 : 0) : Number(group);
  if (group !== undefined && (columns % 16 !== 0 || columns > 1024)) return undefined;
  const scales = groups(type as ScaleType, columns, whole === "b128" ? 128 : 1);
  return { name: text, ...coding(sign, Number(bits), float), scales };
}

function coding(sign: string | undefined, bits: number, float: string | undefined): Coding {
  if (float === "e4m3") return { code: "e4m3", bits: 8 };
  if (float !== undefined) return tableOf(float as keyof typeof tables);
  if (sign === "i") return signed(bits);
  return sign === "a" ? minimum(bits) : { code: "unsigned_integer", bits, offset: "zero_point" };
}

/** Whether a format's codes are the values themselves. */
export function isPlain({ code }: WeightFormat): boolean {
  return code === "f32" || code === "f16" || code === "bf16" || code === "f64";
}

/** Columns whose codes are stored together. */
export function unitColumns({ grid }: WeightFormat): number {
  return grid === undefined ? 1 : 8;
}

/** Bits that a column takes, on average over those that are stored together. */
export function bitsPerColumn({ bits, grid }: WeightFormat): number {
  return grid === undefined ? bits : grid.bits / 8;
}

/** Bits of the codes of one row. */
export function rowBits(format: WeightFormat, columns: number): number {
  const unit = unitColumns(format);
  return Math.ceil(columns / unit) * unit * bitsPerColumn(format);
}

/** Bytes of one row of codes. */
export function rowBytes(format: WeightFormat, columns: number): number {
  return Math.ceil(rowBits(format, columns) / 8);
}

/** The most columns whose codes this many bytes hold. */
export function columnsIn(format: WeightFormat, bytes: number): number {
  const unit = unitColumns(format);
  return Math.floor((bytes * 8) / (unit * bitsPerColumn(format))) * unit;
}

/** The byte of a row in which the codes of a column begin; not a whole number if they begin within a byte. */
export function byteOfColumn(format: WeightFormat, column: number): number {
  return column % unitColumns(format) === 0 ? (column * bitsPerColumn(format)) / 8 : Number.NaN;
}

/** Reads the code of a column of a row, whose byte number `index` is `byteAt(index)`, or anything behind the row. */
export function codeAt({ bits, grid }: WeightFormat, byteAt: (index: number) => number, column: number): number {
  if (grid !== undefined) return grid.codeOf(unitAt(grid, byteAt, Math.floor(column / 8)), column % 8);
  const first = column * bits;
  const at = Math.floor(first / 8);
  return ((byteAt(at) | (byteAt(at + 1) << 8)) >>> (first % 8)) & ((1 << bits) - 1);
}

/** A unit of a grid, whose bits may lie in five bytes. */
function unitAt({ bits }: GridCodes, byteAt: (index: number) => number, unit: number): number {
  const first = unit * bits;
  const at = Math.floor(first / 8);
  const low = first % 8;
  const word = byteAt(at) | (byteAt(at + 1) << 8) | (byteAt(at + 2) << 16) | (byteAt(at + 3) << 24);
  const held = low === 0 ? word : (word >>> low) | (byteAt(at + 4) << (32 - low));
  return held & ((1 << bits) - 1);
}

/** The tensors of a quantised matrix that hold scales and offsets. */
export const levelRoles = ["scales", "superScales", "zeros", "superZeros"] as const;
export type LevelRole = (typeof levelRoles)[number];

/** The tensors that change a quantised matrix's inputs. A weight of any format may have them. */
export const inputFields = ["inputScale", "inputOrder"] as const;
export type InputField = (typeof inputFields)[number];

/** The levels of a format by the tensor that holds them. A zero point takes a byte. */
export function levelsOf({
  scales,
  superScales,
  offset,
}: WeightFormat): Readonly<Record<LevelRole, ScaleLevel | undefined>> {
  const minimum = offset === "minimum";
  return {
    scales,
    superScales,
    zeros: offset === "zero_point" && scales ? { ...scales, type: "u6" } : minimum ? scales : undefined,
    superZeros: offset === "scale_offset" ? groups("f32", 0) : minimum ? superScales : undefined,
  };
}

/**
 * Bits per weight of a packed matrix in this format, its scales and offsets included, if every group is whole. Of a grid, it
 * is what CPUs pack that look points up (AVX-512 VBMI).
 */
export function bitsPerWeight(format: WeightFormat, columns: number): number {
  return bitsPerColumn(format) + bitsOfLevels(format, columns, (type) => (type === "odd4" ? 4 : packedBits(type)));
}

/** The same where a matrix of a grid is packed as a code and a byte of scale for each element and group: elsewhere. */
export function mostBitsPerWeight(format: WeightFormat, columns: number): number {
  return format.bits + bitsOfLevels(format, columns, packedBits);
}

function bitsOfLevels(format: WeightFormat, columns: number, bitsOf: (type: ScaleType) => number): number {
  const levels = Object.values(levelsOf(format)).filter((level) => level !== undefined);
  return levels.reduce(
    (total, { type, ...level }) => total + bitsOf(type) / (level.rows * (level.columns || columns)),
    0,
  );
}

/** Of a scale. Those of four bits share their bytes with minima. */
function packedBits(type: ScaleType): number {
  return type === "u4" ? 4 : 8 * scaleBytes(type);
}

/** Bytes of one scale. */
export function scaleBytes(type: ScaleType): number {
  return type === "f32" ? 4 : type === "f16" || type === "bf16" ? 2 : 1;
}
