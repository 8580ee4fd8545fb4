import type { Shape } from "./shape.js";

/**
 * A backend's side of one tensor: memory, dtype and shape, row-major and contiguous. Views share the memory, which is
 * given back when the last of them is freed and no enqueued work needs it.
 */
export interface TensorHandle {
  /** Another handle on the same memory. */
  view(shape: Shape, elementOffset: number): TensorHandle;
  /**
   * Copies `source` in before it returns. `source` holds the tensor's raw bits, or, where `converts`, float32 values
   * for a 16-bit tensor. Only for a tensor that no enqueued work uses.
   */
  write(source: ArrayBufferView, converts: boolean): void;
  /** As write, but in order with the enqueued work: after the work enqueued before, before the work enqueued after. */
  overwrite(source: ArrayBufferView, converts: boolean): void;
  /** Fills with zeros. Only for a tensor that no enqueued work uses. */
  clear(): void;
  /** The bytes, after all work enqueued before; as float32 values where `converts`. */
  read(converts: boolean): Promise<ArrayBuffer>;
  readSync(converts: boolean): ArrayBuffer;
  /**
   * The bytes as `read` gives them, or undefined while work is unfinished or where the host cannot address the memory.
   * Neither waits nor takes over an error.
   */
  peek(converts: boolean): ArrayBuffer | undefined;
  /**
   * The memory itself, until free(), for reading files straight into it; undefined where the host cannot address it.
   */
  map(): Uint8Array | undefined;
  free(): void;
}

/**
 * A matrix in some tensor's memory: element (row, column) is rowStride * row + columnStride * column elements behind the
 * handle's first. A vector is a matrix of one row.
 */
export interface StridedMatrix {
  readonly handle: TensorHandle;
  readonly rows: number;
  readonly columns: number;
  readonly rowStride: number;
  readonly columnStride: number;
}
