import { type GgufType, ggufByteLength, ggufTypes } from "../types.js";

/** A value of the metadata: text, a truth value, a u32, a float32, or an array of texts or of i32. */
export type MetadataInput = string | boolean | number | { readonly f32: number } | readonly string[] | Int32Array;

/** A tensor to write. */
export interface TensorInput {
  readonly name: string;
  readonly type: GgufType;
  /** Sizes from the outermost on; the last one is of whole blocks. */
  readonly shape: readonly number[];
}

/** Where the data of a file are. */
export interface Layout {
  /** The header with the padding behind it. */
  readonly header: Buffer;
  /** For each tensor: where its data begin, counted from the beginning of the file, and how many bytes they have. */
  readonly places: readonly { readonly byteOffset: number; readonly byteLength: number }[];
  readonly byteLength: number;
}

/** The data of tensors begin at multiples of this many bytes: what files have that do not say otherwise. */
export const alignment = 32;

const aligned = (offset: number) => Math.ceil(offset / alignment) * alignment;

/** Numbers of the value types. */
const valueTypes = { u32: 4, i32: 5, f32: 6, boolean: 7, string: 8, array: 9 } as const;

/** Lays a file of version 3 out: the header, and every tensor in the given order. */
export function layOutGguf(metadata: ReadonlyMap<string, MetadataInput>, tensors: readonly TensorInput[]): Layout {
  let end = 0;
  const data = tensors.map(({ type, shape }) => {
    const byteOffset = end;
    const byteLength = ggufByteLength(type, shape) as number;
    end = aligned(byteOffset + byteLength);
    return { byteOffset, byteLength };
  });
  const entries = [...metadata].flatMap(([key, value]) => [text(key), ...entry(value)]);
  const infos = tensors.flatMap(({ name, type, shape }, index) => {
    const sizes = shape.toReversed().map(u64);
    return [text(name), u32(shape.length), ...sizes, u32(ggufTypes[type].id), u64(data[index]?.byteOffset as number)];
  });
  const begin = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(metadata.size)];
  const written = Buffer.concat([...begin, ...entries, ...infos]);
  const header = Buffer.concat([written, Buffer.alloc(aligned(written.length) - written.length)]);
  const places = data.map(({ byteOffset, byteLength }) => ({ byteOffset: header.length + byteOffset, byteLength }));
  return { header, places, byteLength: header.length + end };
}

function entry(value: MetadataInput): readonly Buffer[] {
  switch (typeof value) {
    case "string":
      return [u32(valueTypes.string), text(value)];
    case "boolean":
      return [u32(valueTypes.boolean), Buffer.from([Number(value)])];
    case "number":
      return [u32(valueTypes.u32), u32(value)];
    default: {
      if (value instanceof Int32Array) {
        const { buffer, byteOffset, byteLength } = value;
        return [...array(valueTypes.i32, value.length), Buffer.from(buffer, byteOffset, byteLength)];
      }
      if ("length" in value) return [...array(valueTypes.string, value.length), ...value.map(text)];
      const bytes = Buffer.alloc(4);
      bytes.writeFloatLE(value.f32);
      return [u32(valueTypes.f32), bytes];
    }
  }
}

/** What is before an array's elements. */
function array(type: number, length: number): readonly Buffer[] {
  return [u32(valueTypes.array), u32(type), u64(length)];
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}
