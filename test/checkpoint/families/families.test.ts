import { expect, test } from "vitest";
import { ConfigFields } from "../../../lib/checkpoint/config_fields.js";
import type { Family } from "../../../lib/checkpoint/families/family.js";
import { families } from "../../../lib/checkpoint/families/registry.js";
import { describeLayer, type MoeLayerConfig } from "../../../lib/layer/description/config.js";
import { neededFields } from "../support/needed_fields.js";

const fieldsOf = (json: Record<string, unknown>) => new ConfigFields("config.json", json);

/** The values that absent fields get: the defaults of the configuration classes in Transformers. */
type Defaults = MoeLayerConfig & { readonly layers: number };

const sizes = (hiddenSize: number, intermediateSize: number, numExperts: number, topK: number) => ({
  hiddenSize,
  intermediateSize,
  numExperts,
  topK,
  activation: "swiglu" as const,
});

const deepseekV3: Defaults = {
  ...sizes(7168, 2048, 256, 8),
  scoring: "sigmoid",
  groups: { count: 8, top: 4, score: "top2_sum" },
  normalize: true,
  scale: 2.5,
  sharedExpert: { intermediateSize: 2048 },
  layers: 61,
};

const deepseekV2: Defaults = {
  ...sizes(4096, 1407, 64, 6),
  normalize: false,
  scale: 1,
  sharedExpert: { intermediateSize: 2814 },
  layers: 32,
};

/** DeepSeek-V3's formula without groups. */
const sigmoid = (scale: number, shared: number) => ({
  scoring: "sigmoid" as const,
  normalize: true,
  scale,
  sharedExpert: { intermediateSize: shared },
});
const mimo: Defaults = { ...sizes(4096, 2048, 256, 8), scoring: "sigmoid", normalize: true, scale: 1, layers: 48 };
const glm4: Defaults = { ...sizes(4096, 1408, 128, 8), ...sigmoid(1, 1408), layers: 46 };
const gemma4: Defaults = {
  ...sizes(2304, 704, 128, 8),
  activation: "geglu_tanh",
  normalize: true,
  separateRouterInput: true,
  routerNorm: { epsilon: 1e-6, scale: 1 / 48 },
  perExpertScale: true,
  layers: 30,
};

const ernieVl: Defaults = {
  ...sizes(2560, 1536, 64, 6),
  normalize: { by: "clamped_sum", epsilon: 1e-12 },
  layers: 56,
};

const longcat: Defaults = {
  ...sizes(6144, 2048, 768, 12),
  identityExperts: 256,
  normalize: false,
  scale: 6,
  layers: 28,
};

const defaults: Readonly<Record<string, Defaults>> = {
  mixtral: { ...sizes(4096, 14336, 8, 2), normalize: true, layers: 32 },
  arctic: { ...sizes(4096, 14336, 8, 1), normalize: false, layers: 32 },
  minicpm: { ...sizes(4096, 11008, 8, 2), normalize: true, layers: 32 },
  minimax: { ...sizes(4096, 14336, 8, 2), normalize: true, layers: 32 },
  minimax_text_01: { ...sizes(4096, 14336, 8, 2), normalize: true, layers: 32 },
  minimax_m2: { ...sizes(3072, 1536, 256, 8), scoring: "sigmoid", normalize: true, layers: 62 },
  minimax_m1: { ...sizes(4096, 14336, 8, 2), normalize: true, layers: 32 },
  qwen2_moe: {
    ...sizes(2048, 1408, 60, 4),
    normalize: false,
    sharedExpert: { intermediateSize: 5632, gate: "sigmoid" },
    layers: 24,
  },
  qwen3_moe: { ...sizes(2048, 768, 128, 8), normalize: false, layers: 24 },
  qwen3_next: {
    ...sizes(2048, 512, 512, 10),
    normalize: true,
    sharedExpert: { intermediateSize: 512, gate: "sigmoid" },
    layers: 48,
  },
  qwen3_5_moe_text: {
    ...sizes(2048, 512, 256, 8),
    normalize: true,
    sharedExpert: { intermediateSize: 512, gate: "sigmoid" },
    layers: 40,
  },
  qwen4_exp_text: {
    ...sizes(2048, 512, 512, 10),
    normalize: true,
    sharedExpert: { intermediateSize: 512, gate: "sigmoid" },
    layers: 40,
  },
  qwen3_8_flash_next_text: {
    ...sizes(2048, 512, 512, 10),
    normalize: true,
    sharedExpert: { intermediateSize: 512, gate: "sigmoid" },
    layers: 40,
  },
  berrylm: {
    ...sizes(2048, 512, 128, 8),
    normalize: true,
    sharedExpert: { intermediateSize: 512, gate: "sigmoid" },
    layers: 40,
  },
  alice_ai: {
    ...sizes(2048, 512, 512, 10),
    scoring: "sigmoid",
    normalize: true,
    sharedExpert: { intermediateSize: 512, gate: "sigmoid" },
    layers: 48,
  },
  qwen3_omni_moe_text: { ...sizes(2048, 768, 128, 8), normalize: true, layers: 28 },
  qwen3_vl_moe_text: { ...sizes(2048, 1408, 60, 4), normalize: true, layers: 24 },
  olmoe: { ...sizes(2048, 2048, 64, 8), normalize: false, layers: 16 },
  flex_olmo: { ...sizes(4096, 11008, 7, 5), normalize: false, layers: 32 },
  mellum: { ...sizes(2304, 896, 64, 8), normalize: true, layers: 28 },
  deepseek: deepseekV2,
  deepseek_ocr2_text: deepseekV2,
  deepseek_v2: deepseekV2,
  deepseek_v3: deepseekV3,
  deepseek_v32: deepseekV3,
  kimi_k2: deepseekV3,
  axk1: { ...deepseekV3, numExperts: 192 },
  axk2: { ...sizes(2048, 512, 128, 8), ...sigmoid(2.5, 512), layers: 48 },
  deepseek_v4: {
    ...sizes(4096, 2048, 256, 6),
    hashRouting: { vocabularySize: 129280 },
    scoring: "sqrt_softplus",
    normalize: true,
    scale: 1.5,
    activation: "swiglu_clamped",
    clamp: { alpha: 1, limit: 10, offset: 0 },
    sharedExpert: { intermediateSize: 2048 },
    layers: 43,
  },
  deepseek_v41_text: {
    ...sizes(5120, 2304, 384, 6),
    scoring: "sqrt_softplus",
    normalize: true,
    scale: 1.5,
    activation: "swiglu_clamped",
    clamp: { alpha: 1, limit: 10, offset: 0 },
    sharedExpert: { intermediateSize: 2304 },
    layers: 40,
  },
  mistral4: {
    ...sizes(4096, 2048, 128, 4),
    normalize: true,
    scale: 1,
    sharedExpert: { intermediateSize: 2048 },
    layers: 36,
  },
  kimi_linear: { ...sizes(2304, 1024, 256, 8), ...sigmoid(2.446, 1024), layers: 27 },
  mimo_v2_flash: mimo,
  mimo_v2: mimo,
  afmoe: { ...sizes(2048, 1408, 64, 6), ...sigmoid(1, 2816), layers: 32 },
  exaone_moe: { ...sizes(4096, 1024, 64, 8), ...sigmoid(2.5, 1024), layers: 32 },
  hy_v3: { ...sizes(4096, 1536, 192, 8), ...sigmoid(2.826, 1536), layers: 80 },
  hy_v4: {
    ...sizes(2816, 768, 256, 8),
    ...sigmoid(2.827, 768),
    activation: "swiglu_clamped",
    clamp: { alpha: 1, limit: 10, offset: 0 },
    sharedExpert: { intermediateSize: 768, clamp: { alpha: 1, limit: Number.POSITIVE_INFINITY, offset: 0 } },
    layers: 34,
  },
  laguna: { ...sizes(2048, 512, 256, 8), ...sigmoid(1, 512), layers: 40 },
  dots3_note_text: { ...sizes(5120, 1536, 256, 8), ...sigmoid(1, 1536), layers: 46 },
  k2_horizon: { ...sizes(1536, 768, 16, 8), scoring: "softmax", normalize: false, scale: 1, layers: 28 },
  kolibri1: {
    ...sizes(2560, 512, 384, 6),
    scoring: "sigmoid",
    selectionKey: "logit",
    normalize: false,
    sharedExpert: { intermediateSize: 512 },
    layers: 50,
  },
  smallthinker: {
    ...sizes(1536, 768, 32, 4),
    scoring: "sigmoid",
    selectionKey: "logit",
    normalize: true,
    separateRouterInput: true,
    activation: "reglu",
    layers: 32,
  },
  step4: { ...sizes(4096, 1280, 288, 8), ...sigmoid(1, 1280), layers: 45 },
  step3p5: { ...sizes(4096, 1280, 288, 8), ...sigmoid(1, 1280), layers: 45 },
  minimax_m3_vl_text: {
    ...sizes(6144, 3072, 128, 4),
    ...sigmoid(2, 3072),
    activation: "swiglu_clamped",
    clamp: { alpha: 1.702, limit: 7, offset: 1 },
    layers: 60,
  },
  longcat_flash: longcat,
  longcat_flash_ngram: longcat,
  longcat_next: longcat,
  aria_text: {
    ...sizes(4096, 4096, 8, 2),
    scoring: "softmax_selected",
    sharedExpert: { intermediateSize: 8192 },
    layers: 32,
  },
  cohere2_moe: { ...sizes(8192, 22528, 8, 2), scoring: "softmax_selected", scale: 1, layers: 40 },
  Klear: {
    ...sizes(64, 32, 16, 4),
    scoring: "sigmoid",
    normalize: true,
    sharedExpert: { intermediateSize: 32, gate: "softmax" },
    layers: 3,
  },
  gpt_oss: {
    ...sizes(2880, 2880, 128, 4),
    activation: "swiglu_clamped",
    clamp: { alpha: 1.702, limit: 7, offset: 1 },
    scoring: "softmax_selected",
    layers: 36,
  },
  openai_privacy_filter: {
    ...sizes(640, 640, 128, 4),
    activation: "swiglu_clamped",
    clamp: { alpha: 1.702, limit: 7, offset: 1 },
    scoring: "softmax_selected",
    layers: 8,
  },
  gemma4_text: gemma4,
  diffusion_gemma_text: gemma4,
  llama4_text: {
    ...sizes(5120, 8192, 16, 1),
    scoring: "sigmoid",
    selectionKey: "logit",
    weightOn: "input",
    sharedExpert: { intermediateSize: 8192 },
    layers: 48,
  },
  glm4_moe: glm4,
  glm4v_moe_text: glm4,
  glm4_moe_lite: { ...sizes(2048, 1536, 64, 4), ...sigmoid(1.8, 1536), layers: 47 },
  glm_moe_dsa: { ...sizes(6144, 2048, 256, 8), ...sigmoid(2.5, 2048), layers: 78 },
  glm5_next_text: {
    ...sizes(4096, 2048, 288, 8),
    ...sigmoid(2.5, 2048),
    activation: "swiglu_clamped",
    clamp: { alpha: 1, limit: 10, offset: 0 },
    layers: 45,
  },
  gigachat3_5: {
    ...sizes(7168, 2048, 256, 8),
    ...sigmoid(2.5, 2048),
    activation: "swiglu_clamped",
    clamp: { alpha: 1, limit: 10, offset: 0 },
    layers: 40,
  },
  solar_open: { ...glm4, intermediateSize: 1280, sharedExpert: { intermediateSize: 1280 }, layers: 48 },
  xing4_0: { ...sizes(3584, 1024, 64, 4), ...sigmoid(2, 1024), layers: 40 },
  solar_open2: { ...sizes(4096, 1280, 320, 8), ...sigmoid(1, 1280), layers: 48 },
  dots1: { ...sizes(4608, 1408, 128, 6), ...sigmoid(1, 1408), normalize: false, layers: 62 },
  bailing_moe: { ...sizes(64, 32, 16, 4), scoring: "softmax", normalize: true, scale: 1, layers: 3 },
  bailing_moe_v2: { ...sizes(64, 32, 16, 4), scoring: "sigmoid", normalize: true, scale: 1, layers: 3 },
  bailing_moe_linear: { ...sizes(64, 32, 16, 4), scoring: "sigmoid", normalize: true, scale: 1, layers: 3 },
  bailing_hybrid: { ...sizes(64, 32, 16, 4), scoring: "sigmoid", normalize: true, scale: 1, layers: 3 },
  llada2_moe: { ...sizes(64, 32, 16, 4), scoring: "sigmoid", normalize: true, scale: 1, layers: 3 },
  sarvam_moe: { ...sizes(64, 32, 16, 4), ...sigmoid(2.5, 32), layers: 3 },
  sarvam_mla: {
    ...sizes(64, 32, 32, 4),
    ...sigmoid(2.5, 32),
    groups: { count: 16, top: 2, score: "top2_sum" },
    layers: 3,
  },
  param2moe: {
    ...sizes(64, 32, 16, 4),
    ...sigmoid(1, 32),
    groups: { count: 8, top: 4, score: "top2_sum" },
    layers: 3,
  },
  pangu_ultra_moe: { ...sizes(7680, 2048, 256, 8), ...sigmoid(2.5, 2048), layers: 61 },
  openpangu_v2: { ...sizes(64, 32, 16, 4), ...sigmoid(2.5, 32), layers: 3 },
  pangu_pro_moe_v2: { ...sizes(64, 32, 16, 4), scoring: "sigmoid", normalize: true, scale: 1, layers: 3 },
  moondream3: { ...sizes(2048, 1024, 64, 8), scoring: "softmax_selected", activation: "geglu", layers: 24 },
  step3_text: { ...sizes(7168, 5120, 48, 3), normalize: false, sharedExpert: { intermediateSize: 5120 }, layers: 61 },
  lfm2_moe: {
    ...sizes(2048, 1792, 32, 4),
    scoring: "sigmoid",
    normalize: { by: "sum_plus_epsilon", epsilon: 1e-6 },
    scale: 1,
    layers: 32,
  },
  nemotron_h: { ...sizes(4096, 7688, 8, 2), ...sigmoid(1, 7688), activation: "relu2", layers: 3 },
  nemotron_h_puzzle: { ...sizes(4096, 7688, 8, 2), ...sigmoid(1, 7688), activation: "relu2", layers: 2 },
  phimoe: { ...sizes(4096, 6400, 16, 2), scoring: "sparsemixer", jitter: 0.01, layers: 32 },
  dbrx: { ...sizes(2048, 3584, 4, 1), normalize: { by: "lp", power: 1 }, layers: 24 },
  jetmoe: { ...sizes(2048, 5632, 8, 2), scoring: "softmax_selected", layers: 12 },
  jamba: { ...sizes(4096, 14336, 16, 2), layers: 32 },
  granitemoe: { ...sizes(4096, 11008, 8, 2), scoring: "softmax_selected", layers: 32 },
  granitemoeshared: { ...sizes(4096, 11008, 8, 2), scoring: "softmax_selected", layers: 32 },
  granitemoe_swa: { ...sizes(4096, 11008, 8, 2), scoring: "softmax_selected", layers: 32 },
  granitemoehybrid: {
    ...sizes(4096, 11008, 8, 2),
    scoring: "softmax_selected",
    sharedExpert: { intermediateSize: 1024 },
    layers: 32,
  },
  ernie4_5_moe: {
    ...sizes(2560, 1536, 64, 6),
    normalize: { by: "clamped_sum", epsilon: 1e-12 },
    sharedExpert: { intermediateSize: 3072 },
    layers: 28,
  },
  ernie4_5_vl_moe_text: { ...ernieVl, sharedExpert: { intermediateSize: 3072 } },
  ernie4_5_moe_vl: ernieVl,
  grove_moe: { ...sizes(2048, 768 + 128, 128, 8), normalize: true, layers: 48 },
  inkling_text: {
    ...sizes(6144, 3072, 258, 8),
    scoring: "sigmoid",
    normalize: true,
    scale: 8,
    perExpertScale: true,
    layers: 66,
  },
  hunyuan: {
    ...sizes(4096, 11008, 16, 1),
    normalize: { by: "clamped_sum", epsilon: 2 ** -23 },
    capacity: { factor: 1, round: "down", minimum: 1, drop: "position" },
    layers: 32,
  },
  hunyuan_v1_moe: {
    ...sizes(4096, 11008, 1, 1),
    normalize: true,
    sharedExpert: { intermediateSize: 11008 },
    layers: 32,
  },
  hunyuan_image_3_moe: {
    ...sizes(4096, 11008, 1, 1),
    normalize: true,
    sharedExpert: { intermediateSize: 11008 },
    layers: 32,
  },
  switch_transformers: {
    ...sizes(768, 2048, 8, 1),
    activation: "relu",
    capacity: { tokens: 64, per: "sequence" },
    layers: 24,
  },
  openmoe: {
    ...sizes(4096, 11008, 16, 2),
    capacity: { factor: 2, round: "down", multipleOf: 2, minimum: 4 },
    layers: 32,
  },
  "nllb-moe": {
    ...sizes(1024, 4096, 128, 2),
    activation: "relu",
    normalize: { by: "clamped_sum", epsilon: 2 ** -23 },
    scale: 0.8,
    layers: 24,
  },
};

/** Families that name the activation differently, or have only one. */
const otherActivations: readonly string[] = [
  "gpt_oss",
  "jetmoe",
  "openai_privacy_filter",
  "dbrx",
  "switch_transformers",
  "nllb-moe",
  "openmoe",
  "nemotron_h",
  "nemotron_h_puzzle",
  "gigachat3_5",
  "moondream3",
  "hunyuan_image_3_moe",
  "deepseek_v4",
  "deepseek_v41_text",
  "gemma4_text",
  "diffusion_gemma_text",
  "glm5_next_text",
  "hy_v4",
  "minimax_m3_vl_text",
  "smallthinker",
  "step3_text",
];

test("every family is in the table", () => {
  expect([...families.keys()].toSorted()).toEqual(Object.keys(defaults).toSorted());
});

test.each(Object.entries(defaults))(
  "%s: fields that are absent or null have Transformers' defaults",
  (modelType, { layers, ...config }) => {
    const family = families.get(modelType) as Family;
    const absent = { ...neededFields[modelType] };
    const isNull = { hidden_size: null, hidden_act: null, intermediate_size: null, num_experts: null, ...absent };
    for (const fields of [absent, isNull]) {
      expect(family.layerCount(fieldsOf(fields))).toBe(layers);
      expect(family.config(fieldsOf(fields), 0)).toEqual(config);
    }
    expect(() => describeLayer(config, "f32")).not.toThrow();
  },
);

test.each(["mixtral", "minimax", "olmoe", "qwen2_moe", "qwen3_moe", "gpt_oss", "granitemoe", "jamba", "llama4_text"])(
  "%s: the number of experts under either of its names",
  (modelType) => {
    const family = families.get(modelType) as Family;
    expect(family.config(fieldsOf({ num_experts: 16 }), 0).numExperts).toBe(16);
    expect(family.config(fieldsOf({ num_local_experts: 16 }), 0).numExperts).toBe(16);
  },
);

test.each([
  ["step3p5", "swiglu_limits", "swiglu_limits_shared"],
  ["bailing_moe_v2", "expert_swiglu_limit_list", "share_expert_swiglu_limit_list"],
  ["bailing_hybrid", "expert_swiglu_limit_list", "share_expert_swiglu_limit_list"],
])("%s limits SiLU by layer", (modelType, routed, shared) => {
  const family = families.get(modelType) as Family;
  const none = Number.POSITIVE_INFINITY;
  const clamp = (limit: number) => ({ alpha: 1, limit, offset: 0 });
  const limits = { [routed]: [0, 0, 7, null, 4], [shared]: [0, 16, 5, 0, 4] };
  const fields = fieldsOf({ ...neededFields[modelType], num_shared_experts: 1, ...limits });
  const read = (layer: number) => {
    const { activation, clamp, sharedExpert } = family.config(fields, layer);
    return [activation, clamp, sharedExpert?.clamp];
  };
  expect(read(0)).toEqual(["swiglu", undefined, undefined]);
  expect(read(1)).toEqual(["swiglu_clamped_after", clamp(none), clamp(16)]);
  expect(read(2)).toEqual(["swiglu_clamped_after", clamp(7), clamp(5)]);
  expect(read(3)).toEqual(["swiglu", undefined, undefined]);
  expect(read(4)).toEqual(["swiglu_clamped_after", clamp(4), undefined]);
  expect(read(5)).toEqual(["swiglu", undefined, undefined]);
});

test("kimi_linear with SiTU", () => {
  const family = families.get("kimi_linear") as Family;
  const clamps = [
    {},
    { activation_situ_beta: 4, activation_situ_linear_beta: 25 },
    { activation_situ_linear_beta: null },
  ];
  expect(clamps.map((fields) => family.config(fieldsOf({ hidden_act: "situ", ...fields }), 1))).toMatchObject([
    { activation: "situ", clamp: { limit: 1 } },
    { activation: "situ", clamp: { limit: 4, upLimit: 25 } },
    { activation: "situ", clamp: { limit: 1 } },
  ]);
});

test("longcat_flash with a bias of the router, renormalised weights and without experts that return their input", () => {
  const family = families.get("longcat_flash") as Family;
  const fields = fieldsOf({ router_bias: true, norm_topk_prob: true, zero_expert_num: null, n_routed_experts: 8 });
  expect(family.config(fields, 0)).toMatchObject({ numExperts: 8, normalize: true });
  expect(family.config(fields, 0).identityExperts).toBeUndefined();
  const [tensors] = family.tensors("model.layers.3", fields, 3);
  expect(tensors).toMatchObject({
    router: { name: "model.layers.3.mlp.router.classifier.weight" },
    routerBias: { name: "model.layers.3.mlp.router.classifier.bias" },
    selectionBias: { name: "model.layers.3.mlp.router.e_score_correction_bias" },
  });
});

test("the first layers of DeepSeek-V4 look up experts by token id", () => {
  const hashed = (fields: Record<string, unknown>) =>
    [0, 1, 2, 3, 4].filter((layer) => families.get("deepseek_v4")?.config(fieldsOf(fields), layer).hashRouting);
  expect(hashed({})).toEqual([0, 1, 2]);
  expect(hashed({ num_hash_layers: 1 })).toEqual([0]);
  expect(hashed({ num_hash_layers: 0 })).toEqual([]);
  expect(hashed({ mlp_layer_types: ["hash_moe", "hash_moe", "moe", "moe", "moe"], num_hash_layers: 4 })).toEqual([
    0, 1,
  ]);
});

test.each(["deepseek_v4", "deepseek_v41_text", "glm5_next_text", "gigachat3_5", "hy_v4"])(
  "%s without a limit has a plain SwiGLU",
  (modelType) => {
    const family = families.get(modelType) as Family;
    for (const limit of [null, 0]) {
      const config = family.config(fieldsOf({ ...neededFields[modelType], swiglu_limit: limit }), 3);
      expect(config.activation).toBe("swiglu");
      expect(config.clamp).toBeUndefined();
    }
  },
);

test.each([
  ["silu", "swiglu"],
  ["gelu", "geglu"],
  ["gelu_pytorch_tanh", "geglu_tanh"],
  ["relu", "reglu"],
])("hidden_act %s is %s", (hiddenAct, activation) => {
  for (const [modelType, family] of families) {
    if (otherActivations.includes(modelType)) continue;
    const fields = fieldsOf({ ...neededFields[modelType], hidden_act: hiddenAct });
    expect(family.config(fields, 0).activation).toBe(activation);
  }
});

test("ERNIE 4.5 VL's blocks are layers for tokens of text, then layers for those of images", () => {
  const family = families.get("ernie4_5_moe_vl") as Family;
  const fields = fieldsOf({
    num_hidden_layers: 3,
    moe_num_experts: [8, 6],
    moe_intermediate_size: [20, 10],
    moe_layer_start_index: [1, 2],
    moe_layer_end_index: [2, 29],
    moe_num_shared_experts: 2,
  });
  const layers = [0, 1, 2, 3, 4, 5];
  expect(layers.filter((layer) => family.hasExperts?.(fields, layer))).toEqual([1, 2, 5]);
  expect(family.config(fields, 1)).toMatchObject({ numExperts: 8, intermediateSize: 20 });
  expect(family.config(fields, 5)).toMatchObject({ numExperts: 6, intermediateSize: 10 });
  for (const layer of [1, 5]) expect(family.config(fields, layer).sharedExpert).toEqual({ intermediateSize: 40 });
  expect(family.prefix?.(fields, 5)).toBe("model.layers.2");
  const [tensors] = family.tensors("model.layers.2", fields, 5);
  expect(tensors?.experts.up).toEqual({ name: "model.layers.2.mlp.experts.{e+8}.up_proj.weight" });
});

test.each([
  [{ intermediate_size: 2048, dense_intermediate_size: 16384 }, 2048],
  [{ intermediate_size: 24576, moe_intermediate_size: 3072 }, 3072],
  [{ intermediate_size: 24576, dense_intermediate_size: 24576, moe_intermediate_size: 1024 }, 1024],
])("the width of Inkling's experts in %o", (fields, width) => {
  expect(families.get("inkling_text")?.config(fieldsOf(fields), 3).intermediateSize).toBe(width);
});
