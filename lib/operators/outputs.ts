import type { Device } from "../core/device/device.js";
import type { DType } from "../core/tensors/dtype.js";
import { Made } from "../core/tensors/made.js";
import type { Shape } from "../core/tensors/shape.js";
import type { Tensor } from "../core/tensors/tensor.js";
import { output } from "./check.js";

/** The outputs of one call, which overlap neither its inputs nor each other. New ones are freed unless the call returns them. */
export class Outputs extends Made {
  readonly #device: Device;
  readonly #others: (Tensor | undefined)[];

  constructor(device: Device, inputs: readonly (Tensor | undefined)[]) {
    super();
    this.#device = device;
    this.#others = [...inputs];
  }

  /** The next one: `out` if given, after checking it, else a new one; see {@link output}. */
  next<D extends DType>(parameter: string, out: Tensor | undefined, shape: Shape, dtype: D): Tensor<D> {
    const tensor = output(parameter, out, this.#device, shape, dtype, this.#others);
    if (out === undefined) this.own(tensor);
    this.#others.push(tensor);
    return tensor;
  }
}
