import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";
import { openDevice } from "../../lib/devices.js";
import { describeLayer, type MoeLayerConfig } from "../../lib/layer/description/config.js";
import { configOf } from "../../lib/layer/description/config_of.js";
import { AdamW } from "../../lib/optimizers/adamw.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { anyLayer, exampleConfig, RandomLayer } from "../support/random_layer.js";
import { expectSame, type LayerOptions, layerOf } from "../support/saved_layers.js";

const plain: MoeLayerConfig = { ...exampleConfig, numExperts: 8 };

/** Every option of a layer, at least once with another value than its default. */
const configurations: Readonly<Record<string, LayerOptions>> = {
  "by softmax": plain,
  "by softmax of the chosen": { ...plain, scoring: "softmax_selected", normalize: false },
  "by sigmoid, limited to groups, normalised with an epsilon": {
    ...plain,
    scoring: "sigmoid",
    groups: { count: 4, top: 2, score: "top2_sum" },
    normalize: { by: "sum_plus_epsilon", epsilon: 1e-20 },
    scale: 2.446,
  },
  "by sigmoid of the chosen, on the input": { ...plain, scoring: "sigmoid", selectionKey: "logit", weightOn: "input" },
  "by sqrt_softplus, normalised with a lower limit": {
    ...plain,
    scoring: "sqrt_softplus",
    normalize: { by: "clamped_sum", epsilon: 1e-12 },
  },
  "by logits, divided by a norm": { ...plain, scoring: "none", normalize: { by: "lp", power: 3 } },
  "by sparsemixer": { ...plain, scoring: "sparsemixer", jitter: 0.02, normalize: false },
  "with noise": { ...plain, scoring: "softmax_selected", normalize: false, noisy: { epsilon: 0.05 } },
  "with jitter": { ...plain, routerJitter: 0.125 },
  "by a table of token ids": { ...plain, scoring: "sqrt_softplus", hashRouting: { vocabularySize: 9 } },
  "with a capacity": { ...plain, capacity: { factor: 0.75, round: "down", minimum: 1, multipleOf: 2 } },
  "with a capacity of a sequence, by priority": {
    ...plain,
    capacity: { tokens: 2, per: "sequence", drop: "prioritized", renormalize: { by: "chosen", scale: 0.5 } },
  },
  "with a capacity, renormalised": { ...plain, capacity: { factor: 1, drop: "probability", renormalize: true } },
  "by choice of experts": {
    ...plain,
    topK: 8,
    normalize: false,
    expertChoice: { factor: 0.5, minimum: 1 },
  },
  "by a hierarchy": { ...plain, topK: 4, hierarchy: { numGroups: 4, topK: 2, scoring: "sigmoid", normalize: true } },
  "by a hierarchy with noise": {
    ...plain,
    topK: 2,
    scoring: "softmax_selected",
    normalize: false,
    hierarchy: { numGroups: 4, topK: 2, scoring: "softmax_selected" },
    noisy: {},
  },
  "of relu with a softmax": { ...plain, activation: "relu", outputActivation: "softmax" },
  "of a shared expert without the others' limit": {
    ...plain,
    activation: "swiglu_clamped_after",
    clamp: { limit: 0.7 },
    sharedExpert: { intermediateSize: 5, clamp: { alpha: 1.5, limit: Number.POSITIVE_INFINITY } },
  },
  "of clamped swiglu": {
    ...plain,
    activation: "swiglu_clamped",
    clamp: { alpha: 1.5, limit: 0.7, offset: 0.25 },
  },
  "of geglu with a third projection": { ...plain, activation: "geglu_tanh", multiplier: true },
  "with a shared expert": { ...plain, sharedExpert: { intermediateSize: 17 } },
  "with a wide shared expert and a sigmoid": { ...plain, sharedExpert: { intermediateSize: 40, gate: "sigmoid" } },
  "with a residual expert": { ...plain, sharedExpert: { intermediateSize: 9, gate: "softmax" } },
  "in bf16": { ...plain, dtype: "bf16" },
  "in several dtypes": {
    ...plain,
    sharedExpert: { intermediateSize: 20, gate: "sigmoid" },
    dtype: { router: "f32", experts: "f16", up: "bf16", shared: "f32", sharedGate: "bf16", biases: "bf16" },
  },
  "of a bank": {
    ...plain,
    bank: { first: 2, count: 3 },
    sharedExpert: { intermediateSize: 20, gate: "softmax" },
  },
  "of the first bank": {
    ...plain,
    bank: { first: 0, count: 3 },
    sharedExpert: { intermediateSize: 20, gate: "sigmoid" },
  },
};

describe.each(deviceNames)("a layer saved and loaded on %s", (name) => {
  const device = openForTests(name);

  test.each(Object.entries(configurations))("%s", async (_, config) => {
    for (const biases of [true, false]) {
      using layer = layerOf(device(), config, biases);
      await expectSame(layer);
    }
  });

  test("with any of the parts that a layer can have", async () => {
    await fc.assert(
      fc.asyncProperty(anyLayer, async (problem) => {
        using random = new RandomLayer(device(), problem);
        await expectSame(random.layer, problem.dtype);
      }),
      { numRuns: 25 },
    );
  });

  test("with a selection bias that was set later", async () => {
    using layer = layerOf(device(), plain, false);
    using bias = device().tensor(Float32Array.of(0.5, -0.5, 0, 0.25, 0, -2, 1 / 3, 0));
    layer.setSelectionBias(bias);
    await expectSame(layer);
  });

  // Memory for the shared expert is that of experts as wide as the others.
  test.each<LayerOptions>([
    { ...plain, sharedExpert: { intermediateSize: 5 } },
    { ...plain, activation: "silu", sharedExpert: { intermediateSize: plain.intermediateSize + 6, gate: "sigmoid" } },
    { ...plain, multiplier: true, sharedExpert: { intermediateSize: 2 * plain.intermediateSize - 1 } },
  ])("with values written to all that its parameters have memory for, %o", async (config) => {
    for (const biases of [true, false]) {
      using layer = layerOf(device(), config, biases);
      using parameters = layer.parameters();
      const random = new Random(6);
      for (const { value } of parameters) value.write(random.normals(value.size, 0.3));
      parameters.changed();
      await expectSame(layer);
      const optimizer = new AdamW(parameters, { learningRate: 0.1 });
      using x = device().tensor(random.normals(6 * plain.hiddenSize), [6, plain.hiddenSize]);
      const { y, state } = layer.forward(x, { save: true });
      layer.backward(state, y, { gradients: parameters.gradients });
      optimizer.step();
      await expectSame(layer);
    }
  });

  test.each([
    [{ ...plain, sharedExpert: { intermediateSize: 40, gate: "sigmoid" as const }, dtype: "bf16" as const }],
    [{ ...plain, topK: 2, hierarchy: { numGroups: 4, topK: 2 }, noisy: {} }],
  ])("with the weights after a step of training", async (config) => {
    using layer = layerOf(device(), config);
    using parameters = layer.parameters();
    const optimizer = new AdamW(parameters, { learningRate: 0.1 });
    using x = device().tensor(new Random(2).normals(6 * plain.hiddenSize), [6, plain.hiddenSize]);
    using before = layer.forward(x);
    const { y, state } = layer.forward(x, { save: true });
    layer.backward(state, y, { gradients: parameters.gradients });
    optimizer.step();
    using after = layer.forward(x);
    expect(await after.data()).not.toEqual(await before.data());
    await expectSame(layer);
  });
});

test("f64 on reference", async () => {
  using directory = temporaryDirectory();
  using device = openDevice("reference");
  using layer = layerOf(device, { ...plain, dtype: "f64", sharedExpert: { intermediateSize: 40, gate: "sigmoid" } });
  await expectSame(layer, "f64");
  const path = join(directory.path, "layer.safetensors");
  await layer.save(path);
  await using file = await SafetensorsFile.open(path);
  expect(new Set([...file.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(["F64"]));
});

test("a description has a configuration that describes it", () => {
  for (const config of Object.values(configurations)) {
    const { sharedExpert, bank } = config;
    const { dtype: _, bank: __, ...formula } = config;
    const description = describeLayer(formula, "f32", bank);
    const width = bank === undefined || bank.first === 0 ? sharedExpert?.intermediateSize : undefined;
    expect(describeLayer(configOf(description, width), "f32", bank)).toEqual(description);
  }
  fc.assert(
    fc.property(anyLayer, ({ config }) => {
      const description = describeLayer(config, "f32");
      expect(describeLayer(configOf(description, config.sharedExpert?.intermediateSize), "f32")).toEqual(description);
    }),
  );
});
