import { expect, test } from "vitest";
import { ConfigFields } from "../../lib/checkpoint/config_fields.js";
import { families } from "../../lib/checkpoint/families/registry.js";

const fieldsOf = (json: Record<string, unknown>) => new ConfigFields("config.json", json);

/** The defaults of MixtralConfig, OlmoeConfig and Qwen3MoeConfig in Transformers. */
const defaults = {
  mixtral: { hiddenSize: 4096, intermediateSize: 14336, numExperts: 8, topK: 2, normalize: true, layers: 32 },
  olmoe: { hiddenSize: 2048, intermediateSize: 2048, numExperts: 64, topK: 8, normalize: false, layers: 16 },
  qwen3_moe: { hiddenSize: 2048, intermediateSize: 768, numExperts: 128, topK: 8, normalize: false, layers: 24 },
};

test.each(Object.entries(defaults))(
  "%s: fields that are absent or null have Transformers' defaults",
  (modelType, { layers, ...config }) => {
    const family = families.get(modelType);
    expect(family?.layerCount(fieldsOf({}))).toBe(layers);
    for (const fields of [{}, { hidden_size: null, num_experts_per_tok: null, hidden_act: null, num_experts: null }]) {
      expect(family?.config(fieldsOf(fields), 0)).toEqual({ ...config, activation: "swiglu" });
    }
  },
);

test.each([...families.keys()])("%s: the number of experts under either of its names", (modelType) => {
  const family = families.get(modelType);
  expect(family?.config(fieldsOf({ num_experts: 16 }), 0).numExperts).toBe(16);
  expect(family?.config(fieldsOf({ num_local_experts: 16 }), 0).numExperts).toBe(16);
});

test.each([
  ["silu", "swiglu"],
  ["gelu", "geglu"],
  ["gelu_pytorch_tanh", "geglu_tanh"],
])("hidden_act %s is %s", (hiddenAct, activation) => {
  for (const family of families.values()) {
    expect(family.config(fieldsOf({ hidden_act: hiddenAct }), 0).activation).toBe(activation);
  }
});
