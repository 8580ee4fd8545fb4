/** The fields of config.json that a family's configuration class has no default for, with some value. */
export const neededFields: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  deepseek_v2: { num_experts_per_tok: 6 },
  openmoe: { num_experts: 16, moe_layer_interval: 4 },
};
