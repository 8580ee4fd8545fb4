const gemma4 = { moe_intermediate_size: 704, num_experts: 128, top_k_experts: 8 };
const bailing = {
  num_hidden_layers: 3,
  hidden_size: 64,
  moe_intermediate_size: 32,
  num_experts: 16,
  num_experts_per_tok: 4,
};

const pangu = {
  num_hidden_layers: 3,
  hidden_size: 64,
  moe_intermediate_size: 32,
  n_routed_experts: 16,
  num_experts_per_tok: 4,
};

/** Some value for the fields of config.json that have no default in a family's configuration class. */
export const neededFields: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  bailing_moe: bailing,
  bailing_moe_v2: bailing,
  bailing_moe_linear: { ...bailing, score_function: "sigmoid" },
  bailing_hybrid: { ...bailing, score_function: "sigmoid" },
  llada2_moe: { ...bailing, score_function: "sigmoid" },
  sarvam_moe: bailing,
  param2moe: bailing,
  openpangu_v2: { ...pangu, n_shared_experts: 1, norm_topk_prob: true, routed_scaling_factor: 2.5 },
  pangu_pro_moe_v2: pangu,
  minicpm: { num_experts: 8, num_experts_per_tok: 2 },
  sarvam_mla: { ...bailing, num_experts: 32 },
  Klear: { ...bailing, n_shared_experts: 1, norm_topk_prob: true },
  deepseek: { num_experts_per_tok: 6 },
  deepseek_ocr2_text: { num_experts_per_tok: 6 },
  deepseek_v2: { num_experts_per_tok: 6 },
  gemma4_text: { ...gemma4, enable_moe_block: true },
  diffusion_gemma_text: gemma4,
  nemotron_h: { layers_block_type: ["mamba", "moe", "attention"] },
  nemotron_h_puzzle: { block_configs: [{ block_type: "moe" }, { block_type: "attention" }] },
  grove_moe: {
    num_hidden_layers: 48,
    hidden_size: 2048,
    moe_intermediate_size: 768,
    num_experts: 128,
    num_experts_per_tok: 8,
  },
  k2_horizon: { num_experts: 16 },
  hunyuan: { num_experts: 16 },
  openmoe: { num_experts: 16, moe_layer_interval: 4 },
};
