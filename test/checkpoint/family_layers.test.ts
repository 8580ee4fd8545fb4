import { describe, expect, test } from "vitest";
import { relativeError } from "../../lib/cases/run.js";
import { ConfigFields } from "../../lib/checkpoint/config_fields.js";
import type { Family } from "../../lib/checkpoint/families/family.js";
import { families } from "../../lib/checkpoint/families/registry.js";
import type { Device } from "../../lib/device.js";
import { MoeLayer } from "../../lib/layer/layer.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectRejection } from "../support/errors.js";
import { capacityModels } from "./support/capacity_models.js";
import { decoderModels } from "./support/decoder_models.js";
import type { FamilyModel } from "./support/family_model.js";
import { writeModel } from "./support/model_directory.js";
import { temporaryDirectory } from "./support/temporary_directory.js";

const familyModels: Readonly<Record<string, () => FamilyModel>> = { ...decoderModels, ...capacityModels };

type Files = Pick<FamilyModel, "config" | "weights" | "layer">;

async function load({ config, weights, layer }: Files, device: Device, dtype?: "f64"): Promise<MoeLayer> {
  using directory = temporaryDirectory();
  await writeModel(directory.path, { config, weights });
  return await MoeLayer.load(directory.path, { layer, device, ...(dtype && { dtype }) });
}

describe.each(deviceNames)("layers of every family on %s", (deviceName) => {
  const device = openForTests(deviceName);
  const dtype = deviceName === "reference" ? "f64" : "f32";
  const tolerance = deviceName === "reference" ? 1e-12 : 1e-5;

  test.each(Object.entries(familyModels))("%s", async (_name, make) => {
    const { shape, tokens, choices, outputs, ...model } = make();
    using layer = await load(model, device(), deviceName === "reference" ? "f64" : undefined);
    using x = device().tensor(Float64Array.from(tokens.flat()), shape, dtype);
    const { ids, weights } = layer.route(x);
    expect(await ids.toArray()).toEqual(choices.map(({ ids }) => ids));
    const expectedWeights = choices.flatMap(({ weights }) => weights);
    expect(relativeError(await weights.data(), expectedWeights)).toBeLessThanOrEqual(tolerance);
    using y = layer.forward(x);
    expect(y.shape).toEqual(shape);
    expect(relativeError(await y.data(), outputs.flat())).toBeLessThanOrEqual(tolerance);
  });
});

describe("what a family's formula does not cover is BAD_CHECKPOINT", () => {
  const device = openForTests("reference");

  test.each<[string, string, Record<string, unknown>, RegExp]>([
    ["sigmoid in DeepSeek-V2", "deepseek_v2, groups", { scoring_func: "sigmoid" }, /scoring_func: expected "softmax"/],
    ["another choice", "deepseek_v2, groups", { topk_method: "noaux_tc" }, /topk_method: expected one of "greedy", /],
    ["softmax in DeepSeek-V3", "deepseek_v3", { scoring_func: "softmax" }, /scoring_func: expected "sigmoid"/],
    [
      "a choice without bias",
      "deepseek_v3",
      { topk_method: "greedy" },
      /topk_method: expected "noaux_tc", got "greedy"/,
    ],
    ["no k", "deepseek_v2, greedy", { num_experts_per_tok: null }, /num_experts_per_tok: expected an integer >= 1/],
    ["three of SparseMixer", "phimoe", { num_experts_per_tok: 3 }, /num_experts_per_tok: expected 2, got 3/],
    ["an activation", "dbrx", { ffn_config: { ffn_act_fn: { name: "tanh" } } }, /ffn_act_fn: name: expected one of/],
    [
      "a list that is too short",
      "hunyuan_v1_moe",
      { moe_topk: [1] },
      /moe_topk: expected an integer >= 1, got undefined/,
    ],
    [
      "MXFP4",
      "gpt_oss",
      { quantization_config: { quant_method: "mxfp4" } },
      /quantization_config: quant_method: expected weights in F32, F16 or BF16, got weights quantised by "mxfp4"/,
    ],
    ["a group of another size", "deepseek_v3", { n_group: 3 }, /groups\.count: expected a divisor of 8 experts, got 3/],
    [
      "a random second expert",
      "nllb-moe, encoder",
      { second_expert_policy: "sampling" },
      /second_expert_policy: expected/,
    ],
    [
      "a scale and weights that are renormalised after dropping",
      "nllb-moe, normalising after dropping",
      { moe_token_dropout: 0.2 },
      /moe_token_dropout: expected 0, got 0\.2/,
    ],
    [
      "tokens ordered by probabilities that are no weights",
      "nllb-moe, prioritized",
      { normalize_router_prob_before_dropping: true },
      /normalize_router_prob_before_dropping: expected false, got true/,
    ],
    ["three experts a token", "openmoe", { router_topk: 3 }, /router_topk: expected an integer from 1 to 2, got 3/],
    ["no dropping", "openmoe", { router_drop_tks: false }, /router_drop_tks: expected true, got false/],
    ["an odd capacity", "openmoe", { router_min_capacity: 3 }, /router_min_capacity: expected an even number, got 3/],
    ["a gated ReLU", "openmoe", { hidden_act: "relu" }, /hidden_act: expected one of "swiglu", "silu", "gelu"/],
    ["a list", "qwen2_moe", { mlp_only_layers: 3 }, /mlp_only_layers: expected a list of integers, got 3/],
  ])("%s", async (_what, name, fields, message) => {
    const model = (familyModels[name] as () => FamilyModel)();
    await expectRejection(
      load({ ...model, config: { ...model.config, ...fields } }, device()),
      "BAD_CHECKPOINT",
      message,
    );
  });

  test("a dense layer of an encoder-decoder model", async () => {
    const model = (capacityModels["switch_transformers, encoder"] as () => FamilyModel)();
    const message =
      /^layer: expected a layer with experts \(1, 3, 5 of the encoder's layers, then the decoder's\), got 4$/;
    await expectRejection(load({ ...model, layer: 4 }, device()), "INVALID_ARGUMENT", message);
  });

  test("a missing tensor of either storage is named as the authors name it", async () => {
    const { weights, ...model } = (familyModels["mixtral of Transformers 5"] as () => FamilyModel)();
    const lacking = new Map([...weights].filter(([name]) => !name.endsWith("down_proj")));
    await expectRejection(
      load({ ...model, weights: lacking }, device()),
      "BAD_CHECKPOINT",
      /expected a tensor "model\.layers\.1\.mlp\.experts\.0\.gate_proj\.weight"/,
    );
  });
});

test.each<[string, Record<string, unknown>, number[]]>([
  ["deepseek_v2, greedy", { first_k_dense_replace: 1, moe_layer_freq: 2 }, [2]],
  ["deepseek_v3", { first_k_dense_replace: undefined }, [3]],
  ["glm4_moe", { first_k_dense_replace: undefined }, [1, 2, 3]],
  ["llama4_text", { interleave_moe_layer_step: 2 }, [1, 3]],
  ["llama4_text", { moe_layers: [0, 3] }, [0, 3]],
  ["jamba", { expert_layer_period: 3, expert_layer_offset: 2 }, [2]],
  ["jamba", { num_experts: 1 }, []],
  ["ernie4_5_moe", { moe_layer_start_index: undefined }, [1, 2, 3]],
  ["ernie4_5_moe", { moe_layer_interval: 2, moe_layer_end_index: 2 }, [1]],
  ["qwen2_moe", { decoder_sparse_step: 1, mlp_only_layers: [0, 2] }, [1, 3]],
  ["switch_transformers, encoder", {}, [1, 3, 5]],
  ["switch_transformers, encoder", { num_sparse_encoder_layers: 4 }, [0, 1, 2, 3, 5]],
  ["switch_transformers, encoder", { num_sparse_encoder_layers: 0, num_decoder_layers: null }, [5]],
  ["nllb-moe, encoder", { encoder_sparse_step: 0 }, [7]],
  ["nllb-moe, encoder", {}, [1, 3, 7]],
])("layers with experts: %s with %o", async (name, fields, sparse) => {
  const { config } = (familyModels[name] as () => FamilyModel)();
  const configFields = new ConfigFields("config.json", { ...config, ...fields });
  const family = families.get(config.model_type as string) as Family;
  const all = Array.from({ length: family.layerCount(configFields) }, (_, layer) => layer);
  expect(all.filter((layer) => family.hasExperts?.(configFields, layer))).toEqual(sparse);
});
