import {
  type Device,
  dequantize,
  type FloatDType,
  type MoeModel,
  type PackedExperts,
  packExperts,
  type QuantizedWeight,
  Tensor,
} from "moe-kernels";
import { Table } from "./table.js";

/** A projection, and a bias of families that have one. */
export interface Projection extends Disposable {
  readonly weight: PackedExperts;
  readonly bias: Tensor<FloatDType> | undefined;
}

/** The weights of a model outside its experts. */
export class Weights {
  readonly model: MoeModel;
  readonly device: Device;

  constructor(model: MoeModel, device: Device) {
    this.model = model;
    this.device = device;
  }

  /** A weight in the format of the files. */
  stored(name: string, shape: readonly number[]): Promise<Tensor<FloatDType> | (QuantizedWeight & Disposable)> {
    return this.model.weight(name, { device: this.device, shape });
  }

  /** A vector, or a matrix as floats. */
  async floats(name: string, shape: readonly number[]): Promise<Tensor<FloatDType>> {
    const weight = await this.stored(name, shape);
    if (weight instanceof Tensor) return weight;
    using quantized = weight;
    return dequantize(quantized, { dtype: "bf16" });
  }

  /** The same if there is one. */
  async optional(name: string, shape: readonly number[]): Promise<Tensor<FloatDType> | undefined> {
    return this.model.hasWeight(name) ? this.floats(name, shape) : undefined;
  }

  /** A table [V, H] of rows, in the format of the files. */
  async table(name: string, shape: readonly [number, number]): Promise<Table> {
    return new Table(await this.stored(name, shape));
  }

  /** A matrix [N, K] for `linear`, in the format of the files. */
  async packed(name: string, rows: number, columns: number): Promise<PackedExperts> {
    using weight = await this.stored(name, [rows, columns]);
    return packExperts(weight);
  }

  /** `name.weight` [N, K] and, if there is one, `name.bias` [N]. */
  async projection(name: string, rows: number, columns: number): Promise<Projection> {
    const weight = await this.packed(`${name}.weight`, rows, columns);
    const bias = await this.optional(`${name}.bias`, [rows]);
    return {
      weight,
      bias,
      [Symbol.dispose]() {
        weight.dispose();
        bias?.dispose();
      },
    };
  }
}
