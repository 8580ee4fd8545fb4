import { describe, invalidArgument, MoeError } from "../../core/errors.js";
import { type Fields, integer, object, optional, type Read, type Reader } from "../../core/options.js";
import { shapeText } from "../../core/shape.js";
import { writeAtomically } from "./atomic_file.js";
import {
  isSafetensorsDType,
  isSafetensorsShape,
  type SafetensorsDType,
  safetensorsByteLength,
  safetensorsDTypeNames,
  safetensorsDTypes,
} from "./dtype.js";
import { transferFields } from "./file.js";
import { checkTensorName, defaultAlignment, formatHeader, isWellFormed } from "./header.js";
import type { TransferOptions } from "./regular_file.js";
import { isRecord } from "./strict_json.js";

/** A tensor to write: `data` is the typed array of `dtype`, or the raw bytes as Uint8Array. */
export interface SafetensorsInput {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView;
}

/** Tensors by name. */
export type SafetensorsInputs = ReadonlyMap<string, SafetensorsInput> | Readonly<Record<string, SafetensorsInput>>;

export interface SerializeOptions {
  /** The file's `__metadata__`, omitted if empty. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** The data begin at a multiple of this many bytes: a multiple of 8, such as the page size for mapping the file. */
  readonly alignment?: number;
}

/** Largest alignment of a file's data: far above any page, far below the limit on the header, which it pads. */
const maximumAlignment = 2 ** 21;

const metadataOption: Reader<Readonly<Record<string, string>>> = (value, name) => {
  if (!isRecord(value)) throw invalidArgument(name, "an object of strings", value);
  const entries = Object.entries(value);
  for (const [key, text] of entries) {
    if (typeof text !== "string" || !isWellFormed(key) || !isWellFormed(text)) {
      throw invalidArgument(`${name}.${key}`, "a string in well-formed Unicode", text);
    }
  }
  return Object.fromEntries(entries) as Record<string, string>;
};

const serializeFields = {
  metadata: optional(metadataOption, {}),
  alignment: optional(integer(defaultAlignment, maximumAlignment), defaultAlignment),
} satisfies Fields<SerializeOptions>;
export const serializeOptions = object(serializeFields, "{ metadata }");
const writeOptions = object({ ...serializeFields, ...transferFields }, "{ metadata }");

/**
 * Writes a file of `tensors`, sorted by falling dtype size and then by name, which keeps every tensor aligned to its
 * elements. The file appears under its name only once it is complete and on disk; on failure an existing file is kept.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH naming the tensor and what was expected; BAD_CHECKPOINT if the file cannot
 * be written.
 */
export async function writeSafetensors(
  path: string,
  tensors: SafetensorsInputs,
  options: SerializeOptions & TransferOptions = {},
): Promise<void> {
  if (typeof path !== "string") throw invalidArgument("path", "a string", path);
  const { metadata, alignment, ...transfer } = writeOptions(options, "options");
  await writeAtomically(path, layOut(tensors, { metadata, alignment }), transfer);
}

/** A file's parts, checked and in order: its header, then every tensor's bytes. */
export function layOut(
  tensors: SafetensorsInputs,
  { metadata, alignment }: Read<typeof serializeOptions>,
): Uint8Array[] {
  if (!isRecord(tensors)) throw invalidArgument("tensors", "a Map or an object of tensors by name", tensors);
  if (alignment % defaultAlignment !== 0) throw invalidArgument("alignment", "a multiple of 8", alignment);
  const entries = [...(tensors instanceof Map ? tensors : Object.entries(tensors))] as [string, SafetensorsInput][];
  const checked = entries.map(([name, tensor]) => [name, checkInput(name, tensor)] as const);
  checked.sort(
    ([nameA, a], [nameB, b]) =>
      safetensorsDTypeNames.indexOf(b.dtype) - safetensorsDTypeNames.indexOf(a.dtype) ||
      Buffer.compare(Buffer.from(nameA), Buffer.from(nameB)),
  );
  const header = formatHeader(new Map(checked), metadata, alignment);
  return [header, ...checked.map(([, { bytes }]) => bytes)];
}

interface CheckedInput {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly bytes: Uint8Array;
}

function checkInput(name: string, tensor: SafetensorsInput): CheckedInput {
  checkTensorName(name);
  const place = `tensors[${JSON.stringify(name)}]`;
  if (!isRecord(tensor)) throw invalidArgument(place, "an object of dtype, shape and data", tensor);
  const { dtype, shape, data } = tensor;
  if (!isSafetensorsDType(dtype)) {
    throw invalidArgument(`${place}.dtype`, `one of ${safetensorsDTypeNames.join(", ")}`, dtype);
  }
  const byteLength = isSafetensorsShape(shape) ? safetensorsByteLength(dtype, shape) : undefined;
  if (byteLength === undefined) {
    throw invalidArgument(`${place}.shape`, "integers >= 0 that make whole bytes, fewer than 2^50", shape);
  }
  const { array } = safetensorsDTypes[dtype];
  if (!(data instanceof array || data instanceof Uint8Array)) {
    throw invalidArgument(`${place}.data`, `${array.name}, or the bytes as Uint8Array`, data);
  }
  if (data.byteLength !== byteLength) {
    throw new MoeError(
      "SHAPE_MISMATCH",
      `${place}.data: expected ${byteLength} bytes for ${dtype} ${shapeText(shape)}, got ` +
        `${describe(data)} of ${data.byteLength}`,
    );
  }
  return { dtype, shape, byteLength, bytes: new Uint8Array(data.buffer, data.byteOffset, byteLength) };
}
