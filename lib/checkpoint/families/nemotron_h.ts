import { describe } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { ConfigFields } from "../config_fields.js";
import type { LayerTensors } from "../locate/locate_layer.js";
import { isRecord, type JsonObject } from "../safetensors/strict_json.js";
import { bestGroups } from "./deepseek_v2.js";
import { type Family, latentTokens, layerCount, maximumLayers, plainActivation } from "./family.js";

/**
 * Nemotron 3: NemotronHConfig and NemotronHMoE of Transformers. DeepSeek-V3's routing over experts without a gate, and a
 * shared expert of a width of its own; in the larger models on a projection of the tokens. Layers are of several kinds, of which
 * some have experts and nothing else.
 */
export const nemotronH: Family = {
  modelType: "nemotron_h",
  layerCount: (fields) => blocks(fields)?.length ?? layerCount(undefined)(fields),
  hasExperts: (fields, layer) => ["E", "moe"].includes(blocks(fields)?.[layer] as string),
  config: (fields) => {
    fields.require("mlp_bias", false);
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize: fields.integer("moe_intermediate_size", 7688),
      numExperts: fields.integer("n_routed_experts", 8, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", 2),
      scoring: "sigmoid",
      ...bestGroups(fields),
      normalize: fields.boolean("norm_topk_prob", true),
      scale: fields.number("routed_scaling_factor", 1),
      activation: plainActivation(fields, "mlp_hidden_act", "relu2"),
      sharedExpert: { intermediateSize: fields.integer("moe_shared_expert_intermediate_size", 7688) },
      ...latentTokens(fields, latentSize),
    };
  },
  prefix: (_fields, layer) => `backbone.layers.${layer}`,
  tensors: (prefix, fields) =>
    [prefix, prefix.replace("backbone.", "model.")].flatMap((own) => tensorsOf(`${own}.mixer`, fields.has(latentSize))),
};

/**
 * Nemotron 3 Puzzle: NemotronHPuzzleConfig of its own code and of SGLang. The same blocks, of which each may have sizes of its own,
 * and another number of experts a token: `block_configs` has fields that replace the model's.
 */
export const nemotronHPuzzle: Family = {
  modelType: "nemotron_h_puzzle",
  layerCount: (fields) => ownFields(fields).length,
  hasExperts: (fields, layer) => blockFields(fields, layer).value("block_type") === "moe",
  config: (fields, layer) => nemotronH.config(blockFields(fields, layer), layer),
  tensors: (prefix, fields, layer) => {
    const latent = blockFields(fields, layer).has(latentSize);
    return [prefix, prefix.replace("model.", "backbone.")].flatMap((own) => tensorsOf(`${own}.mixer`, latent));
  },
};

/** What the blocks of Puzzle have apart from the model's fields. */
function ownFields(fields: ConfigFields): readonly JsonObject[] {
  const name = "block_configs";
  const blocks = fields.value(name);
  if (Array.isArray(blocks) && blocks.length > 0 && blocks.length <= maximumLayers && blocks.every(isRecord))
    return blocks;
  throw badCheckpoint(
    fields.path,
    `${name}: expected a list of 1 to ${maximumLayers} objects, got ${describe(blocks)}`,
  );
}

function blockFields(fields: ConfigFields, layer: number): ConfigFields {
  return new ConfigFields(`${fields.path}: block_configs[${layer}]`, { ...fields.all, ...ownFields(fields)[layer] });
}

const latentSize = "moe_latent_size";

/** The kind of every layer. */
function blocks(fields: ConfigFields): readonly unknown[] | undefined {
  const names = ["layers_block_type", "layer_types", "hybrid_override_pattern"];
  const kinds = names.map((name) => fields.value(name)).find((value) => value !== undefined);
  const list = typeof kinds === "string" ? [...kinds] : kinds;
  return Array.isArray(list) && list.length <= maximumLayers ? list : undefined;
}

function tensorsOf(block: string, latent: boolean): readonly LayerTensors[] {
  const named = (module: string) => ({ name: `${module}.weight` });
  const others = {
    router: named(`${block}.gate`),
    selectionBias: { name: `${block}.gate.e_score_correction_bias` },
    shared: { up: named(`${block}.shared_experts.up_proj`), down: named(`${block}.shared_experts.down_proj`) },
    ...(latent && { latentDown: named(`${block}.fc1_latent_proj`), latentUp: named(`${block}.fc2_latent_proj`) }),
  };
  const single = (name: string) => named(`${block}.experts.{e}.${name}`);
  const stacked = (name: string) => ({ name: `${block}.experts.${name}`, stacked: "dim0" }) as const;
  return [single, stacked].map((matrix) => ({
    ...others,
    experts: { up: matrix("up_proj"), down: matrix("down_proj") },
  }));
}
