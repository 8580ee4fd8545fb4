import type { Shape } from "./shape.js";

/**
 * The backend's side of a tensor: memory, dtype and shape, row-major and contiguous. Views share the memory; it is
 * released once the last of them is freed and no enqueued work needs it.
 */
export interface TensorHandle {
  /** Another handle on the same memory. */
  view(shape: Shape, elementOffset: number): TensorHandle;
  /**
   * Copies `source` into the tensor before returning. `source` holds the tensor's raw bits or, if `converts`, float32
   * values for a 16-bit tensor. Only for a tensor that no enqueued work uses.
   */
  write(source: ArrayBufferView, converts: boolean): void;
  /** As write, but in order with the enqueued work. */
  overwrite(source: ArrayBufferView, converts: boolean): void;
  /** Fills with zeros. Only for a tensor that no enqueued work uses. */
  clear(): void;
  /** The bytes, once all work enqueued so far is done; as float32 values if `converts`. */
  read(converts: boolean): Promise<ArrayBuffer>;
  readSync(converts: boolean): ArrayBuffer;
  /**
   * Copies what `read` returns into memory of just as many bytes; shared memory while JavaScript goes on, other memory when
   * the promise settles.
   * @returns false if the target's buffer was transferred in the meantime.
   */
  readInto(target: Uint8Array, converts: boolean, shared: boolean): Promise<boolean>;
  readIntoSync(target: Uint8Array, converts: boolean): void;
  /** Waits as `read` does, and fails as it does, but copies nothing. */
  wait(): Promise<void>;
  waitSync(): void;
  /**
   * The bytes as `read` returns them; undefined while work is unfinished or if the host cannot address the memory.
   * Neither waits nor reports (and so consumes) an error.
   */
  peek(converts: boolean): ArrayBuffer | undefined;
  /** Whether the work that wrote it has failed; false while work is unfinished. Neither waits nor consumes the error. */
  readonly failed: boolean;
  /** The memory itself, valid until free(), to read files straight into; undefined if the host cannot address it. */
  map(): Uint8Array | undefined;
  /** A copy in the host's memory, in order with the enqueued work. */
  toHost(): HostHandle;
  /** The address of its first element in the memory of the device. @throws UNSUPPORTED_OPERATION on `reference`. */
  address(): bigint;
  free(): void;
}

/** A tensor's values in the host's memory, where no operator can use them. */
export interface HostHandle {
  /** A copy in the device's memory, in order with the enqueued work. */
  toDevice(): TensorHandle;
  free(): void;
}

/**
 * A matrix in some tensor's memory: element (row, column) is rowStride * row + columnStride * column elements after the
 * handle's first. A vector is a matrix of one row.
 */
export interface StridedMatrix {
  readonly handle: TensorHandle;
  readonly rows: number;
  readonly columns: number;
  readonly rowStride: number;
  readonly columnStride: number;
}
