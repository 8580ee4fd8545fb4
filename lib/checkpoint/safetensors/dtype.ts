import { allocated } from "../../core/tensors/allocated.js";

/** Typed arrays that hold a file's tensors. */
export type SafetensorsArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

interface SafetensorsDTypeInfo {
  readonly bits: number;
  /** Holds the stored bits: bytes or 16-bit words for types that JavaScript lacks, (real, imaginary) pairs for C64. */
  readonly array: {
    readonly BYTES_PER_ELEMENT: number;
    new (buffer: ArrayBufferLike, byteOffset: number, length: number): SafetensorsArray;
  };
}

/**
 * Every dtype of the format, smallest alignment first: the order by which the reference implementation
 * (huggingface/safetensors, safetensors/src/tensor.rs) sorts a file's tensors.
 */
export const safetensorsDTypes = {
  BOOL: { bits: 8, array: Uint8Array },
  F4: { bits: 4, array: Uint8Array },
  F6_E2M3: { bits: 6, array: Uint8Array },
  F6_E3M2: { bits: 6, array: Uint8Array },
  U8: { bits: 8, array: Uint8Array },
  I8: { bits: 8, array: Int8Array },
  F8_E5M2: { bits: 8, array: Uint8Array },
  F8_E4M3: { bits: 8, array: Uint8Array },
  F8_E8M0: { bits: 8, array: Uint8Array },
  F8_E4M3FNUZ: { bits: 8, array: Uint8Array },
  F8_E5M2FNUZ: { bits: 8, array: Uint8Array },
  I16: { bits: 16, array: Int16Array },
  U16: { bits: 16, array: Uint16Array },
  F16: { bits: 16, array: Uint16Array },
  BF16: { bits: 16, array: Uint16Array },
  I32: { bits: 32, array: Int32Array },
  U32: { bits: 32, array: Uint32Array },
  F32: { bits: 32, array: Float32Array },
  C64: { bits: 64, array: Float32Array },
  F64: { bits: 64, array: Float64Array },
  I64: { bits: 64, array: BigInt64Array },
  U64: { bits: 64, array: BigUint64Array },
} as const satisfies Record<string, SafetensorsDTypeInfo>;

/**
 * The name of an element type, as spelled in a file.
 *
 * @useDeclaredType
 */
export type SafetensorsDType = keyof typeof safetensorsDTypes;

export const safetensorsDTypeNames = Object.keys(safetensorsDTypes) as readonly SafetensorsDType[];

/** The typed array of a dtype's stored bits: Uint16Array for F16 and BF16, bytes for types of 8 bits or fewer. */
export type SafetensorsArrayOf<D extends SafetensorsDType> = InstanceType<(typeof safetensorsDTypes)[D]["array"]>;

export function isSafetensorsDType(value: unknown): value is SafetensorsDType {
  return typeof value === "string" && Object.hasOwn(safetensorsDTypes, value);
}

/** Whether `value` can be a shape: any number of non-negative integers. */
export function isSafetensorsShape(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** Bytes of a tensor; undefined from 2^50 bytes on, or if sub-byte elements end inside a byte. */
export function safetensorsByteLength(dtype: SafetensorsDType, shape: readonly number[]): number | undefined {
  let bits: number = safetensorsDTypes[dtype].bits;
  for (const size of shape) {
    bits *= size;
    if (!Number.isSafeInteger(bits)) return undefined;
  }
  return bits % 8 === 0 ? bits / 8 : undefined;
}

/** `bytes` as the typed array of `dtype`; copied if they are misaligned. */
export function viewAs<D extends SafetensorsDType>(dtype: D, bytes: Uint8Array): SafetensorsArrayOf<D> {
  const { array }: SafetensorsDTypeInfo = safetensorsDTypes[dtype];
  const elementBytes = array.BYTES_PER_ELEMENT;
  const { byteLength } = bytes;
  const copy = () => allocated(byteLength, `no memory for a copy of ${byteLength} bytes`, () => new Uint8Array(bytes));
  const aligned = bytes.byteOffset % elementBytes === 0 ? bytes : copy();
  return new array(aligned.buffer, aligned.byteOffset, byteLength / elementBytes) as SafetensorsArrayOf<D>;
}
