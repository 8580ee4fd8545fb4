import type { Device } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import type { Shape } from "../core/shape.js";
import type { Tensor } from "../core/tensor.js";
import { isPlain, weightFormat } from "../core/weight_formats.js";
import { describeLayer } from "../layer/description/config.js";
import { type PackedExperts, packExperts } from "../operators/experts/grouped_gemm.js";
import { mapTensors, type QuantizedWeight, tensorsOf } from "../operators/experts/quantized_weight.js";
import { Random } from "../testing/random.js";
import { RandomWeights } from "../testing/random_layer.js";
import { randomQuantized } from "../testing/random_quantized.js";
import type { CaseOptions } from "./bench_case.js";
import type { CaseWeights } from "./operators/operator_case.js";

/** What the weights of all experts are drawn from. */
export const weightSeed = ({ rows, columns }: CaseWeights, copy: number): string =>
  `weights ${rows} ${columns} ${copy}`;

/** How wide their values spread. */
export const weightDeviation = ({ columns }: CaseWeights): number => columns ** -0.5;

/** Packed expert weights, made once for all numbers of tokens: enough copies of them that calls find none in a cache. */
export class WeightPool implements Disposable {
  readonly #device: Device;
  readonly #options: CaseOptions;
  readonly #held = new Map<string, PackedExperts[]>();

  constructor(device: Device, options: CaseOptions) {
    this.#device = device;
    this.#options = options;
  }

  async packed(weights: CaseWeights): Promise<readonly PackedExperts[]> {
    const key = JSON.stringify(weights);
    const known = this.#held.get(key);
    if (known !== undefined) return known;
    const copies: PackedExperts[] = [];
    this.#held.set(key, copies);
    do {
      copies.push(this.#pack(weights, copies.length));
      await this.#device.synchronize();
    } while (copies.length * (copies[0] as PackedExperts).byteLength < this.#options.weightBytes);
    return copies;
  }

  #pack(weights: CaseWeights, copy: number): PackedExperts {
    const { config, format, tokenFormat } = this.#options;
    const { rows, columns, activates } = weights;
    const { activation, clamp } = describeLayer(config, "f32");
    const options = activates ? { activation, clamp } : {};
    const seed = weightSeed(weights, copy);
    if (isPlain(weightFormat(format))) {
      const shape = [config.numExperts, rows, columns];
      using plain = new RandomWeights(seed).tensor(this.#device, shape, format as FloatDType, weightDeviation(weights));
      return packExperts(plain, options);
    }
    // Experts are equal, so that making all of them takes no longer than one.
    const one = randomQuantized(this.#device, new Random(seed), format, [rows, columns]);
    const all = mapTensors(one, (tensor) => this.#stacked(tensor));
    try {
      return packExperts({ ...all, columns } as QuantizedWeight, { ...options, tokenFormat });
    } finally {
      for (const tensor of [...tensorsOf(one), ...tensorsOf(all)]) tensor.dispose();
    }
  }

  /** As many copies of a tensor as there are experts. */
  #stacked(tensor: Tensor): Tensor {
    const { numExperts } = this.#options.config;
    const values = tensor.rawSync();
    const all = new (values.constructor as Uint8ArrayConstructor)(values.length * numExperts);
    for (let expert = 0; expert < numExperts; expert++) all.set(values as Uint8Array, expert * values.length);
    return this.#device.tensor(all, [numExperts, ...tensor.shape] as Shape, tensor.dtype) as Tensor;
  }

  /** Frees all weights. */
  clear(): void {
    for (const copies of this.#held.values()) for (const weights of copies) weights.dispose();
    this.#held.clear();
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
