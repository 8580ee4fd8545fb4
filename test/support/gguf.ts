import { type GgufType, ggufByteLength, ggufTypes } from "../../lib/checkpoint/gguf/types.js";

// Writes GGUF files, valid or not.

/** The types of metadata values, by their numbers in files. */
const valueTypes = [
  "u8",
  "i8",
  "u16",
  "i16",
  "u32",
  "i32",
  "f32",
  "bool",
  "string",
  "array",
  "u64",
  "i64",
  "f64",
] as const;
export type ValueType = (typeof valueTypes)[number];

type Scalar = number | bigint | boolean | string;
/** A value with its type. Without one, integers are u32, other numbers f32, and lists have the type of their first. */
export interface TypedValue {
  readonly type: ValueType | number;
  /** The type of the elements of an array. */
  readonly of?: ValueType | number;
  readonly value: Scalar | readonly Scalar[];
}
export type MetadataValue = Scalar | readonly Scalar[] | TypedValue;

export interface TensorInput {
  readonly name: string;
  readonly type: GgufType | number;
  /** From the outermost size on; files have the reverse. */
  readonly shape: readonly (number | bigint)[];
  /** Default: zeros, as many as the shape needs. */
  readonly data?: Uint8Array;
  /** Default: where the data are. */
  readonly offset?: number | bigint;
}

export interface GgufInput {
  readonly magic?: string;
  readonly version?: number;
  readonly metadata?: Readonly<Record<string, MetadataValue>> | readonly (readonly [string, MetadataValue])[];
  readonly tensors?: readonly TensorInput[];
  readonly tensorCount?: number | bigint;
  readonly entryCount?: number | bigint;
  readonly alignment?: number;
  /** Bytes to add at the end, or to take from there. */
  readonly more?: number;
}

const integer = (bytes: number, value: number | bigint): Buffer => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
  return buffer.subarray(0, bytes);
};
const u32 = (value: number) => integer(4, value);
const u64 = (value: number | bigint) => integer(8, value);

export function ggufString(text: string | Uint8Array): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function number(bytes: 4 | 8, value: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  if (bytes === 4) buffer.writeFloatLE(value);
  else buffer.writeDoubleLE(value);
  return buffer;
}

function scalar(type: ValueType | number, value: Scalar): Buffer {
  switch (type) {
    case "string":
      return ggufString(value as string);
    case "f32":
      return number(4, value as number);
    case "f64":
      return number(8, value as number);
    case "bool":
      return integer(1, Number(value));
    default: {
      const bits = typeof type === "string" ? Number(type.slice(1)) : 64;
      return integer(bits / 8, value as number | bigint);
    }
  }
}

function typed(value: MetadataValue): TypedValue {
  if (typeof value === "object" && "type" in value) return value;
  if (typeof value === "object") return { type: "array", of: typed(value[0] as Scalar).type, value };
  if (typeof value === "string") return { type: "string", value };
  if (typeof value === "boolean") return { type: "bool", value };
  if (typeof value === "bigint") return { type: "u64", value };
  return { type: Number.isInteger(value) ? "u32" : "f32", value };
}

const typeId = (type: ValueType | number) => (typeof type === "number" ? type : valueTypes.indexOf(type));

function entry(key: string, given: MetadataValue): Buffer {
  const { type, of = type, value } = typed(given);
  const head = [ggufString(key), u32(typeId(type))];
  if (!Array.isArray(value)) return Buffer.concat([...head, scalar(type, value as Scalar)]);
  return Buffer.concat([...head, u32(typeId(of)), u64(value.length), ...value.map((one) => scalar(of, one))]);
}

/** The bytes of a file. */
export function rawGguf({
  magic = "GGUF",
  version = 3,
  metadata = {},
  tensors = [],
  tensorCount = tensors.length,
  alignment = 32,
  more = 0,
  ...given
}: GgufInput): Buffer {
  const entries = (Array.isArray(metadata) ? metadata : Object.entries(metadata)) as [string, MetadataValue][];
  const parts = [Buffer.from(magic), u32(version), u64(tensorCount), u64(given.entryCount ?? entries.length)];
  parts.push(...entries.map(([key, value]) => entry(key, value)));
  const padding = (length: number) => Buffer.alloc((alignment - (length % alignment)) % alignment);
  const data: Buffer[] = [];
  let end = 0;
  for (const { name, type, shape, data: bytes, offset = end } of tensors) {
    const id = typeof type === "number" ? type : ggufTypes[type].id;
    const sizes = shape.toReversed().map(u64);
    parts.push(ggufString(name), u32(shape.length), ...sizes, u32(id), u64(offset));
    const known = typeof type === "number" ? 0 : ggufByteLength(type, shape.map(Number));
    const content = Buffer.from(bytes ?? new Uint8Array(Math.min(known ?? 0, 2 ** 20)));
    data.push(content, padding(content.length));
    end += content.length + padding(content.length).length;
  }
  const header = Buffer.concat(parts);
  const file = Buffer.concat([header, tensors.length > 0 ? padding(header.length) : Buffer.alloc(0), ...data]);
  return more < 0 ? file.subarray(0, more) : Buffer.concat([file, Buffer.alloc(more)]);
}
