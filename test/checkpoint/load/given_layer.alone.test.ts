import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { writeSafetensors } from "../../../lib/checkpoint/safetensors/index.js";
import {
  type ConfigFields,
  type LayerTensorNames,
  type ModelFamily,
  MoeLayer,
  openModel,
  registerFamily,
} from "../../../lib/index.js";
import { layerConfig, type MoeLayerConfig } from "../../../lib/layer/description/config.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";
import { familyModelNames, familyModelPath, readFamilyModel, readFamilyResults } from "../support/family_model.js";
import { randomLayer, writeOne } from "../support/gguf_layer.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const device = openForTests("cpu");

/** Mixtral under an invented `model_type`, with invented fields and names. */
async function inventedModel() {
  const { config, weights } = await readFamilyModel("mixtral");
  const rename = (name: string) => name.replace("block_sparse_moe", "brew").replace("model.layers.", "stack.");
  return {
    config: {
      model_type: "invented",
      blocks: config.num_hidden_layers,
      width: config.hidden_size,
      inner: config.intermediate_size,
      choices: config.num_local_experts,
    },
    weights: new Map([...weights].map(([name, tensor]) => [rename(name), tensor])),
    formula: {
      hiddenSize: config.hidden_size as number,
      intermediateSize: config.intermediate_size as number,
      numExperts: config.num_local_experts as number,
      topK: config.num_experts_per_tok as number,
      normalize: true,
    },
  };
}

const expert = "stack.{layer}.brew.experts.{e}";
const names: LayerTensorNames = {
  router: "stack.{layer}.brew.gate.weight",
  experts: {
    gate: `${expert}.w1.weight`,
    up: { name: `${expert}.w3.weight`, orient: "out_in" },
    down: `${expert}.w2.weight`,
  },
};

async function expectResults(layer: MoeLayer): Promise<void> {
  const { x, shape, output } = await readFamilyResults("mixtral");
  using input = device().tensor(x, shape);
  using y = layer.forward(input);
  expect(relativeError(await y.data(), output)).toBeLessThanOrEqual(1e-5);
}

describe("MoeLayer.load with config and tensors", () => {
  test("loads a layer of an unknown family", async () => {
    using directory = temporaryDirectory();
    const { config, weights, formula } = await inventedModel();
    const { layer } = await readFamilyResults("mixtral");
    await writeModel(directory.path, { config, weights });
    const given = { layer, device: device(), dtype: "f32", config: formula, tensors: names } as const;
    using loaded = await MoeLayer.load(directory.path, given);
    await expectResults(loaded);
    for (const state of ["written", "mapped"]) {
      using cached = await MoeLayer.load(directory.path, { ...given, cache: true });
      expect(cached.cacheStatus?.state).toBe(state);
      await expectResults(cached);
    }
    // Other names are another layer, which the cache must not answer for.
    const swapped = { ...names, experts: { ...names.experts, gate: `${expert}.w3.weight`, up: `${expert}.w1.weight` } };
    using other = await MoeLayer.load(directory.path, { ...given, tensors: swapped, cache: true });
    expect(other.cacheStatus).toMatchObject({
      state: "written",
      reason: expect.stringContaining("expected the same tensors"),
    });
  });

  test("every {e} in a name stands for the expert's number", async () => {
    using directory = temporaryDirectory();
    const { config, weights, formula } = await inventedModel();
    const { layer } = await readFamilyResults("mixtral");
    const twice = (name: string) => name.replace(/experts\.(\d+)\.(w\d)/, "experts.$1.$2_$1");
    await writeModel(directory.path, {
      config,
      weights: new Map([...weights].map(([name, tensor]) => [twice(name), tensor])),
    });
    const tensors = {
      router: names.router,
      experts: { gate: `${expert}.w1_{e}.weight`, up: `${expert}.w3_{e}.weight`, down: `${expert}.w2_{e}.weight` },
    };
    const given = { layer, device: device(), dtype: "f32", config: formula, tensors } as const;
    using loaded = await MoeLayer.load(directory.path, given);
    await expectResults(loaded);
  });

  test("{e+5} in a name stands for the expert's number plus 5", async () => {
    using directory = temporaryDirectory();
    const { config, weights, formula } = await inventedModel();
    const { layer } = await readFamilyResults("mixtral");
    const later = (name: string) =>
      name.replace(/experts\.(\d+)\./, (_, number: string) => `experts.${Number(number) + 5}.`);
    await writeModel(directory.path, {
      config,
      weights: new Map([...weights].map(([name, tensor]) => [later(name), tensor])),
    });
    const tensors = JSON.parse(JSON.stringify(names).replaceAll("{e}", "{e+5}")) as LayerTensorNames;
    const given = { layer, device: device(), dtype: "f32", config: formula, tensors } as const;
    using loaded = await MoeLayer.load(directory.path, given);
    await expectResults(loaded);
  });

  test("needs no config.json, and no directory", async () => {
    using directory = temporaryDirectory();
    const { weights, formula } = await inventedModel();
    const { layer } = await readFamilyResults("mixtral");
    const file = join(directory.path, "model.safetensors");
    await writeSafetensors(file, weights);
    const numbered = JSON.parse(JSON.stringify(names).replaceAll("{layer}", String(layer))) as LayerTensorNames;
    for (const path of [directory.path, file]) {
      using loaded = await MoeLayer.load(path, { device: device(), dtype: "f32", config: formula, tensors: numbered });
      await expectResults(loaded);
    }
    const load = MoeLayer.load(file, { layer: 0, device: device(), config: formula, tensors: numbered });
    await expectRejection(load, "INVALID_ARGUMENT", /layer requires \{layer\} in the names of tensors/);
  });

  test("loads from a GGUF file", async () => {
    using directory = temporaryDirectory();
    const { file, sizes } = randomLayer(new Random("given"), {});
    const path = writeOne(directory.path, { ...file, metadata: { "general.architecture": "unheard-of" } });
    const config = {
      hiddenSize: sizes.hidden,
      intermediateSize: sizes.inner,
      numExperts: sizes.experts,
      topK: 2,
      normalize: true,
    };
    const stacked = (name: string) => ({ name: `blk.{layer}.ffn_${name}_exps.weight`, stacked: "dim0" }) as const;
    const experts = { gate: stacked("gate"), up: stacked("up"), down: stacked("down") };
    const tensors = { router: "blk.{layer}.ffn_gate_inp.weight", experts };
    using layer = await MoeLayer.load(path, { layer: 0, device: device(), config, tensors });
    using own = await MoeLayer.load(writeOne(directory.path, file, "own.gguf"), { layer: 0, device: device() });
    using x = device().tensor(new Random("x").normals(3 * sizes.hidden), [3, sizes.hidden]);
    using y = layer.forward(x);
    using expected = own.forward(x);
    expect(await y.data()).toEqual(await expected.data());
  });

  const formula = { hiddenSize: 4, intermediateSize: 4, numExperts: 2, topK: 1 };
  const { router, experts } = names;

  test.each<[string, object, RegExp]>([
    ["only a config", { config: formula }, /config requires tensors/],
    ["only tensors", { tensors: names }, /tensors requires config/],
    [
      "no gate",
      { config: formula, tensors: { router, experts: { ...experts, gate: undefined } } },
      /tensors\.experts\.gate: expected the name of a tensor for activation "swiglu"/,
    ],
    [
      "a gate too many",
      { config: { ...formula, activation: "relu" }, tensors: names },
      /tensors\.experts\.gate cannot be combined with activation "relu"/,
    ],
    [
      "a name for all experts",
      { config: formula, tensors: { router, experts: { ...experts, up: "up" } } },
      /tensors\.experts\.up: expected a name with \{e\} .*or stacked: "dim0"/,
    ],
    [
      "a stacked router",
      { config: formula, tensors: { router: { name: "r", stacked: "dim0" }, experts } },
      /tensors\.router\.stacked cannot be combined/,
    ],
    [
      "both",
      { config: formula, tensors: { router, experts: { ...experts, up: { name: "{e}", stacked: "rows" } } } },
      /stacked cannot be combined with \{e\}/,
    ],
    [
      "no shared expert",
      { config: { ...formula, sharedExpert: { intermediateSize: 4 } }, tensors: names },
      /tensors\.shared: expected/,
    ],
    [
      "no gate of it",
      {
        config: { ...formula, sharedExpert: { intermediateSize: 4, gate: "sigmoid" } },
        tensors: { ...names, shared: { gate: "a", up: "b", down: "c" } },
      },
      /tensors\.sharedGate: expected/,
    ],
    ["no noise", { config: { ...formula, noisy: {} }, tensors: names }, /noiseRouter/],
    [
      "a misspelt option",
      { config: { ...formula, topk: 1 }, tensors: names },
      /config: there is no option "topk"; did you mean "topK"/,
    ],
  ])("%s is refused", async (_, given, message) => {
    const load = MoeLayer.load(familyModelPath("mixtral"), { layer: 0, device: device(), ...given } as never);
    await expectRejection(load, "INVALID_ARGUMENT", message);
  });

  test("names that no tensor has are BAD_CHECKPOINT", async () => {
    const load = MoeLayer.load(familyModelPath("mixtral"), {
      layer: 0,
      device: device(),
      config: formula,
      tensors: names,
    });
    await expectRejection(load, "BAD_CHECKPOINT", /stack\.0\.brew\.gate\.weight/);
  });
});

test.each(familyModelNames)(
  "a configuration that has been read means the same when it is read again: %s",
  async (name) => {
    await using model = await openModel(familyModelPath(name));
    const { layer } = await readFamilyResults(name);
    const { config } = model.layer(layer);
    const once = layerConfig(config, "config");
    expect(layerConfig(once, "config")).toEqual(once);
  },
);

describe("registerFamily", () => {
  const invented: ModelFamily = {
    modelType: "invented",
    layerCount: (fields) => fields.integer("blocks", undefined),
    config: (fields): MoeLayerConfig => ({
      hiddenSize: fields.integer("width", undefined),
      intermediateSize: fields.integer("inner", undefined),
      numExperts: fields.integer("choices", undefined),
      topK: 2,
      normalize: true,
    }),
    prefix: (_, layer) => `stack.${layer}`,
    tensors: (prefix) => [
      {
        router: `${prefix}.brew.gate.weight`,
        experts: {
          gate: `${prefix}.brew.experts.{e}.w1.weight`,
          up: `${prefix}.brew.experts.{e}.w3.weight`,
          down: `${prefix}.brew.experts.{e}.w2.weight`,
        },
      },
    ],
  };

  test("makes a family known to everything that opens models", async () => {
    using directory = temporaryDirectory();
    const { config, weights } = await inventedModel();
    const { layer } = await readFamilyResults("mixtral");
    await writeModel(directory.path, { config, weights });
    await expectRejection(openModel(directory.path), "BAD_CHECKPOINT", /got "invented"; .*registerFamily/);
    registerFamily(invented);
    expectError(() => registerFamily(invented), "INVALID_ARGUMENT", /modelType: expected one that is not known yet/);
    using loaded = await MoeLayer.load(directory.path, { layer, device: device(), dtype: "f32" });
    await expectResults(loaded);
    await using model = await openModel(directory.path);
    expect(model.layer(layer).family).toBe("invented");
    const { groups } = await model.inspect({ layer });
    expect(groups[0]?.storage).toMatchObject({ missing: [], problems: [] });
    writeFileSync(join(directory.path, "config.json"), JSON.stringify({ ...config, width: "wide" }));
    await using changed = await openModel(directory.path);
    expectError(() => changed.layer(0), "BAD_CHECKPOINT", /width: expected an integer/);
  });

  test("takes an object of a class", async () => {
    class Numbered {
      readonly modelType = "numbered";
      readonly #stack = "stack";
      layerCount = invented.layerCount;
      config = invented.config;
      prefix(_: ConfigFields, layer: number): string {
        return `${this.#stack}.${layer}`;
      }
      tensors(prefix: string): readonly LayerTensorNames[] {
        return [{ router: this.#name(prefix, "gate"), experts: this.#experts(prefix) }];
      }
      #experts(prefix: string): LayerTensorNames["experts"] {
        const name = (matrix: string) => this.#name(prefix, `experts.{e}.${matrix}`);
        return { gate: name("w1"), up: name("w3"), down: name("w2") };
      }
      #name(prefix: string, rest: string): string {
        return `${prefix}.brew.${rest}.weight`;
      }
    }
    registerFamily(new Numbered());
    using directory = temporaryDirectory();
    const { config, weights } = await inventedModel();
    await writeModel(directory.path, { config: { ...config, model_type: "numbered" }, weights });
    const { layer } = await readFamilyResults("mixtral");
    using loaded = await MoeLayer.load(directory.path, { layer, device: device(), dtype: "f32" });
    await expectResults(loaded);
  });

  test("names what a family gets wrong", async () => {
    using directory = temporaryDirectory();
    const { config, weights } = await inventedModel();
    const broken = (modelType: string, changes: Partial<ModelFamily>) =>
      registerFamily({ ...invented, ...changes, modelType });
    broken("no_router", { tensors: () => [{ experts: names.experts } as LayerTensorNames] });
    broken("no_list", { tensors: () => names as never });
    broken("no_size", { config: () => ({ hiddenSize: 4 }) as MoeLayerConfig });
    for (const [modelType, message] of [
      ["no_router", /tensors\(\) of no_router\[0\]\.router: expected/],
      ["no_list", /tensors\(\) of no_list: expected a list/],
      ["no_size", /config\(\) of no_size\.intermediateSize: expected an integer/],
    ] as const) {
      await writeModel(directory.path, { config: { ...config, model_type: modelType }, weights });
      await expectRejection(MoeLayer.load(directory.path, { layer: 0, device: device() }), "INVALID_ARGUMENT", message);
    }
    const layerCounts = [Number.POSITIVE_INFINITY, undefined, -1, 0, 2.5, 4097];
    layerCounts.forEach((count, index) => {
      broken(`count_${index}`, { layerCount: () => count as number });
    });
    broken("no_text", { prefix: () => 5 as never });
    broken("no_boolean", { hasExperts: () => "yes" as never });
    broken("no_names", { tensors: () => [] });
    for (const [modelType, message] of [
      ...layerCounts.map(
        (_, index) => [`count_${index}`, /layerCount\(\) of count_\d: expected an integer from 1 to 4096/] as const,
      ),
      ["no_text", /prefix\(\) of no_text: expected a string, got 5/],
      ["no_boolean", /hasExperts\(\) of no_boolean: expected a boolean, got "yes"/],
      ["no_names", /tensors\(\) of no_names: expected the names of a layer's tensors, got an empty list/],
    ] as const) {
      writeFileSync(join(directory.path, "config.json"), JSON.stringify({ ...config, model_type: modelType }));
      const load = async () => {
        await using model = await openModel(directory.path);
        return await model.load(0, { device: device() });
      };
      await expectRejection(load(), "INVALID_ARGUMENT", message);
    }
    expectError(() => broken("x", { config: 3 as never }), "INVALID_ARGUMENT", /family\.config: expected a function/);
    expectError(
      () => registerFamily({ ...invented, layercount: 1 } as never),
      "INVALID_ARGUMENT",
      /did you mean "layerCount"/,
    );
  });
});
