import type { Device } from "../../core/device/device.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { describeLayer } from "../../layer/description/config.js";
import { activationOf } from "../../operators/experts/activation_options.js";
import { type PackedExperts, packExperts } from "../../operators/experts/packed_experts.js";
import { RandomWeights } from "../../testing/inputs/random_layer.js";
import { uploadQuantized } from "../../testing/subject/arrays.js";
import type { TestArray } from "../../testing/subject/subject.js";
import type { CaseOptions } from "../bench_case.js";
import type { CaseWeights } from "../operators/operator_case.js";
import {
  arrayBytes,
  expertArrays,
  type QuantizedArrays,
  quantizedArrays,
  weightDeviation,
  weightSeed,
} from "./expert_weights.js";

/**
 * Expert weights of one case, made once for all numbers of tokens: enough copies of them that calls find none in a cache.
 */
export class WeightPool implements Disposable {
  readonly #device: Device;
  readonly #options: CaseOptions;
  readonly #weights: CaseWeights;
  readonly #packed: PackedExperts[] = [];
  readonly #arrays: (TestArray | QuantizedArrays)[] = [];

  constructor(device: Device, options: CaseOptions, weights: CaseWeights) {
    this.#device = device;
    this.#options = options;
    this.#weights = weights;
  }

  /** The weights as our operators take them. */
  async packed(): Promise<readonly PackedExperts[]> {
    const size = () => this.#packed.reduce((total, { byteLength }) => total + byteLength, 0);
    while (this.#packed.length === 0 || size() < this.#options.weightBytes) {
      this.#packed.push(this.#pack(this.#packed.length));
      await this.#device.synchronize();
    }
    return this.#packed;
  }

  /** The same numbers as contenders take them. Each call returns the same objects, unless they are to be drawn anew. */
  arrays(anew = false): readonly (TestArray | QuantizedArrays)[] {
    if (anew) this.#arrays.length = 0;
    const size = () => this.#arrays.reduce((total, weight) => total + arrayBytes(weight), 0);
    while (this.#arrays.length === 0 || size() < this.#options.weightBytes) {
      this.#arrays.push(expertArrays(this.#weights, this.#options, this.#arrays.length));
    }
    return [...this.#arrays];
  }

  #pack(copy: number): PackedExperts {
    const { config, format, tokenFormat } = this.#options;
    const { rows, columns, activates } = this.#weights;
    const options = activates ? activationOf(describeLayer(config, "f32")) : {};
    if (isPlain(weightFormat(format))) {
      const random = new RandomWeights(weightSeed(this.#weights, copy));
      const shape = [config.numExperts, rows, columns];
      using plain = random.tensor(this.#device, shape, format as FloatDType, weightDeviation(this.#weights));
      return packExperts(plain, options);
    }
    const made: Disposable[] = [];
    try {
      const arrays = quantizedArrays(this.#weights, this.#options, copy);
      const weight = uploadQuantized(this.#device, arrays, (tensor) => made.push(tensor));
      return packExperts(weight, { ...options, tokenFormat });
    } finally {
      for (const tensor of made) tensor[Symbol.dispose]();
    }
  }

  /** Frees all weights. */
  [Symbol.dispose](): void {
    for (const weights of this.#packed) weights.dispose();
  }
}
