import type { Device } from "../device/device.js";
import type { DType } from "./dtype.js";
import type { Shape } from "./shape.js";
import { Tensor } from "./tensor.js";
import type { HostHandle } from "./tensor_handle.js";

/** Whether a device has memory of its own, so that moving a tensor to the host's frees some. */
export function hasOwnMemory({ kind }: Device): boolean {
  return kind !== "cpu" && kind !== "reference";
}

/** A tensor's values in the host's memory, while the device has no use for them. */
export class HostTensor<D extends DType = DType> implements Disposable {
  readonly #device: Device;
  readonly #dtype: D;
  readonly #shape: Shape;
  readonly #handle: HostHandle;
  /** Bytes of the host's memory. */
  readonly byteLength: number;

  /** Copies a tensor, in order with the enqueued work. @throws OUT_OF_MEMORY, DISPOSED. */
  constructor(tensor: Tensor<D>) {
    this.#device = tensor.device;
    this.#dtype = tensor.dtype;
    this.#shape = tensor.shape;
    this.#handle = tensor.handle.toHost();
    this.byteLength = tensor.byteLength;
  }

  /** A copy on the device, in order with the enqueued work. @throws OUT_OF_MEMORY, DISPOSED. */
  toDevice(): Tensor<D> {
    void this.#device.backend;
    return new Tensor(this.#device, this.#dtype, this.#shape, this.#handle.toDevice());
  }

  /** Frees the memory. */
  dispose(): void {
    this.#handle.free();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
