import { describe, invalidArgument, MoeError } from "../../core/errors.js";
import { type FilePath, filePath } from "../../core/files/file_path.js";
import { type ArrayKind, entriesOfMap, typedArray } from "../../core/input/foreign.js";
import {
  choice,
  type Fields,
  integer,
  list,
  object,
  optional,
  type Read,
  type Reader,
  record,
  results,
  text,
  unchecked,
} from "../../core/input/options.js";
import { shapeText } from "../../core/tensors/shape.js";
import { type FilePart, writeAtomically } from "./atomic_file.js";
import { type SafetensorsDType, safetensorsByteLength, safetensorsDTypeNames, safetensorsDTypes } from "./dtype.js";
import { transferFields } from "./file_options.js";
import { checkTensorName, defaultAlignment, formatHeader, isWellFormed } from "./header.js";
import type { TransferOptions } from "./regular_file.js";

/** A tensor to write: `data` is the typed array of `dtype`, or the raw bytes as Uint8Array. */
export interface SafetensorsInput {
  /** The type of the elements. */
  readonly dtype: SafetensorsDType;
  /** The sizes, row-major. */
  readonly shape: readonly number[];
  /** The elements, whose bytes are written as they are: as many as dtype and shape say. */
  readonly data: ArrayBufferView;
}

/** Tensors by name. */
export type SafetensorsInputs = ReadonlyMap<string, SafetensorsInput> | Readonly<Record<string, SafetensorsInput>>;

/** Options for writing a file. */
export interface SerializeOptions {
  /** The file's `__metadata__`, omitted if empty. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** The data begin at a multiple of this many bytes: a multiple of 8, such as the page size for mapping the file. */
  readonly alignment?: number | undefined;
}

/** Largest alignment of a file's data: far above any page, far below the limit on the header, which it pads. */
const maximumAlignment = 2 ** 21;

const wellFormed: Reader<string> = (value, name) => {
  if (typeof value === "string" && isWellFormed(value)) return value;
  throw invalidArgument(name, "a string in well-formed Unicode", value);
};
const strings = record(wellFormed, "an object of strings");
const metadataOption: Reader<Readonly<Record<string, string>>> = (value, name) => {
  const metadata = strings(value, name);
  for (const key in metadata) wellFormed(key, `a key of ${name}`);
  return metadata;
};

export const serializeFields = {
  metadata: optional(metadataOption, {}),
  alignment: optional(integer(defaultAlignment, maximumAlignment), defaultAlignment),
} satisfies Fields<SerializeOptions>;
export const serializeOptions = object(serializeFields, "{ metadata }");

const input = results({
  dtype: choice(safetensorsDTypeNames),
  shape: list(integer(0)),
  data: unchecked,
} satisfies Fields<SafetensorsInput>);
const inputsByName = record(input, "a Map or an object of tensors by name");
const writeOptions = object({ ...serializeFields, ...transferFields }, "{ metadata }");

/**
 * Writes a file of `tensors`, sorted by falling dtype size and then by name, which keeps every tensor aligned to its
 * elements. The file appears under its name only once it is complete and on disk. It replaces one that is there, which on
 * failure is kept.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH naming the tensor and what was expected, also INVALID_ARGUMENT if its buffer is
 * transferred before it is written; WRITE_FAILED if the file cannot be written; the signal's reason.
 */
export async function writeSafetensors(
  path: FilePath,
  tensors: SafetensorsInputs,
  options: SerializeOptions & TransferOptions = {},
): Promise<void> {
  const { metadata, alignment, ...transfer } = writeOptions(options, "options");
  await writeAtomically(filePath(path, "path"), layOut(tensors, { metadata, alignment }), transfer);
}

/** A file's parts, checked and in order: its header, then every tensor's bytes. */
export function layOut(tensors: SafetensorsInputs, options: Read<typeof serializeOptions>): FilePart<Uint8Array>[] {
  const checked = readInputs(tensors).map(([name, tensor]) => [name, checkInput(name, tensor)] as const);
  return fileOf(checked, options);
}

/** A tensor that has been checked: its bytes, or whatever stands for them. */
export interface CheckedInput<Bytes = Uint8Array> {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly bytes: Bytes;
}

/** The parts of a file of checked tensors. */
export function fileOf<Bytes>(
  tensors: readonly (readonly [string, CheckedInput<Bytes>])[],
  { metadata, alignment }: Read<typeof serializeOptions>,
): FilePart<Bytes | Uint8Array>[] {
  if (alignment % defaultAlignment !== 0) throw invalidArgument("alignment", "a multiple of 8", alignment);
  const checked = [...tensors];
  checked.sort(
    ([nameA, a], [nameB, b]) =>
      safetensorsDTypeNames.indexOf(b.dtype) - safetensorsDTypeNames.indexOf(a.dtype) ||
      Buffer.compare(Buffer.from(nameA), Buffer.from(nameB)),
  );
  const header = formatHeader(new Map(checked), metadata, alignment);
  return [
    { place: "header", byteLength: header.byteLength, bytes: header },
    ...checked.map(([name, { byteLength, bytes }]) => ({ place: `${placeOf(name)}.data`, byteLength, bytes })),
  ];
}

export type Input = Read<typeof input>;

/** Names and tensors as they were given, by a Map or an object; not yet checked. */
export function readInputs(tensors: unknown): [name: string, Input][] {
  const entries = entriesOfMap(tensors);
  if (entries === undefined) return Object.entries(inputsByName(tensors, "tensors"));
  return entries.map(([key, value]) => {
    const name = text(key, "a name in tensors");
    return [name, input(value, placeOf(name))];
  });
}

function placeOf(name: string): string {
  return `tensors[${JSON.stringify(name)}]`;
}

function checkInput(name: string, given: Input): CheckedInput {
  const { dtype, shape, byteLength } = checkSize(name, given);
  return { dtype, shape, byteLength, bytes: checkData(name, given, given.data) };
}

/** Checks all but the data. */
export function checkSize(name: string, { dtype, shape }: Input): Omit<CheckedInput, "bytes"> {
  checkTensorName(name);
  const byteLength = safetensorsByteLength(dtype, shape);
  if (byteLength !== undefined) return { dtype, shape, byteLength };
  throw invalidArgument(`${placeOf(name)}.shape`, "sizes that make whole bytes, fewer than 2^50", shapeText(shape));
}

/** The bytes of a tensor's data. @throws INVALID_ARGUMENT, SHAPE_MISMATCH */
export function checkData(name: string, { dtype, shape }: Pick<Input, "dtype" | "shape">, data: unknown): Uint8Array {
  const place = placeOf(name);
  const byteLength = safetensorsByteLength(dtype, shape) as number;
  const kind = safetensorsDTypes[dtype].array.name as ArrayKind;
  const halves =
    dtype === "F16" || dtype === "BF16" ? ` of the bits, as encodeHalves(values, "${dtype.toLowerCase()}") makes` : "";
  const expected = `${kind}${halves}, or the bytes as Uint8Array`;
  const array = typedArray(`${place}.data`, data, [kind, "Uint8Array"], expected);
  if (array.byteLength !== byteLength) {
    throw new MoeError(
      "SHAPE_MISMATCH",
      `${place}.data: expected ${byteLength} bytes for ${dtype} ${shapeText(shape)}, got ` +
        `${describe(array)} of ${array.byteLength}`,
    );
  }
  return new Uint8Array(array.buffer, array.byteOffset, byteLength);
}
