import { MoeError, unexpected } from "../errors.js";
import { type Fields, integer, list, optional, type Reader, results, unsigned64 } from "../input/options.js";
import { type DType, dtypeNames } from "./dtype.js";
import { readShape, type Shape, shapeSize } from "./shape.js";

/**
 * A tensor's memory in the terms of DLPack: the fields of DLTensor in dlpack.h (https://dmlc.github.io/dlpack), which other
 * native libraries exchange tensors by.
 */
export interface DLTensor {
  /** An address in the memory of the device. */
  readonly data: bigint;
  /** What memory that is. */
  readonly device: DLDevice;
  /** What its elements are. */
  readonly dtype: DLDataType;
  /** The sizes, outermost first. */
  readonly shape: Shape;
  /** In elements; null or left out: row after row. */
  readonly strides?: readonly number[] | null | undefined;
  /** Bytes from `data` to the first element; default 0. */
  readonly byteOffset?: number | undefined;
}

/** Where memory is: DLDevice in dlpack.h. */
export interface DLDevice {
  /** 1 for the CPU's memory, 2 for that of a CUDA device. */
  readonly deviceType: number;
  /** The number of the CUDA device; 0 for the CPU. */
  readonly deviceId: number;
}

/** The type of elements: DLDataType in dlpack.h. */
export interface DLDataType {
  /** 0 for signed integers, 1 for unsigned ones, 2 for floats, 4 for bfloat16. */
  readonly code: number;
  /** Bits of an element. */
  readonly bits: number;
  /** Elements of a vector: 1. */
  readonly lanes: number;
}

/** What a {@link DLTensor} describes, checked. */
interface ForeignMemory {
  readonly address: bigint;
  readonly dtype: DType;
  readonly shape: Shape;
}

const codes = {
  f32: [2, 32],
  f16: [2, 16],
  bf16: [4, 16],
  f64: [2, 64],
  i32: [0, 32],
  u8: [1, 8],
} as const satisfies Record<DType, readonly [code: number, bits: number]>;

const shape: Reader<Shape> = (value, name) => readShape(name, value as Shape);

const strides = optional(list(integer(-(2 ** 53) + 1)));

const dlTensor = results({
  data: unsigned64(0n, "an address, a bigint from 0 to 2^64 - 1"),
  device: results({ deviceType: integer(0), deviceId: integer(0) }),
  dtype: results({ code: integer(0), bits: integer(0), lanes: integer(0) }),
  shape,
  strides: (value: unknown, name: string) => (value === null ? undefined : strides(value, name)),
  byteOffset: optional(integer(0), 0),
} satisfies Fields<DLTensor>);

/**
 * The memory of devices by name: `cpu` and `simt` compute in the CPU's.
 * @throws UNSUPPORTED_OPERATION for `reference`, whose tensors are JavaScript's.
 */
export function dlDevice(operation: string, name: string): DLDevice {
  const cuda = /^cuda(?::(\d+))?$/.exec(name);
  if (cuda !== null) return { deviceType: 2, deviceId: Number(cuda[1] ?? 0) };
  if (name === "cpu" || name === "simt") return { deviceType: 1, deviceId: 0 };
  throw new MoeError("UNSUPPORTED_OPERATION", `${operation}: expected a native device, got ${name}`);
}

/** Describes a tensor whose first element is at `data`. */
export function dlTensorOf(data: bigint, device: DLDevice, dtype: DType, shape: Shape): DLTensor {
  const [code, bits] = codes[dtype];
  return { data, device, dtype: { code, bits, lanes: 1 }, shape, strides: compactStrides(shape), byteOffset: 0 };
}

/** @throws INVALID_ARGUMENT for what is no tensor in the memory of `device`, row after row and of a dtype of this package. */
export function readDLTensor(name: string, value: unknown, device: DLDevice): ForeignMemory {
  const given = dlTensor(value, name);
  const { deviceType, deviceId } = given.device;
  if (deviceType !== device.deviceType || deviceId !== device.deviceId) {
    const text = (of: DLDevice) => `deviceType ${of.deviceType}, deviceId ${of.deviceId}`;
    throw unexpected(`${name}.device`, `the memory of this device (${text(device)})`, text(given.device));
  }
  const { code, bits, lanes } = given.dtype;
  const dtype = dtypeNames.find((name) => codes[name][0] === code && codes[name][1] === bits);
  if (dtype === undefined || lanes !== 1) {
    const known = dtypeNames.map((name) => `${name} (${codes[name].join(", ")})`).join(", ");
    throw unexpected(`${name}.dtype`, `the code and bits of ${known} in 1 lane`, `(${code}, ${bits}) in ${lanes}`);
  }
  const { shape, strides } = given;
  if (strides !== undefined && !isCompact(shape, strides)) {
    const expected = `[${compactStrides(shape).join(", ")}], elements row after row`;
    throw unexpected(`${name}.strides`, `${expected}; copy the tensor first`, `[${strides.join(", ")}]`);
  }
  const address = given.data + BigInt(given.byteOffset);
  if (address >= 1n << 64n) throw unexpected(`${name}.byteOffset`, "an address below 2^64 behind data", `${address}`);
  return { address, dtype, shape };
}

function compactStrides(shape: Shape): number[] {
  return shape.map((_, index) => shapeSize(shape.slice(index + 1)));
}

/** Whether elements are row after row; strides of dimensions of size 1, and of an empty tensor, do not matter. */
function isCompact(shape: Shape, strides: readonly number[]): boolean {
  const compact = compactStrides(shape);
  if (strides.length !== shape.length) return false;
  return shapeSize(shape) === 0 || shape.every((size, index) => size === 1 || strides[index] === compact[index]);
}
