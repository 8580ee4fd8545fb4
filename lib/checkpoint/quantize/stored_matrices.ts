import type { Device } from "../../core/device/device.js";
import { dtypes, type FloatDType } from "../../core/tensors/dtype.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { wholeMatrix } from "../../layer/weights/weight_layout.js";
import { type LocatedWeight, memoryFor, type TensorRange } from "../locate/located_weight.js";

/** Reads matrices [N, K] and vectors [N] of floats from tensors of any layout. What two of them share is read once, if one follows the other. */
export class StoredMatrices implements Disposable {
  readonly #device: Device;
  #last: { readonly range: TensorRange; readonly tensor: Tensor<FloatDType> } | undefined;

  constructor(device: Device) {
    this.#device = device;
  }

  /** A matrix or vector as a tensor of its own, in the dtype of the file; dispose of it after use. */
  async read(source: LocatedWeight, shape: Shape): Promise<Tensor<FloatDType>> {
    const stored = await this.#stored(source);
    const matrix = wholeMatrix({ tensor: stored, ...source.layout }, shape);
    const values = this.#device.empty(shape, stored.dtype);
    try {
      this.#device.backend.copyMatrix({ source: matrix, target: values.handle });
      return values;
    } catch (error) {
      values.dispose();
      throw error;
    } finally {
      matrix.handle.free();
    }
  }

  async #stored({ ranges, shape, format }: LocatedWeight): Promise<Tensor<FloatDType>> {
    const [range] = ranges as readonly [TensorRange];
    const { file, name, byteOffset } = range;
    const last = this.#last;
    if (last?.range.file === file && last.range.name === name && last.range.byteOffset === byteOffset)
      return last.tensor;
    this[Symbol.dispose]();
    const bytes = memoryFor(range);
    await file.readRange(name, byteOffset, bytes);
    const dtype = format as FloatDType;
    const tensor = this.#device.tensor(new dtypes[dtype].raw(bytes.buffer) as Float32Array, shape, dtype);
    this.#last = { range, tensor };
    return tensor;
  }

  [Symbol.dispose](): void {
    this.#last?.tensor.dispose();
    this.#last = undefined;
  }
}
