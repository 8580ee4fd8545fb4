import type { Device, Shape, Tensor } from "moe-kernels";

/** Milliseconds of a run: waiting for kernels, copying between device and JavaScript, and computing in JavaScript. */
export interface Times {
  kernels: number;
  copies: number;
  host: number;
}

/**
 * The side of a model that JavaScript computes, in typed arrays, and a record of where time goes. Work on the device is
 * counted where the host waits for it, so the kernels' share is a lower bound: they also run while the host enqueues.
 */
export class Host {
  readonly device: Device;
  readonly times: Times = { kernels: 0, copies: 0, host: 0 };

  constructor(device: Device) {
    this.device = device;
  }

  /** The values of a tensor, once all work before is done. */
  read(tensor: Tensor<"f32">): Float32Array {
    this.wait();
    return this.#timed("copies", () => tensor.dataSync());
  }

  /** A tensor with a copy of the values. */
  tensor(values: Float32Array, shape: Shape): Tensor<"f32"> {
    return this.#timed("copies", () => this.device.tensor(values, shape));
  }

  /** Replaces a tensor's values. */
  write(tensor: Tensor<"f32">, values: Float32Array): void {
    this.#timed("copies", () => tensor.write(values));
  }

  /** Waits for all work before. */
  wait(): void {
    this.#timed("kernels", () => this.device.synchronizeSync());
  }

  /** Runs loops over typed arrays. */
  compute<T>(loops: () => T): T {
    return this.#timed("host", loops);
  }

  #timed<T>(what: keyof Times, work: () => T): T {
    const begin = performance.now();
    const result = work();
    this.times[what] += performance.now() - begin;
    return result;
  }
}
