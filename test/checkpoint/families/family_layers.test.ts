import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ConfigFields } from "../../../lib/checkpoint/config_fields.js";
import type { Family } from "../../../lib/checkpoint/families/family.js";
import { families } from "../../../lib/checkpoint/families/registry.js";
import type { SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import type { Device } from "../../../lib/core/device/device.js";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { openDevice } from "../../../lib/devices.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { openModel } from "../../../lib/moe_model.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import {
  familyModelNames,
  familyTokens,
  readFamilyModel,
  readFamilyResults,
  stackExperts,
  takeApart,
} from "../support/family_model.js";
import { type ModelFiles, writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

async function load(files: ModelFiles, layer: number, device: Device): Promise<MoeLayer> {
  using directory = temporaryDirectory();
  await writeModel(directory.path, files);
  return await MoeLayer.load(directory.path, { layer, device, dtype: device.kind === "reference" ? "f64" : "f32" });
}

function renamed({ config, weights }: ModelFiles, rename: (name: string) => string): ModelFiles {
  return { config, weights: new Map([...weights].map(([name, tensor]) => [rename(name), tensor])) };
}

describe("the same layer in another directory", () => {
  const device = openForTests("cpu");

  async function expectSame(name: string, files: ModelFiles): Promise<void> {
    const results = await readFamilyResults(name);
    using layer = await load(files, results.layer, device());
    const { x, options } = familyTokens(device(), results, "f32");
    using y = layer.forward(x, options);
    expect(relativeError(await y.data(), results.output)).toBeLessThanOrEqual(1e-5);
  }

  test.each(familyModelNames.filter((name) => !name.includes("sharded")))("%s as a bare base model", async (name) => {
    const model = await readFamilyModel(name);
    await expectSame(
      name,
      renamed(model, (tensor) => tensor.replace(/^(model|transformer)\./, "")),
    );
  });

  test.each(["mixtral", "qwen3_moe", "deepseek_v3", "glm4_moe", "kimi_k2"])(
    "%s in a multimodal model",
    async (name) => {
      const model = await readFamilyModel(name);
      const config = { model_type: "multimodal", text_config: model.config };
      const names = [
        (tensor: string) => `language_model.${tensor}`,
        (tensor: string) => tensor.replace(/^model\./, "model.language_model."),
        (tensor: string) => tensor.replace(/^model\./, "language_model."),
      ];
      for (const rename of names) await expectSame(name, { ...renamed(model, rename), config });
    },
  );

  test.each<[string, (text: unknown) => object, (tensor: string) => string]>([
    ["llm_config", (text) => ({ llm_config: text }), (tensor) => `language_model.${tensor}`],
    ["llm_config of Ovis", (text) => ({ llm_config: text }), (tensor) => `llm.${tensor}`],
    ["thinker_config", (text) => ({ thinker_config: { text_config: text } }), (tensor) => `thinker.${tensor}`],
  ])("the language model of %s", async (_name, around, rename) => {
    const model = await readFamilyModel("qwen3_moe");
    const text = { ...model.config, model_type: "qwen3_omni_moe_text" };
    const config = { model_type: "multimodal", ...around(text) };
    await expectSame("qwen3_moe", { ...renamed(model, rename), config });
  });

  test("nemotron_h with a config.json as Python writes infinity", async () => {
    using directory = temporaryDirectory();
    const model = await readFamilyModel("nemotron_h");
    await writeModel(directory.path, model);
    const given = JSON.stringify({ ...model.config, time_step_limit: [0, 1] }).replace("[0,1]", "[0.0,Infinity]");
    writeFileSync(join(directory.path, "config.json"), given);
    const results = await readFamilyResults("nemotron_h");
    using layer = await MoeLayer.load(directory.path, { layer: results.layer, device: device(), dtype: "f32" });
    const { x } = familyTokens(device(), results, "f32");
    using y = layer.forward(x);
    expect(relativeError(await y.data(), results.output)).toBeLessThanOrEqual(1e-5);
  });

  test.each([
    ["deepseek_v2_greedy", "deepseek"],
    ["deepseek_v2_greedy", "deepseek_ocr2_text"],
    ["deepseek_v3", "deepseek_v32"],
    ["deepseek_v3", "axk1"],
    ["glm4_moe", "axk2"],
    ["glm4_moe", "solar_open"],
    ["glm4_moe", "solar_open2"],
    ["glm4_moe", "xing4_0"],
    ["step3p5", "step4"],
    ["step3p5_limited", "step4"],
    ["qwen3_next", "berrylm"],
    ["mimo_v2_flash", "mimo_v2"],
    ["bailing_moe_v2", "bailing_moe_v2"],
    ["bailing_moe_v2", "bailing_moe_linear"],
    ["bailing_moe_v2", "bailing_hybrid"],
    ["bailing_moe_v2", "llada2_moe"],
    ["qwen3_moe", "mellum"],
    ["qwen3_next", "qwen4_exp_text"],
    ["qwen3_next", "qwen4_exp"],
    ["qwen3_next", "qwen3_8_flash_next_text"],
    ["qwen3_next", "qwen3_8_flash_next"],
    ["llama4_text_two_experts", "llama4"],
    ["olmoe", "flex_olmo"],
    ["longcat_flash", "longcat_flash_ngram"],
    ["longcat_flash", "longcat_next"],
    ["longcat_flash", undefined],
  ])("%s as %s", async (name, modelType) => {
    const { config, weights } = await readFamilyModel(name);
    const { architectures: _, ...others } = config;
    await expectSame(name, { config: { ...others, model_type: modelType }, weights });
  });

  test("dots3_note as Transformers saves it", async () => {
    const { config, weights } = await readFamilyModel("dots3_note");
    const { model_type, moe_shared_expert_intermediate_size: width, ...others } = config;
    const text = { ...others, model_type: "dots3_note_text", shared_experts_intermediate_size: width };
    await expectSame("dots3_note", { config: { model_type, text_config: text }, weights });
  });

  test.each(["gemma4", "diffusion_gemma"])("%s with a text_config that does not say its type", async (name) => {
    const { config, weights } = await readFamilyModel(name);
    const { model_type: _, ...text } = config.text_config as Record<string, unknown>;
    await expectSame(name, { config: { ...config, text_config: text }, weights });
  });

  test.each<[string, (tensor: string) => string]>([
    ["ernie4_5_moe", (tensor) => tensor.replace("mlp.moe_statics", "mlp.gate.moe_statics")],
    ["exaone_moe", (tensor) => tensor.replace("mlp.e_score", "mlp.gate.e_score")],
    [
      "kimi_linear",
      (tensor) =>
        tensor
          .replace("block_sparse_moe", "mlp")
          .replace(".w1.", ".gate_proj.")
          .replace(".w3.", ".up_proj.")
          .replace(".w2.", ".down_proj."),
    ],
    [
      "hy_v3",
      (tensor) =>
        tensor
          .replace("router.gate", "gate")
          .replace("expert_bias", "e_score_correction_bias")
          .replace("shared_mlp", "shared_experts"),
    ],
    [
      "laguna",
      (tensor) => tensor.replace("experts.e_score", "gate.e_score").replace("shared_expert.", "shared_experts."),
    ],
  ])("%s by the names of Transformers 5", async (name, rename) => {
    await expectSame(name, renamed(await readFamilyModel(name), rename));
  });

  test("gpt-oss's layer with gate columns before up columns as that of OpenAI's Privacy Filter", async () => {
    const { config, weights } = await readFamilyModel("gpt_oss");
    const parted = [...weights].map(([name, tensor]): [string, SafetensorsInput] => {
      if (!name.includes("gate_up_proj")) return [name, tensor];
      const columns = tensor.shape.at(-1) as number;
      const values = tensor.data as Float32Array;
      const from = (column: number) => ((2 * column) % columns) + (2 * column >= columns ? 1 : 0);
      const data = values.map((_, index) => values[index - (index % columns) + from(index % columns)] as number);
      return [name, { ...tensor, data }];
    });
    await expectSame("gpt_oss", {
      config: { ...config, model_type: "openai_privacy_filter" },
      weights: new Map(parted),
    });
  });

  test.each(["step3p5", "step3p5_transformers", "deepseek_v4_transformers"])(
    "%s with tensors for each expert, as quantised models are published",
    async (name) => {
      const { config, weights } = await readFamilyModel(name);
      await expectSame(name, { config, weights: takeApart(weights) });
    },
  );

  test("only the text model of Llama 4, and a text_config without a model_type", async () => {
    const { config, weights } = await readFamilyModel("llama4_scout");
    const { model_type: _, ...text } = config.text_config as Record<string, unknown>;
    await expectSame("llama4_scout", { config: { ...config, text_config: text }, weights });
    const alone = renamed({ config: config.text_config as ModelFiles["config"], weights }, (tensor) =>
      tensor.replace("language_model.", ""),
    );
    await expectSame("llama4_scout", alone);
  });

  test("MiniMax-M3 by its class or by the whole model's type, and Step 3.7 by the latter", async () => {
    const { config, weights } = await readFamilyModel("minimax_m3");
    const { architectures, ...text } = config.text_config as Record<string, unknown>;
    const typed = [{ architectures, model_type: "mixtral" }, { model_type: "minimax_m3_text" }];
    for (const text_config of [text, ...typed.map((more) => ({ ...text, ...more }))]) {
      await expectSame("minimax_m3", { config: { ...config, text_config }, weights });
    }
    const step = await readFamilyModel("step3p5_transformers");
    const { model_type: _, ...untyped } = step.config.text_config as Record<string, unknown>;
    const files = { config: { ...step.config, text_config: untyped }, weights: step.weights };
    await expectSame("step3p5_transformers", files);
  });

  test.each(["inkling", "inkling_transformers", "ernie4_5_vl_moe_images", "deepseek_v41", "step3"])(
    "%s with a text_config that does not say its type",
    async (name) => {
      const { config, weights } = await readFamilyModel(name);
      const { model_type: _, ...text } = config.text_config as Record<string, unknown>;
      await expectSame(name, { config: { ...config, text_config: text }, weights });
    },
  );

  test("GroveMoE by its class, whatever its type is", async () => {
    const { config, weights } = await readFamilyModel("grove_moe");
    await expectSame("grove_moe", { config: { ...config, model_type: "qwen3_moe" }, weights });
  });

  test("the bias that DeepSeek-V4.1 has for tokens of images can take the other's place", async () => {
    using directory = temporaryDirectory();
    const { config, weights } = await readFamilyModel("deepseek_v41");
    await writeModel(directory.path, { config, weights });
    await using model = await openModel(directory.path);
    const { layer: index, x, shape } = await readFamilyResults("deepseek_v41");
    using layer = await model.load(index, { device: device(), dtype: "f32" });
    const bias = (await model.weight(`layers.${index}.ffn.gate.bias_vl`, {
      device: device(),
      shape: [8],
    })) as Tensor<"f32">;
    using input = device().tensor(x, shape);
    const ids = async (layer: MoeLayer) => await layer.route(input).ids.data();
    const ofText = await ids(layer);
    layer.setSelectionBias(bias);
    const [own, other] = ["bias", "bias_vl"].map((name) => `layers.${index}.ffn.gate.${name}`) as [string, string];
    const swapped = new Map(weights).set(own, weights.get(other) as SafetensorsInput);
    using expected = await load({ config, weights: swapped }, index, device());
    expect(await ids(layer)).toEqual(await ids(expected));
    expect(await ids(layer)).not.toEqual(ofText);
  });

  test("openPangu's bias under either of its names, and openPangu R by its class", async () => {
    const model = await readFamilyModel("openpangu_v2");
    await expectSame(
      "openpangu_v2",
      renamed(model, (tensor) => tensor.replace("gate.e_score", "e_score")),
    );
    const { config, weights } = await readFamilyModel("pangu_pro_moe_v2");
    await expectSame("pangu_pro_moe_v2", { config: { ...config, model_type: "PanguProMoE" }, weights });
  });

  test("Kolibri 1's bias under the name that its published files have", async () => {
    const published = (tensor: string) => tensor.replace("mlp.gate.e_score_correction_bias", "moe.router.expert_bias");
    await expectSame("kolibri1", renamed(await readFamilyModel("kolibri1"), published));
  });

  test("dots.llm1 with what its published files say of the score", async () => {
    const { config, weights } = await readFamilyModel("dots1");
    await expectSame("dots1", { config: { ...config, scoring_func: "noaux_tc", topk_method: "noaux_tc" }, weights });
  });

  test("dequantised weights", async () => {
    const { config, weights } = await readFamilyModel("mixtral");
    await expectSame("mixtral", { config: { ...config, quantization_config: { quant_method: "fp8" } }, weights });
  });

  test("experts stacked as Transformers 5 holds them in memory", async () => {
    const { config, weights } = await readFamilyModel("mixtral");
    await expectSame("mixtral", { config, weights: stackExperts(weights) });
  });
});

test("DeepSeek-V2's weights are renormalised instead of scaled, which Transformers leaves out", async () => {
  using device = openDevice("reference");
  const name = "deepseek_v2_groups";
  const { config, weights } = await readFamilyModel(name);
  const { layer: index, x, shape, ids, weights: scaled } = await readFamilyResults(name);
  using layer = await load({ config: { ...config, norm_topk_prob: true }, weights }, index, device);
  using input = device.tensor(Float64Array.from(x), shape, "f64");
  const routing = layer.route(input);
  expect(await routing.ids.data()).toEqual(ids);
  const k = config.num_experts_per_tok as number;
  const expected = scaled.map((weight, slot) => {
    const first = slot - (slot % k);
    return weight / scaled.slice(first, first + k).reduce((a, b) => a + b, 0);
  });
  expect(relativeError(await routing.weights.data(), expected)).toBeLessThanOrEqual(1e-12);
});

describe("what a family's formula does not cover is BAD_CHECKPOINT", () => {
  const device = openForTests("reference");

  test.each<[string, string, Record<string, unknown>, RegExp]>([
    ["sigmoid in DeepSeek-V2", "deepseek_v2_groups", { scoring_func: "sigmoid" }, /scoring_func: expected "softmax"/],
    ["another choice", "deepseek_v2_groups", { topk_method: "noaux_tc" }, /topk_method: expected one of "greedy", /],
    ["softmax in DeepSeek-V3", "deepseek_v3", { scoring_func: "softmax" }, /scoring_func: expected "sigmoid"/],
    [
      "a choice without bias",
      "deepseek_v3",
      { topk_method: "greedy" },
      /topk_method: expected "noaux_tc", got "greedy"/,
    ],
    ["no k", "deepseek_v2_greedy", { num_experts_per_tok: null }, /num_experts_per_tok: expected an integer >= 1/],
    ["three of SparseMixer", "phimoe", { num_experts_per_tok: 3 }, /num_experts_per_tok: expected 2, got 3/],
    ["an activation", "dbrx", { ffn_config: { ffn_act_fn: { name: "tanh" } } }, /ffn_act_fn: name: expected one of/],
    [
      "a list that is too short",
      "hunyuan_v1_moe",
      { moe_topk: [1] },
      /moe_topk: expected an integer >= 1, got undefined/,
    ],
    [
      "a group of another size",
      "deepseek_v3",
      { n_group: 5 },
      /groups\.count: expected a divisor of 12 experts, got 5/,
    ],
    ["a random second expert", "nllb_moe", { second_expert_policy: "sampling" }, /second_expert_policy: expected/],
    ["MiniMax-M2", "minimax", { scoring_func: "sigmoid" }, /scoring_func: expected "softmax", got "sigmoid"/],
    ["a shared expert", "minimax", { shared_intermediate_size: 8 }, /shared_intermediate_size: expected 0, got 8/],
    ["three experts a token", "openmoe", { router_topk: 3 }, /router_topk: expected an integer from 1 to 2, got 3/],
    ["no dropping", "openmoe", { router_drop_tks: false }, /router_drop_tks: expected true, got false/],
    ["an odd capacity", "openmoe", { router_min_capacity: 3 }, /router_min_capacity: expected an even number, got 3/],
    ["a gated ReLU", "openmoe", { hidden_act: "relu" }, /hidden_act: expected one of "swiglu", "silu", "gelu"/],
    ["a projection", "nemotron_h", { moe_latent_size: 0 }, /moe_latent_size: expected an integer .*, got 0/],
    ["biases", "deepseek_v3", { mlp_bias: true }, /mlp_bias: expected false, got true/],
    ["biases", "bailing_moe", { use_bias: true }, /use_bias: expected false, got true/],
    [
      "the choice's name",
      "deepseek_v3",
      { scoring_func: "noaux_tc" },
      /scoring_func: expected "sigmoid", got "noaux_tc"/,
    ],
    ["biases", "nemotron_h", { mlp_bias: true }, /mlp_bias: expected false, got true/],
    [
      "another score",
      "bailing_moe",
      { score_function: "tanh" },
      /score_function: expected one of "softmax", "sigmoid"/,
    ],
    [
      "a softmax",
      "deepseek_v4",
      { scoring_func: "softmax" },
      /scoring_func: expected one of "sqrtsoftplus", "sigmoid"/,
    ],
    ["a limited GELU", "deepseek_v4", { hidden_act: "gelu" }, /hidden_act: expected "silu", got "gelu"/],
    [
      "a negative limit",
      "step3p5",
      { swiglu_limits: [0, -7] },
      /swiglu_limits\[1\]: expected a limit > 0, or 0 for none, got -7/,
    ],
    ["a limited GELU", "step3p5", { swiglu_limits: 7, hidden_act: "gelu" }, /hidden_act: expected "silu", got "gelu"/],
    [
      "limits that a family does not have",
      "qwen3_moe",
      { swiglu_limit: 7 },
      /swiglu_limit: expected no limit for layer \d, as this family has none here, got 7/,
    ],
    [
      "those of another family",
      "deepseek_v3",
      { swiglu_limits: [7, 7, 7, 7, 7, 7] },
      /swiglu_limits: expected no limit/,
    ],
    [
      "and those of an expert",
      "glm4_moe",
      { share_expert_swiglu_limit_list: [7, 7, 7, 7, 7, 7] },
      /share_expert_swiglu_limit_list: expected no limit/,
    ],
    [
      "a projection",
      "kimi_linear",
      { routed_expert_hidden_size: "8" },
      /routed_expert_hidden_size: expected an integer/,
    ],
    ["Kimi K3's activation", "qwen3_moe", { hidden_act: "situ" }, /hidden_act: expected one of .*got "situ"/],
    [
      "capped logits",
      "laguna",
      { moe_router_logit_softcapping: 30 },
      /moe_router_logit_softcapping: expected 0, got 30/,
    ],
    [
      "weights on the input",
      "laguna",
      { moe_apply_router_weight_on_input: true },
      /moe_apply_router_weight_on_input: expected false, got true/,
    ],
    ["a softmax", "afmoe", { score_func: "softmax" }, /score_func: expected "sigmoid", got "softmax"/],
    ["a softmax", "hy_v3", { moe_router_use_sigmoid: false }, /moe_router_use_sigmoid: expected true, got false/],
    [
      "another combination with the shared experts",
      "cohere2_moe",
      { shared_expert_combination_strategy: "largest" },
      /shared_expert_combination_strategy: expected one of "average", "sum", got "largest"/,
    ],
    [
      "other experts",
      "longcat_flash",
      { zero_expert_type: "drop" },
      /zero_expert_type: expected "identity", got "drop"/,
    ],
    [
      "a second set of experts",
      "smallthinker",
      { moe_enable_secondary_experts: true },
      /secondary_experts: expected false/,
    ],
    ["a late router", "smallthinker", { moe_enable_early_router: false }, /early_router: expected true, got false/],
    ["a factor for each token", "dots3_note", { use_dynamic_rsf: true }, /use_dynamic_rsf: expected false, got true/],
    [
      "a gated shared expert",
      "gigachat3_5",
      { use_shared_expert_sigmoid: true },
      /use_shared_expert_sigmoid: expected false/,
    ],
    ["groups", "pangu_ultra_moe", { n_group: 8 }, /n_group: expected 1, got 8/],
    [
      "an activation without a gate",
      "hunyuan_image_3",
      { hidden_act: "gelu" },
      /hidden_act: expected "silu", got "gelu"/,
    ],
    [
      "no blocks",
      "nemotron_h_puzzle",
      { block_configs: 3 },
      /block_configs: expected a list of 1 to 4096 objects, got 3/,
    ],
    [
      "a block without a number",
      "nemotron_h_puzzle",
      { block_configs: [{}, {}, {}, { block_type: "moe", num_experts_per_tok: 0 }] },
      /block_configs\[3\]: num_experts_per_tok: expected an integer >= 1, got 0/,
    ],
    ["biases of experts", "ernie4_5_moe_vl", { use_bias: true }, /use_bias: expected false, got true/],
    [
      "ERNIE's lists of another length",
      "ernie4_5_moe_vl",
      { moe_num_experts: [] },
      /moe_num_experts: expected an integer/,
    ],
    ["a softmax", "inkling", { gate_activation: "softmax" }, /gate_activation: expected "sigmoid", got "softmax"/],
    [
      "shared experts that are not weighed",
      "inkling",
      { shared_expert_sink: false },
      /shared_expert_sink: expected true/,
    ],
    ["a temperature", "deepseek_v41", { gate_temp: 2 }, /gate_temp: expected 1, got 2/],
    ["a list", "qwen2_moe", { mlp_only_layers: 3 }, /mlp_only_layers: expected a list of integers, got 3/],
  ])("%s", async (_what, name, fields, message) => {
    const { config, weights } = await readFamilyModel(name);
    const { layer } = await readFamilyResults(name);
    const text = config.text_config as object | undefined;
    const changed = text ? { ...config, text_config: { ...text, ...fields } } : { ...config, ...fields };
    await expectRejection(load({ config: changed, weights }, layer, device()), "BAD_CHECKPOINT", message);
  });

  test.each([["doge"], ["zaya"], ["interns1_pro"], ["PanguProMoE"], ["Motif"], ["apertus2"], ["nomic_bert"]])(
    "%s, by name and with the reason",
    async (modelType) => {
      const { weights } = await readFamilyModel("mixtral");
      const config = { model_type: modelType };
      const message = new RegExp(`model_type: "${modelType}" is not supported, as \\w+`);
      await expectRejection(load({ config, weights }, 0, device()), "BAD_CHECKPOINT", message);
    },
  );

  test("a dense layer of an encoder-decoder model", async () => {
    const message =
      /^layer: expected a layer with experts \(1, 3, 5, 7, 9 of the encoder's layers, then the decoder's\), got 4$/;
    await expectRejection(load(await readFamilyModel("switch_transformers"), 4, device()), "INVALID_ARGUMENT", message);
  });

  test("quantised weights, as the files show and not as the field says", async () => {
    const { config, weights } = await readFamilyModel("mixtral");
    const field = { quantization_config: { quant_method: "fp8" } };
    const name = "model.layers.2.block_sparse_moe.experts.1.w2.weight";
    const { shape } = weights.get(name) as SafetensorsInput;
    const bytes = new Uint8Array(shape.reduce((a, b) => a * b));
    const quantised = new Map(weights).set(name, { dtype: "F8_E4M3", shape, data: bytes });
    const lacking =
      /experts\.1\.w2\.weight": expected a tensor "model\.layers\.2.*experts\.1\.w2\.weight_scale" beside it, got none/;
    for (const fields of [config, { ...config, ...field }]) {
      await expectRejection(load({ config: fields, weights: quantised }, 2, device()), "BAD_CHECKPOINT", lacking);
    }
    await expectRejection(
      load({ config: { ...config, quantization_config: { quant_method: "vptq" } }, weights: quantised }, 2, device()),
      "BAD_CHECKPOINT",
      /quantization_config: quant_method: expected one of fp8, .*, bitsandbytes, .*got "vptq".* \(.*weight_scale" beside it/,
    );
  });

  test("a missing bias is reported under the name that goes with the experts that are there", async () => {
    for (const [name, layer, bias] of [
      ["exaone_moe", 1, "model\\.layers\\.1\\.mlp\\.e_score_correction_bias"],
      ["deepseek_v4_transformers", 1, "mlp\\.gate\\.e_score_correction_bias"],
      ["minimax_m3_transformers", 1, "mlp\\.gate\\.e_score_correction_bias"],
    ] as const) {
      const { config, weights } = await readFamilyModel(name);
      const lacking = new Map([...weights].filter(([tensor]) => !tensor.endsWith("bias")));
      const message = new RegExp(`expected a tensor ".*${bias}"`);
      await expectRejection(load({ config, weights: lacking }, layer, device()), "BAD_CHECKPOINT", message);
    }
  });

  test("a missing tensor of either storage is reported under the authors' name", async () => {
    const { config, weights } = await readFamilyModel("mixtral");
    const lacking = new Map([...stackExperts(weights)].filter(([name]) => !name.endsWith("down_proj")));
    await expectRejection(
      load({ config, weights: lacking }, 2, device()),
      "BAD_CHECKPOINT",
      /expected a tensor "model\.layers\.2\.mlp\.experts\.0\.gate_proj\.weight"/,
    );
  });
});

test.each<[string, Record<string, unknown>, number[]]>([
  ["deepseek_v2_greedy", { moe_layer_freq: 2 }, [2]],
  ["deepseek_v3", { first_k_dense_replace: undefined }, [3, 4]],
  ["glm4_moe", { first_k_dense_replace: undefined }, [1, 2]],
  ["llama4_text_two_experts", { interleave_moe_layer_step: 2 }, [1, 3]],
  ["llama4_text_two_experts", { moe_layers: [0, 3] }, [0, 3]],
  ["jamba", { expert_layer_period: 3, expert_layer_offset: 2 }, [2, 5]],
  ["jamba", { num_experts: 1 }, []],
  ["ernie4_5_moe", { moe_layer_start_index: undefined }, [1, 2, 3]],
  ["ernie4_5_moe", { moe_layer_interval: 2, moe_layer_end_index: 2 }, [1]],
  ["ernie4_5_vl_moe", {}, [1, 3]],
  ["ernie4_5_moe_vl", { moe_layer_start_index: undefined, num_hidden_layers: 3 }, [1, 2, 4, 5]],
  ["ernie4_5_moe_vl", { moe_layer_interval: 2, num_hidden_layers: 4 }, [1, 3, 5, 7]],
  ["inkling_transformers", {}, [1]],
  ["inkling_transformers", { mlp_layer_types: undefined, dense_mlp_idx: 1 }, [1]],
  ["inkling_transformers", { mlp_layer_types: undefined }, [0, 1]],
  ["grove_moe", { mlp_only_layers: [0] }, [1]],
  ["qwen2_moe", { decoder_sparse_step: 1, mlp_only_layers: [0, 2] }, [1, 3]],
  ["hunyuan_v1_moe", { moe_layer_num_skipped: 2 }, [2, 3]],
  ["dots1", { first_k_dense_replace: 0 }, [0, 1]],
  ["glm5_next", { mlp_layer_types: undefined, num_hidden_layers: 5 }, [3, 4]],
  ["gemma4", {}, [0, 1]],
  ["gemma4", { enable_moe_block: undefined }, []],
  ["glm4_moe_lite", {}, [1]],
  ["glm4_moe_lite", { mlp_layer_types: undefined }, [1]],
  ["bailing_moe_v2", {}, [1]],
  ["mimo_v2_flash", {}, [1]],
  ["mimo_v2_flash", { moe_layer_freq: undefined, num_hidden_layers: 3 }, [1, 2]],
  ["mistral4", {}, [0, 1]],
  ["afmoe", { num_dense_layers: undefined, num_hidden_layers: 3 }, [1, 2]],
  ["exaone_moe", {}, [1]],
  ["exaone_moe", { is_moe_layer: undefined, num_hidden_layers: 3 }, [1, 2]],
  ["hy_v3", { first_k_dense_replace: undefined }, [1]],
  ["hy_v3", { mlp_layer_types: ["sparse", "dense"] }, [0]],
  ["kimi_linear", { moe_layer_freq: 2, num_hidden_layers: 6 }, [2, 4]],
  ["kolibri1", {}, [0, 1]],
  ["laguna", {}, [1]],
  ["laguna", { mlp_layer_types: undefined, mlp_only_layers: [1] }, [0]],
  ["step3", {}, [1]],
  ["step3", { moe_layers_enum: undefined, num_hidden_layers: 3 }, [1, 2]],
  ["sarvam_moe", { first_k_dense_replace: undefined, num_hidden_layers: 3 }, [1, 2]],
  ["step3p5", {}, [1]],
  ["step3p5", { moe_layers_enum: [0] }, [0]],
  ["step3p5", { model_type: "step4", moe_layers_enum: undefined, moe_layer_list: "0" }, [0]],
  ["step3p5", { moe_layers_enum: undefined, num_hidden_layers: 5 }, [3, 4]],
  ["minimax_m3", {}, [1]],
  ["minimax_m3", { moe_layer_freq: undefined }, [0, 1]],
  ["cohere2_moe", {}, [1]],
  ["cohere2_moe", { mlp_layer_types: ["sparse", "dense"] }, [0]],
  ["klear", {}, [1]],
  ["qwen3_moe", { mlp_layer_types: ["dense", "sparse", "dense", "sparse"] }, [1, 3]],
  ["lfm2_moe", { num_dense_layers: undefined, num_hidden_layers: 4 }, [2, 3]],
  ["granitemoehybrid", { num_local_experts: 0 }, []],
  ["nemotron_h", {}, [1, 3]],
  ["nemotron_h", { layer_types: ["linear_attention", "moe", "full_attention", "mlp"] }, [1]],
  ["nemotron_h", { hybrid_override_pattern: undefined, layers_block_type: ["moe", "mlp", "mamba"] }, [0]],
  ["nemotron_h_puzzle", {}, [1, 3]],
  ["nemotron_h_puzzle", { block_configs: [{ block_type: "mlp" }, { block_type: "moe" }] }, [1]],
  ["gigachat3_5", {}, [1]],
  ["gigachat3_5", { first_k_dense_replace: undefined, num_hidden_layers: 5 }, [3, 4]],
  ["param2moe", { first_k_dense_replace: undefined }, [1]],
  ["pangu_ultra_moe", {}, [1]],
  ["pangu_ultra_moe", { num_dense_layers: undefined, num_hidden_layers: 5 }, [3, 4]],
  ["openpangu_v2", {}, [1]],
  ["moondream3", {}, [1]],
  ["moondream3", { config: { text: { n_layers: 6 } } }, [4, 5]],
  ["hunyuan_image_3", {}, [0, 1]],
  ["arctic", {}, [1]],
  ["arctic", { moe_layer_frequency: 1 }, [0, 1]],
  ["minicpm", {}, [0, 1]],
  ["minicpm", { num_experts: undefined }, []],
  ["switch_transformers", {}, [1, 3, 5, 7, 9]],
  ["switch_transformers", { num_decoder_layers: null }, [1, 3, 5, 7, 9, 11]],
  ["switch_transformers", { encoder_sparse_step: null, num_sparse_encoder_layers: 4 }, [0, 1, 2, 3, 4, 5, 7, 9]],
  ["switch_transformers", { encoder_sparse_step: null, num_sparse_encoder_layers: 0 }, [1, 7, 9]],
  ["switch_transformers", { encoder_sparse_step: 1, decoder_sparse_step: 0 }, [0, 1, 2, 3, 4, 5]],
  ["nllb_moe", {}, [3, 7]],
  ["nllb_moe", { encoder_sparse_step: 0 }, [7]],
  ["nllb_moe", { encoder_sparse_step: 2 }, [1, 3, 7]],
])("layers with experts: %s with %o", async (name, fields, sparse) => {
  const { config } = await readFamilyModel(name);
  const text = (config.text_config ?? config) as Record<string, unknown>;
  const configFields = new ConfigFields("config.json", { ...text, ...fields });
  const family = families.get((text.model_type ?? "minimax_m3_vl_text") as string) as Family;
  const all = Array.from({ length: family.layerCount(configFields) }, (_, layer) => layer);
  expect(all.filter((layer) => family.hasExperts?.(configFields, layer))).toEqual(sparse);
});
