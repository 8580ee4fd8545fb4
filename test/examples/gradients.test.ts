import { type Device, openDevice, type Parameter, type Tensor } from "moe-kernels";
import { describe, expect, test } from "vitest";
import type { ModelConfig } from "../../build/examples/transformer/model/config.js";
import { CrossEntropy } from "../../build/examples/transformer/model/loss.js";
import { Transformer } from "../../build/examples/transformer/model/transformer.js";
import { DrawnWeights, type WeightSource } from "../../build/examples/transformer/model/weights.js";

// Gradients of the whole model against central differences of its loss.

/** Weights are moved by this much. Of the error most is of third order in it: a tenth of the step leaves a hundredth. */
const step = 0.002;
/** Relative to the largest difference of the tensor, or to `floor` if that is larger; errors are at most 0.004. */
const tolerance = 0.01;
const floor = 0.02;

const tokens = { ids: Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6, 5, 3), sequences: 2 };
const targets = Int32Array.of(1, 4, 1, 5, -1, 2, 6, 5, 3, 5);

const decoder: ModelConfig = {
  vocabulary: 11,
  hiddenSize: 8,
  layers: 2,
  heads: 2,
  intermediateSize: 6,
  context: 5,
  causal: true,
  norm: "rms",
};
const mixture = { experts: 3, topK: 3, intermediateSize: 4 };

/** Weights large enough that every part matters. */
class LargeWeights implements WeightSource {
  readonly #drawn: DrawnWeights;
  readonly device: Device;
  constructor(device: Device) {
    this.device = device;
    this.#drawn = new DrawnWeights(device, 7);
  }
  take(name: string, shape: readonly number[], _deviation: number, mean = 0): Tensor<"f32"> {
    return this.#drawn.take(name, shape, 0.4, mean);
  }
}

function check(config: ModelConfig): void {
  using device = openDevice("reference");
  using model = new Transformer(config, new LargeWeights(device));
  using loss = new CrossEntropy(model.host, config.vocabulary);
  const training = { seed: 5 };
  const lossNow = () => {
    using logits = model.forward(tokens, training);
    const result = loss.forward(logits, targets);
    result.dLogits.dispose();
    return result.loss;
  };
  using logits = model.forward(tokens, training);
  const { dLogits } = loss.forward(logits, targets);
  model.backward(dLogits);
  dLogits.dispose();
  const analytic = new Map(model.weights.map(({ name, gradient }) => [name, gradient?.dataSync()]));
  const worst: Record<string, number> = {};
  for (const weight of model.weights) {
    const indices = someOf(weight.value.size);
    const expected = indices.map((index) => difference(weight, index, lossNow));
    const largest = Math.max(floor, ...expected.map(Math.abs));
    const errors = indices.map((index, i) =>
      Math.abs((analytic.get(weight.name)?.[index] ?? Number.NaN) - (expected[i] ?? Number.NaN)),
    );
    worst[weight.name] = Math.max(...errors) / largest;
  }
  expect(Object.entries(worst).filter(([, error]) => !(error < tolerance))).toEqual([]);
  expect(Object.keys(worst)).toHaveLength(model.weights.length);
}

/** At most 7 indices, spread over all. */
function someOf(size: number): number[] {
  const count = Math.min(size, 7);
  return Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * size) / count));
}

function difference({ value, changed }: Parameter, index: number, lossNow: () => number): number {
  const given = value.dataSync();
  const moved = (by: number) => {
    value.write(given.map((other, i) => (i === index ? other + by : other)));
    changed?.();
    return lossNow();
  };
  const result = (moved(step) - moved(-step)) / (2 * step);
  moved(0);
  return result;
}

describe("gradients of every weight", () => {
  test("of a dense decoder", () => check(decoder));
  test("of an encoder with LayerNorm", () => check({ ...decoder, causal: false, norm: "layer" }));
  test("of a decoder with a mixture, by loss-free balancing", () => {
    check({ ...decoder, mixture: { ...mixture, balance: "loss-free" } });
  });
  test("of a decoder with a mixture and noise", () => check({ ...decoder, mixture: { ...mixture, balance: "noisy" } }));
});
