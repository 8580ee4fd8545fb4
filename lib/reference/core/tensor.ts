import { MoeError } from "../../core/errors.js";
import { allocated } from "../../core/tensors/allocated.js";
import { convertInto } from "../../core/tensors/convert.js";
import { type DType, dtypes, fromBF16, fromF16, toBF16, toF16 } from "../../core/tensors/dtype.js";
import { type Shape, shapeSize, shapeText } from "../../core/tensors/shape.js";
import type { HostHandle, StridedMatrix, TensorHandle } from "../../core/tensors/tensor_handle.js";
import { type Matrix, zeros } from "./matrix.js";
import type { Stream } from "./stream.js";

function noMemory(wanted: string): string {
  return `reference: no ${wanted}; dispose of tensors that are not needed`;
}

/** From this many bytes on, memory is taken from the system at once, so that what asks later finds it gone. */
const touched = 2 ** 26;

/** Makes the system provide every page of new memory. */
function touch(buffer: ArrayBuffer): void {
  const bytes = new Uint8Array(buffer);
  for (let offset = 0; offset < bytes.length; offset += 4096) bytes[offset] = 0;
}

/** A tensor in a plain buffer shared with its views; the garbage collector frees it after the last of them. */
export class ReferenceTensor implements TensorHandle {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly #stream: Stream;
  readonly #buffer: ArrayBufferLike;
  readonly #byteOffset: number;

  private constructor(stream: Stream, dtype: DType, shape: Shape, buffer: ArrayBufferLike, byteOffset: number) {
    this.#stream = stream;
    this.dtype = dtype;
    this.shape = shape;
    this.#buffer = buffer;
    this.#byteOffset = byteOffset;
  }

  /** Allocates new memory; throws OUT_OF_MEMORY if there is not enough. */
  static allocate(stream: Stream, dtype: DType, shape: Shape): ReferenceTensor {
    const bytes = shapeSize(shape) * dtypes[dtype].bytes;
    const wanted = `${bytes} bytes for a tensor ${shapeText(shape)} of ${dtype}`;
    const buffer = allocated(bytes, noMemory(wanted), () => new ArrayBuffer(bytes));
    if (bytes >= touched) touch(buffer);
    return new ReferenceTensor(stream, dtype, shape, buffer, 0);
  }

  /** A tensor over bytes that are there already. */
  static over(stream: Stream, dtype: DType, shape: Shape, bytes: Uint8Array): ReferenceTensor {
    return new ReferenceTensor(stream, dtype, shape, bytes.buffer, bytes.byteOffset);
  }

  get byteLength(): number {
    return shapeSize(this.shape) * dtypes[this.dtype].bytes;
  }

  view(shape: Shape, elementOffset: number): ReferenceTensor {
    const byteOffset = this.#byteOffset + elementOffset * dtypes[this.dtype].bytes;
    return new ReferenceTensor(this.#stream, this.dtype, shape, this.#buffer, byteOffset);
  }

  write(source: ArrayBufferView, converts: boolean): void {
    if (converts) this.store(Float64Array.from(source as Float32Array));
    else this.map().set(new Uint8Array(source.buffer, source.byteOffset, source.byteLength));
  }

  overwrite(source: ArrayBufferView, converts: boolean): void {
    this.write(source, converts);
  }

  clear(): void {
    this.map().fill(0);
  }

  async read(converts: boolean): Promise<ArrayBuffer> {
    return this.readSync(converts);
  }

  readSync(converts: boolean): ArrayBuffer {
    this.waitSync();
    return this.peek(converts);
  }

  async wait(): Promise<void> {
    this.waitSync();
  }

  waitSync(): void {
    this.#stream.wait();
  }

  async readInto(target: Uint8Array, converts: boolean): Promise<boolean> {
    this.readIntoSync(target, converts);
    return true;
  }

  readIntoSync(target: Uint8Array, converts: boolean): void {
    target.set(new Uint8Array(this.readSync(converts)));
  }

  peek(converts: boolean): ArrayBuffer {
    const wanted = `memory for the values of a tensor ${shapeText(this.shape)} of ${this.dtype}`;
    const copy = () => (converts ? Float32Array.from(this.values()) : Uint8Array.from(this.map())).buffer;
    return allocated((converts ? 6 : 1) * this.byteLength, noMemory(wanted), copy);
  }

  /** Operators run when they are called, and fail there. */
  readonly failed = false;

  map(): Uint8Array {
    return new Uint8Array(this.#buffer, this.#byteOffset, this.byteLength);
  }

  address(): never {
    throw new MoeError("UNSUPPORTED_OPERATION", "address: expected a native device, got reference");
  }

  /** Views: all memory is the host's. */
  toHost(): HostHandle {
    const kept = this.view(this.shape, 0);
    return { toDevice: () => kept.view(kept.shape, 0), free: () => kept.free() };
  }

  free(): void {}

  /** The values in float64. */
  values(): Float64Array {
    const raw = this.#raw();
    if (this.dtype === "f16") return convertInto(new Float64Array(raw.length), raw, fromF16);
    if (this.dtype === "bf16") return convertInto(new Float64Array(raw.length), raw, fromBF16);
    return Float64Array.from(raw);
  }

  /** The values of a two-dimensional tensor, in float64. */
  matrix(): Matrix {
    const [rows, columns] = this.shape as [number, number];
    return { values: this.values(), rows, columns };
  }

  /** The values of an i32 tensor, as a view of its memory. */
  integers(): Int32Array {
    return this.#raw() as Int32Array;
  }

  /** Stores float64 or integer values, rounded to the tensor's dtype (to nearest, ties to even). */
  store(values: Float64Array | Int32Array): void {
    const raw = this.#raw();
    if (this.dtype === "f16") convertInto(raw as Uint16Array, values, toF16);
    else if (this.dtype === "bf16") convertInto(raw as Uint16Array, values, toBF16);
    else raw.set(values);
  }

  #raw() {
    return new dtypes[this.dtype].raw(this.#buffer as ArrayBuffer, this.#byteOffset, shapeSize(this.shape));
  }
}

/** The values of a matrix, padded with zeros to the given size. */
export function readMatrix(source: StridedMatrix, rows: number, columns: number): Matrix {
  const from = (source.handle as ReferenceTensor).values();
  const matrix = zeros(rows, columns);
  for (let row = 0; row < source.rows; row++) {
    for (let column = 0; column < source.columns; column++) {
      const value = from[row * source.rowStride + column * source.columnStride] as number;
      matrix.values[row * columns + column] = value;
    }
  }
  return matrix;
}
