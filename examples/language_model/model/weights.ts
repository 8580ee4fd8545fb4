import {
  type Device,
  dequantize,
  type FloatDType,
  type MoeModel,
  type PackedExperts,
  packExperts,
  type QuantizedWeight,
  Tensor,
  type TokenFormat,
} from "moe-kernels";
import type { Projection } from "./projection.js";
import { Table } from "./table.js";

/** The weights of a model outside its experts. */
export class Weights {
  readonly model: MoeModel;
  readonly device: Device;
  readonly #tokenFormat: TokenFormat;

  /** @param tokenFormat what products with quantised weights round their rows to. */
  constructor(model: MoeModel, device: Device, tokenFormat: TokenFormat) {
    this.model = model;
    this.device = device;
    this.#tokenFormat = tokenFormat;
  }

  /** What products with these weights round their rows to. */
  tokenFormatOf(...weights: readonly (Tensor<FloatDType> | QuantizedWeight)[]): TokenFormat {
    return weights.every((weight) => weight instanceof Tensor) ? "none" : this.#tokenFormat;
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

  /** A matrix [N, K] for `linear`, or a stack [E, N, K] for `groupedGemm`, in the format of the files. */
  async packed(name: string, shape: readonly number[]): Promise<PackedExperts> {
    using weight = await this.stored(name, shape);
    return packExperts(weight, { tokenFormat: this.tokenFormatOf(weight) });
  }

  /** `name.weight` [N, K] and, if there is one, `name.bias` [N]. @param norm of what it gives, to be disposed of with it. */
  async projection(name: string, rows: number, columns: number, norm?: Tensor<FloatDType>): Promise<Projection> {
    const parts = {
      weight: await this.packed(`${name}.weight`, [rows, columns]),
      bias: await this.optional(`${name}.bias`, [rows]),
      norm,
    };
    const dispose = () => Object.values(parts).forEach((part) => void part?.dispose());
    return { ...parts, [Symbol.dispose]: dispose };
  }
}
