import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { ConfigFields } from "../config_fields.js";
import type { LayerTensors } from "../locate/locate_layer.js";
import { sharedCount } from "./deepseek_v2.js";
import { type Family, gatedExpert, layerCount, sharedExpert, stackedOrSingle } from "./family.js";
import { limitedInputs } from "./limits.js";

const scorings = new Map([
  ["sqrtsoftplus", "sqrt_softplus"],
  ["sigmoid", "sigmoid"],
] as const);

/**
 * DeepSeek-V4: DeepseekV4Config and DeepseekV4SparseMoeBlock of Transformers, Gate and MoE of DeepSeek's own model.py. Square
 * root of softplus; experts are chosen by score plus bias, and weighted by their scores, renormalised and scaled. A limit
 * clamps what enters every SwiGLU. The first layers look up a token's experts by its id, in DeepseekV4HashRouter.
 */
export const deepseekV4: Family = {
  modelType: "deepseek_v4",
  layerCount: layerCount(43),
  config: (fields, layer) => formula(fields, isHashed(fields, layer), { hidden: 4096, width: 2048, experts: 256 }),
  tensors: (prefix, fields, layer) => names(prefix, isHashed(fields, layer)),
};

/**
 * DeepSeek-V4.1: DeepseekV41TextConfig and DeepseekV41SparseMoeBlock of Transformers. As V4, without tables. Tokens of images are
 * chosen for with another bias, which the layer can be given for them.
 */
export const deepseekV41: Family = {
  modelType: "deepseek_v41_text",
  layerCount: layerCount(40),
  config: (fields) => {
    fields.require("gate_temp", 1);
    return formula(fields, false, { hidden: 5120, width: 2304, experts: 384 });
  },
  tensors: (prefix) => names(prefix, false),
};

/** @param unsaid what a config.json means that does not say it. */
function formula(
  fields: ConfigFields,
  hashed: boolean,
  unsaid: { readonly hidden: number; readonly width: number; readonly experts: number },
): MoeLayerConfig {
  fields.require("topk_method", "noaux_tc");
  fields.require("norm_topk_prob", true);
  const intermediateSize = fields.integer("moe_intermediate_size", unsaid.width);
  const activations = limitedInputs(fields, 10);
  return {
    hiddenSize: fields.integer("hidden_size", unsaid.hidden),
    intermediateSize,
    numExperts: fields.integer("n_routed_experts", unsaid.experts, { alias: "num_local_experts" }),
    topK: fields.integer("num_experts_per_tok", 6),
    scoring: fields.choice("scoring_func", "sqrtsoftplus", scorings),
    normalize: true,
    scale: fields.number("routed_scaling_factor", 1.5),
    ...(hashed && { hashRouting: { vocabularySize: fields.integer("vocab_size", 129280) } }),
    ...activations.experts,
    ...sharedExpert(sharedCount(fields, 1), intermediateSize, activations.shared),
  };
}

function names(prefix: string, hashed: boolean): readonly LayerTensors[] {
  const [own, transformers] = [`${prefix}.ffn`, `${prefix}.mlp`];
  const matrices = ["w1", "w3", "w2"] as const;
  const choice = (gate: string, bias: string) =>
    hashed ? { expertTable: { name: `${gate}.tid2eid` } } : { selectionBias: { name: `${gate}.${bias}` } };
  const published = (bias: string, shared?: Parameters<typeof gatedExpert>[1]) => ({
    router: { name: `${own}.gate.weight` },
    ...choice(`${own}.gate`, bias),
    experts: gatedExpert(`${own}.experts.{e}`, [...matrices]),
    shared: gatedExpert(`${own}.shared_experts`, shared),
  });
  return [
    published("bias", [...matrices]),
    published("e_score_correction_bias"), // as MLX has them, with other names for the experts
    ...stackedOrSingle(
      {
        router: { name: `${transformers}.gate.weight` },
        ...choice(`${transformers}.gate`, "e_score_correction_bias"),
        shared: gatedExpert(`${transformers}.shared_experts`),
      },
      `${transformers}.experts`,
    ),
  ];
}

/** Whether a layer chooses experts by token ids. */
function isHashed(fields: ConfigFields, layer: number): boolean {
  const types = fields.value("mlp_layer_types");
  if (Array.isArray(types)) return types[layer] === "hash_moe";
  return layer < fields.integer("num_hash_layers", 3, { minimum: 0 });
}
