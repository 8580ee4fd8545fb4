const bailing = {
  num_hidden_layers: 3,
  hidden_size: 64,
  moe_intermediate_size: 32,
  num_experts: 16,
  num_experts_per_tok: 4,
};

/** Some value for the fields of config.json that have no default in a family's configuration class. */
export const neededFields: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  bailing_moe: bailing,
  bailing_moe_v2: bailing,
  deepseek: { num_experts_per_tok: 6 },
  deepseek_v2: { num_experts_per_tok: 6 },
  nemotron_h: { layers_block_type: ["mamba", "moe", "attention"] },
  hunyuan: { num_experts: 16 },
  openmoe: { num_experts: 16, moe_layer_interval: 4 },
};
