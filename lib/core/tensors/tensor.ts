import { constants } from "node:buffer";
import { type InspectOptions, inspect, types } from "node:util";
import type { Device } from "../device/device.js";
import { checkMadeBy, checkOwnClass } from "../device/own_class.js";
import { ThreadBound } from "../device/thread_bound.js";
import { checkInteger, MoeError, unexpected } from "../errors.js";
import { type ArrayKind, typedArray } from "../input/foreign.js";
import { type DLTensor, dlDevice, dlTensorOf } from "./dlpack.js";
import { type ArrayOf, type DType, dtypes, type RawArrayOf } from "./dtype.js";
import { checkNests, type NestedArray, nest, nestedArrays } from "./nested.js";
import { readShape, type Shape, shapeSize, shapeText } from "./shape.js";
import type { TensorHandle } from "./tensor_handle.js";
import { type TensorSource, upload } from "./tensor_source.js";
import { markWritten } from "./unwritten.js";

/** `util.inspect` omits the values of tensors with more elements than this: a record of many tensors stays readable. */
const inspectLimit = 1000;

/**
 * A typed array in the memory of one device: row-major, contiguous, at most four dimensions.
 *
 * Made by {@link Device.tensor} and by the operators. Operators return before the work is done; `await data()` waits
 * for it. `dispose()` (or `using`) frees the memory at once; the garbage collector is the backstop.
 */
export class Tensor<D extends DType = DType> extends ThreadBound implements Disposable {
  readonly #device: Device;
  readonly #dtype: D;
  readonly #shape: Shape;
  #handle: TensorHandle | undefined;
  /** The allocation, which a tensor shares with its views, and the first element's place in it. */
  readonly #memory: object;
  readonly #offset: number;

  /** @internal Use {@link Device.tensor}. */
  constructor(device: Device, dtype: D, shape: Shape, handle: TensorHandle, memory: object = handle, offset = 0) {
    super();
    checkOwnClass(new.target, Tensor);
    checkMadeBy("device.tensor(values, shape)", Tensor, memory !== undefined);
    this.#device = device;
    this.#dtype = dtype;
    this.#shape = Object.isFrozen(shape) ? shape : Object.freeze([...shape]);
    this.#handle = handle;
    this.#memory = memory;
    this.#offset = offset;
    Object.freeze(this);
  }

  /** True for real tensors only, not for objects that merely inherit from one. */
  static override [Symbol.hasInstance](value: unknown): value is Tensor {
    return typeof value === "object" && value !== null && #handle in value;
  }

  /** Where its memory is. */
  get device(): Device {
    return this.#device;
  }

  /** The type of its elements. */
  get dtype(): D {
    return this.#dtype;
  }

  /** The sizes, outermost first; a frozen array. */
  get shape(): Shape {
    return this.#shape;
  }

  /** Number of dimensions. */
  get rank(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return shapeSize(this.shape);
  }

  /** Bytes of its elements. */
  get byteLength(): number {
    return this.size * dtypes[this.dtype].bytes;
  }

  /** Whether it was disposed of, alone or with its device. */
  get disposed(): boolean {
    return this.#handle === undefined || this.#device.disposed;
  }

  /** @internal The backend's side; throws DISPOSED after dispose() of this tensor or of its device. */
  get handle(): TensorHandle {
    if (this.#handle === undefined) {
      throw new MoeError(
        "DISPOSED",
        `tensor ${shapeText(this.shape)}: used after dispose(); keep it until its last use`,
      );
    }
    void this.device.backend;
    return this.#handle;
  }

  /**
   * The values, once all work enqueued so far is done; f16 and bf16 as a Float32Array. Rejects with the first error of
   * that work; if the work that computes this tensor failed, with that error until the tensor is written again; with
   * OUT_OF_MEMORY if JavaScript has no memory for the array; with INVALID_ARGUMENT if there are more values than a typed
   * array can have (2^32 on Node 20): read {@link rows} then.
   */
  async data(): Promise<ArrayOf<D>> {
    return new dtypes[this.dtype].values(await this.#readable("data").read(this.#converts)) as ArrayOf<D>;
  }

  /** As {@link data}, but blocks the calling thread. */
  dataSync(): ArrayOf<D> {
    return new dtypes[this.dtype].values(this.#readable("dataSync").readSync(this.#converts)) as ArrayOf<D>;
  }

  /**
   * As {@link data}, into an array that is there already: for many reads, as fresh memory takes longer to get than to fill.
   * A SharedArrayBuffer is filled in the background, other memory is copied to when the promise settles.
   * @param target as many values as the tensor has; for f16 and bf16 a Float32Array, or a Uint16Array for their bits.
   * @throws what {@link data} rejects with; INVALID_ARGUMENT for another array, one over a buffer that can change its length,
   * and one whose buffer is transferred before the promise settles.
   */
  async readInto(target: ArrayOf<D> | RawArrayOf<D>): Promise<void> {
    const { bytes, converts } = this.#target(target);
    const handle = this.#readable("readInto");
    if (await handle.readInto(bytes, converts, types.isSharedArrayBuffer(bytes.buffer))) return;
    throw unexpected("target", "an array that keeps its buffer", "one whose buffer was transferred");
  }

  /** As {@link readInto}, but blocks the calling thread; the fastest way to read. */
  readIntoSync(target: ArrayOf<D> | RawArrayOf<D>): void {
    const { bytes, converts } = this.#target(target);
    this.#readable("readIntoSync").readIntoSync(bytes, converts);
  }

  /** As {@link data}, but the stored bits: f16 and bf16 as a Uint16Array. */
  async raw(): Promise<RawArrayOf<D>> {
    return new dtypes[this.dtype].raw(await this.#readable("raw").read(false)) as RawArrayOf<D>;
  }

  /** As {@link raw}, but blocks the calling thread. */
  rawSync(): RawArrayOf<D> {
    return new dtypes[this.dtype].raw(this.#readable("rawSync").readSync(false)) as RawArrayOf<D>;
  }

  /**
   * The memory itself, once all work enqueued so far is done; f16 and bf16 as a Uint16Array. Nothing is copied: what is
   * written to the array is in the tensor, and the other way round. Do not touch it while enqueued work uses the tensor.
   * It is empty once this tensor is disposed of; if only the device is, it keeps the memory until it is collected. Do not
   * transfer its buffer to another thread: most runtimes refuse that, and a tensor on `reference` would lose its memory.
   * @throws UNSUPPORTED_OPERATION on `cuda`, whose memory the CPU cannot address; what {@link data} rejects with.
   */
  async map(): Promise<RawArrayOf<D>> {
    await this.handle.wait();
    return this.#mapped();
  }

  /** As {@link map}, but blocks the calling thread. */
  mapSync(): RawArrayOf<D> {
    this.handle.waitSync();
    return this.#mapped();
  }

  #mapped(): RawArrayOf<D> {
    markWritten(this); // by whoever gets the array
    const { raw } = dtypes[this.dtype];
    const memory = this.#memory;
    const arrayOver = (buffer: unknown, offset: number) =>
      new raw(buffer as ArrayBuffer, offset, this.size) as RawArrayOf<D>;
    if (types.isSharedArrayBuffer(memory)) return arrayOver(memory, this.#byteOffset);
    const bytes = this.handle.map();
    if (bytes !== undefined) return arrayOver(bytes.buffer, bytes.byteOffset);
    throw new MoeError(
      "UNSUPPORTED_OPERATION",
      `map: expected memory that the CPU can address, got that of ${this.device.name}, or of a pointer; use raw()`,
    );
  }

  /**
   * Its memory in the terms of DLPack, for other native libraries. The memory is there until this tensor and its views are
   * disposed of or collected, so keep it. Wait for the work that computes it: by `device.synchronize()`, or on `cuda` by
   * `device.submitted()` for work that is put on the stream that the device was opened with.
   * @throws UNSUPPORTED_OPERATION on `reference`; DISPOSED.
   */
  toDLPack(): DLTensor {
    const device = dlDevice("toDLPack", this.device.name);
    markWritten(this); // by whoever gets the address
    return dlTensorOf(this.handle.address(), device, this.dtype, this.shape);
  }

  /**
   * Replaces the values with a copy of `source`, in order with the enqueued work: earlier work sees the old values,
   * later work the new ones. `source` may be changed as soon as this returns: the call blocks while it is copied, 0.5 to
   * 1 s for a GiB on an AMD EPYC Zen 4. Conversions to f16 and bf16 are enqueued.
   * @param source as many values as the tensor has, in any form that {@link Device.tensor} takes.
   * @throws SHAPE_MISMATCH, INVALID_ARGUMENT, UNSUPPORTED_DTYPE, OUT_OF_MEMORY (for the copy), DISPOSED.
   */
  write(source: TensorSource): void {
    const { array, converts } = upload(source, this.shape, this.dtype);
    this.handle.overwrite(array, converts);
    markWritten(this);
  }

  /**
   * The values as nested arrays, as deep as the tensor has dimensions.
   * @throws INVALID_ARGUMENT for more than 2^26 values or 2^24 arrays.
   */
  async toArray(): Promise<NestedArray> {
    checkNests("toArray", this.shape, "use data()");
    return nest(await this.data(), this.shape);
  }

  /** As {@link toArray}, but blocks the calling thread. */
  toArraySync(): NestedArray {
    checkNests("toArraySync", this.shape, "use dataSync()");
    return nest(this.dataSync(), this.shape);
  }

  /**
   * A view of the same memory in another shape.
   * @throws SHAPE_MISMATCH for another number of elements; INVALID_ARGUMENT, DISPOSED.
   */
  reshape(shape: Shape): Tensor<D> {
    const sizes = readShape("shape", shape);
    if (shapeSize(sizes) !== this.size) {
      throw new MoeError(
        "SHAPE_MISMATCH",
        `reshape: expected a shape of ${this.size} elements like ${shapeText(this.shape)}, got ${shapeText(sizes)}`,
      );
    }
    return this.#view(sizes, 0);
  }

  /**
   * A view of rows `begin` to `end` (exclusive) of the first dimension.
   * @throws INVALID_ARGUMENT for rows that are not there; SHAPE_MISMATCH for a tensor without dimensions; DISPOSED.
   */
  rows(begin: number, end: number): Tensor<D> {
    const count = this.shape[0];
    if (count === undefined) {
      throw new MoeError("SHAPE_MISMATCH", "rows: expected a tensor of at least one dimension, got a scalar");
    }
    checkInteger("begin", begin, 0, count);
    checkInteger("end", end, begin, count);
    const rest = this.shape.slice(1);
    return this.#view([end - begin, ...rest], begin * shapeSize(rest));
  }

  #view(shape: Shape, offset: number): Tensor<D> {
    const handle = this.handle.view(shape, offset);
    return new Tensor(this.device, this.dtype, shape, handle, this.#memory, this.#offset + offset);
  }

  get #byteOffset(): number {
    return this.#offset * dtypes[this.dtype].bytes;
  }

  /** @internal The allocation. */
  get memory(): object {
    return this.#memory;
  }

  /** @internal Whether an element of this tensor is one of `other` too. */
  overlaps(other: Tensor): boolean {
    if (this.size === 0 || other.size === 0) return false;
    if (this.#memory === other.#memory)
      return meet(this.#byteOffset, this.byteLength, other.#byteOffset, other.byteLength);
    // A thread gets shared memory as an object of its own, and an address may be given twice.
    const addressed = this.device === other.device && this.device.kind !== "reference";
    if (!addressed || !(isForeign(this.#memory) || isForeign(other.#memory))) return false;
    const apart = Number(other.handle.address() - this.handle.address());
    return meet(0, this.byteLength, apart, other.byteLength);
  }

  /** Frees the memory, unless a view or enqueued work still needs it. Idempotent. */
  dispose(): void {
    this.#handle?.free();
    this.#handle = undefined;
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /**
   * For `util.inspect` and `console.log`: dtype, shape and device, plus the values of a small tensor in host memory if
   * all enqueued work is done. Never waits and never throws; an error of enqueued work is left to the next wait.
   */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const head = `Tensor<${this.dtype}> ${shapeText(this.shape)} on ${this.device.name}`;
    if (this.#handle === undefined || this.device.disposed) return `${head} (disposed)`;
    if (Math.max(this.size, nestedArrays(this.shape)) > inspectLimit) return head;
    const bytes = peekOrNothing(this.#handle, this.#converts);
    if (bytes === undefined) return head;
    const values = nest(new dtypes[this.dtype].values(bytes), this.shape);
    return `${head} ${inspect(values, { ...options, depth: null })}`;
  }

  /** The bytes of an array to read into, and whether it takes values instead of bits. */
  #target(target: unknown): { bytes: Uint8Array; converts: boolean } {
    const { raw, values } = dtypes[this.dtype];
    const kinds = [...new Set([values.name, raw.name])] as ArrayKind[];
    const expected = `a ${kinds.join(" or ")} of the tensor's ${this.size} values`;
    const array = typedArray("target", target, kinds, expected);
    if (array.length !== this.size) throw unexpected("target", expected, `${array.length}`);
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    return { bytes, converts: !(array instanceof raw) };
  }

  get #converts(): boolean {
    return dtypes[this.dtype].values !== dtypes[this.dtype].raw;
  }

  /** The handle of a tensor whose elements one typed array can have. */
  #readable(method: string): TensorHandle {
    const { handle } = this;
    if (this.size <= constants.MAX_LENGTH) return handle;
    const most = `at most ${constants.MAX_LENGTH} elements, as many as a typed array can have`;
    throw new MoeError("INVALID_ARGUMENT", `${method}: expected ${most}, got ${this.size}; read rows(begin, end)`);
  }
}

/** Stands for the memory of a tensor over an address. */
export class PointedMemory {}

/** Whether other tensors may have this memory too, in the name of another object. */
function isForeign(memory: object): boolean {
  return types.isSharedArrayBuffer(memory) || memory instanceof PointedMemory;
}

function meet(begin: number, length: number, otherBegin: number, otherLength: number): boolean {
  return begin < otherBegin + otherLength && otherBegin < begin + length;
}

/** Inspection must not fail, even if there is no memory for the copy. */
function peekOrNothing(handle: TensorHandle, converts: boolean): ArrayBuffer | undefined {
  try {
    return handle.peek(converts);
  } catch {
    return undefined;
  }
}
