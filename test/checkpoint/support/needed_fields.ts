/** Some value for the fields of config.json that have no default in a family's configuration class. */
export const neededFields: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  deepseek_v2: { num_experts_per_tok: 6 },
  hunyuan: { num_experts: 16 },
  openmoe: { num_experts: 16, moe_layer_interval: 4 },
};
