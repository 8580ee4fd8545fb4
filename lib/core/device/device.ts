import { inspect } from "node:util";
import { invalidArgument, MoeError } from "../errors.js";
import { callback, type Fields, object, optional, type Reader, unsigned64 } from "../input/options.js";
import { type DLTensor, dlDevice, readDLTensor } from "../tensors/dlpack.js";
import { checkDType, type DType, dtypes, type RawArrayOf } from "../tensors/dtype.js";
import { readShape, type Shape, shapeSize } from "../tensors/shape.js";
import { PointedMemory, Tensor } from "../tensors/tensor.js";
import { type TensorSource, upload } from "../tensors/tensor_source.js";
import { wrappedArray } from "../tensors/wrapped_array.js";
import type { Backend, DeviceKind, Warnings } from "./backend.js";
import { checkMadeBy } from "./own_class.js";
import { ThreadBound } from "./thread_bound.js";

/** Options of {@link Device.wrapPointer}. */
export interface WrapPointerOptions {
  /** Called once, when neither tensors nor enqueued work use the memory any more; default nothing. */
  release?: (() => void) | undefined;
}

const readAddress = unsigned64(1n, "a bigint from 1 to 2^64 - 1");
const wrapPointerOptions = object(
  { release: optional(callback<() => void>()) } satisfies Fields<WrapPointerOptions>,
  "{ release }",
);

/**
 * A device with one in-order stream: operators on its tensors are enqueued and run one after another, without blocking
 * the event loop. `await close()` finishes the work in flight and then ends the device; `dispose()` ends it at once.
 */
export class Device extends ThreadBound implements Disposable, AsyncDisposable {
  readonly #name: string;
  readonly #kind: DeviceKind;
  readonly #description: string;
  readonly #reason: string;
  #backend: Backend | undefined;
  #closed: Promise<void> | undefined;

  /** @internal Use openDevice. */
  constructor(name: string, backend: Backend, reason: string) {
    super();
    checkMadeBy("openDevice(name)", Device, backend !== undefined);
    this.#name = name;
    this.#kind = backend.kind;
    this.#description = backend.description;
    this.#reason = reason;
    this.#backend = backend;
  }

  /** True for real devices only, not for objects that merely inherit from one. */
  static override [Symbol.hasInstance](value: unknown): value is Device {
    return typeof value === "object" && value !== null && #backend in value;
  }

  /** As it was opened: `cpu`, `cuda:0`, ... */
  get name(): string {
    return this.#name;
  }

  /** Its kind, without a number. */
  get kind(): DeviceKind {
    return this.#kind;
  }

  /** What this device is, for display. */
  get description(): string {
    return this.#description;
  }

  /** Why `auto` chose this device; empty if it was opened by name. */
  get reason(): string {
    return this.#reason;
  }

  /** Whether it was closed or disposed of. */
  get disposed(): boolean {
    return this.#backend === undefined;
  }

  /** @internal The operator table; throws DISPOSED after dispose(). */
  get backend(): Backend {
    if (this.#backend === undefined) {
      throw new MoeError("DISPOSED", `device ${this.name}: used after dispose() or close()`);
    }
    return this.#backend;
  }

  /**
   * A tensor with a copy of `source`: a typed array, nested arrays or a number. Blocks while it is copied or converted,
   * about 0.4 s for a GiB of float32 values on an AMD EPYC Zen 4; a large conversion to f16 is enqueued instead.
   *
   * Without a dtype it is i32 for an Int32Array, u8 for a Uint8Array, else f32. A Uint16Array holds f16 or bf16 bits and
   * needs a dtype.
   * @param shape default: the length of a typed array, or the shape of nested arrays.
   * @throws SHAPE_MISMATCH, INVALID_ARGUMENT, UNSUPPORTED_DTYPE, OUT_OF_MEMORY, DISPOSED.
   */
  tensor(source: Int32Array, shape?: Shape): Tensor<"i32">;
  tensor(source: Uint8Array, shape?: Shape): Tensor<"u8">;
  tensor(source: TensorSource, shape?: Shape): Tensor<"f32">;
  tensor<D extends DType>(source: TensorSource, shape: Shape | undefined, dtype: D): Tensor<D>;
  tensor(source: TensorSource, shape?: Shape, dtype?: DType): Tensor {
    if (dtype !== undefined) checkDType(dtype);
    const checked = upload(source, shape, dtype);
    const tensor = this.allocate(checked.shape, checked.dtype);
    tensor.handle.write(checked.array, checked.converts);
    return tensor;
  }

  /**
   * A tensor over an array's own memory, without a copy; the array stays alive while anything uses the tensor. The array
   * must be over a SharedArrayBuffer of fixed length, as other buffers can be moved or resized under a native thread. Do not
   * write to it, or read what is computed into it, while enqueued work uses the tensor.
   * @param source a Float32Array, Int32Array or Uint8Array, or on `reference` a Float64Array; with a dtype of f16 or bf16, a
   * Uint16Array of their bits.
   * @param shape default: the array's length.
   * @throws INVALID_ARGUMENT (another array, a growable buffer), SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DISPOSED;
   * UNSUPPORTED_OPERATION on `cuda`.
   */
  wrap(source: Int32Array, shape?: Shape): Tensor<"i32">;
  wrap(source: Uint8Array, shape?: Shape): Tensor<"u8">;
  wrap(source: Float32Array, shape?: Shape): Tensor<"f32">;
  wrap(source: Float64Array, shape?: Shape): Tensor<"f64">;
  wrap<D extends DType>(source: RawArrayOf<D>, shape: Shape | undefined, dtype: D): Tensor<D>;
  wrap(source: ArrayBufferView, shape?: Shape, dtype?: DType): Tensor {
    const wrapped = wrappedArray(source, shape, dtype);
    this.#checkDType(wrapped.dtype);
    const { bytes } = wrapped;
    const handle = this.backend.wrap(bytes, wrapped.dtype, wrapped.shape);
    const offset = bytes.byteOffset / dtypes[wrapped.dtype].bytes;
    return new Tensor(this, wrapped.dtype, wrapped.shape, handle, bytes.buffer, offset);
  }

  /**
   * A tensor over memory at an address, without a copy: of another native library, in the memory of the CPU, or on `cuda` in
   * the memory of its GPU. What is given is trusted: memory of the tensor's size must be there until `release` is called,
   * or the process may crash.
   * @param address a multiple of the dtype's size.
   * @param options.release called on this thread when no tensor, view or enqueued work uses the memory any more, unless the
   * process or worker ends before.
   * @throws INVALID_ARGUMENT, UNSUPPORTED_DTYPE, DISPOSED; UNSUPPORTED_OPERATION on `reference`.
   */
  wrapPointer<D extends DType>(address: bigint, shape: Shape, dtype: D, options: WrapPointerOptions = {}): Tensor<D> {
    const place = readAddress(address, "address");
    const sizes = readShape("shape", shape);
    checkDType(dtype);
    this.#checkDType(dtype);
    const { release } = wrapPointerOptions(options, "options");
    const handle = this.backend.wrapPointer(place, dtype, sizes, release ?? null);
    return new Tensor(this, dtype, sizes, handle, new PointedMemory());
  }

  /**
   * As {@link wrapPointer}, over what another library describes in the terms of DLPack. On `cuda`, work that writes it must
   * be done, or enqueued on the stream that the device was opened with.
   * @throws INVALID_ARGUMENT for memory of another device, elements that are not row after row, or types that this package
   * does not have; UNSUPPORTED_DTYPE, DISPOSED; UNSUPPORTED_OPERATION on `reference`.
   */
  fromDLPack(tensor: DLTensor, options: WrapPointerOptions = {}): Tensor {
    const { address, dtype, shape } = readDLTensor("tensor", tensor, dlDevice("fromDLPack", this.name));
    // An empty tensor may have no address; any will do.
    const some = shapeSize(shape) === 0 && address === 0n ? BigInt(dtypes[dtype].bytes) : address;
    return this.wrapPointer(some, shape, dtype, options);
  }

  /**
   * A tensor whose memory is not initialised (NaN patterns if the device was opened with `poison`).
   * @throws INVALID_ARGUMENT, UNSUPPORTED_DTYPE, OUT_OF_MEMORY, DISPOSED.
   */
  empty<D extends DType>(shape: Shape, dtype: D): Tensor<D> {
    const sizes = readShape("shape", shape);
    checkDType(dtype);
    return this.allocate(sizes, dtype);
  }

  /** @internal As {@link empty}, for sizes and a dtype that were checked before. */
  allocate<D extends DType>(shape: Shape, dtype: D): Tensor<D> {
    this.#checkDType(dtype);
    return new Tensor(this, dtype, shape, this.backend.empty(dtype, shape));
  }

  #checkDType(dtype: DType): void {
    if (dtype !== "f64" || this.kind === "reference") return;
    throw new MoeError(
      "UNSUPPORTED_DTYPE",
      `dtype: expected f32, f16, bf16, i32 or u8 on ${this.name}, got f64 (reference only)`,
    );
  }

  /**
   * A tensor of zeros. On Linux, a large one is made of fresh pages, which the system clears when they are used.
   * @throws as {@link empty}.
   */
  zeros<D extends DType>(shape: Shape, dtype: D): Tensor<D> {
    const tensor = this.empty(shape, dtype);
    tensor.handle.clear();
    return tensor;
  }

  /** Resolves when all work enqueued so far is done; rejects with the first error since the last wait. */
  async synchronize(): Promise<void> {
    await this.backend.synchronize();
  }

  /** As {@link synchronize}, but blocks the calling thread. */
  synchronizeSync(): void {
    this.backend.synchronizeSync();
  }

  /**
   * Resolves when all work enqueued so far is where the device takes it from: on `cuda`, on its CUDA stream, so that work
   * that is then put on the same stream follows it, without waiting for the GPU; elsewhere, done. Rejects as
   * {@link synchronize} does, with errors that are known by then.
   */
  async submitted(): Promise<void> {
    await this.backend.submitted();
  }

  /** Counters since the device was opened, covering the work that is done; see {@link Warnings}. */
  get warnings(): Warnings {
    return this.backend.warnings();
  }

  /**
   * Finishes the work in flight and closes the device. It takes no new work from now on, and its tensors and layers are
   * unusable; promises of earlier calls settle as usual. Idempotent. Rejects with the first error since the last wait.
   */
  async close(): Promise<void> {
    if (this.#backend !== undefined) {
      // If this throws, the device stays open.
      this.#closed = this.#backend.close();
      this.#backend = undefined;
    }
    await this.#closed;
  }

  /**
   * Closes the device without waiting. Work that has not begun is dropped, and promises that wait for it reject with
   * DISPOSED; work that is running ends in the background and then frees its memory. Idempotent; does nothing after
   * {@link close}.
   */
  dispose(): void {
    this.#backend?.dispose();
    this.#backend = undefined;
  }

  /** As {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `Device ${this.name}: ${this.description}${this.disposed ? " (disposed)" : ""}`;
  }
}

export const openedDevice: Reader<Device> = (value, name) => {
  if (value instanceof Device) return value;
  throw invalidArgument(name, "a Device, as openDevice(name) makes", value);
};
