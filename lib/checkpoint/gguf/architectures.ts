import { badCheckpoint } from "../bad_checkpoint.js";
import { dbrx } from "../families/dbrx.js";
import { deepseekV2 } from "../families/deepseek_v2.js";
import { deepseekV3, glm4Moe } from "../families/deepseek_v3.js";
import { ernie45Moe } from "../families/ernie4_5_moe.js";
import type { Family } from "../families/family.js";
import { gptOss } from "../families/gpt_oss.js";
import { graniteMoe } from "../families/granitemoe.js";
import { hunyuanV1Moe } from "../families/hunyuan_v1_moe.js";
import { jamba } from "../families/jamba.js";
import { llama4Text } from "../families/llama4.js";
import { mixtral } from "../families/mixtral.js";
import { olmoe } from "../families/olmoe.js";
import { phimoe } from "../families/phimoe.js";
import { qwen2Moe } from "../families/qwen2_moe.js";
import { qwen3Moe } from "../families/qwen3_moe.js";
import type { GgufFields } from "./fields.js";

/** `expert_gating_func`: llama_expert_gating_func_type of llama.cpp. */
const gatingNames = ["none", "softmax", "sigmoid", "softmax of the chosen"] as const;
type Gating = (typeof gatingNames)[number];

/** A family, and the fields that its config.json would have. */
export interface FamilyFields {
  readonly family: Family;
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * How `general.architecture` names families, and which metadata keys have what their config.json has: the loaders of
 * llama.cpp (src/models). What is not in the metadata is part of an architecture's formula there, as here.
 */
interface Architecture {
  /** The layer is for sizes that differ between layers. */
  read(fields: GgufFields, layer: number): FamilyFields;
}

/** The sizes that all have, by their usual names in config.json. */
function sizes(fields: GgufFields, layer: number): Record<string, number> {
  return {
    hidden_size: fields.integer("embedding_length"),
    num_experts_per_tok: fields.integer("expert_used_count"),
    num_experts: fields.integer("expert_count"),
    intermediate_size: fields.optional("expert_feed_forward_length") ?? fields.ofLayer("feed_forward_length", layer),
  };
}

/** What the metadata may say of a formula that knows only this. */
function checkFormula(fields: GgufFields, gating: Gating, normalized: boolean): void {
  const given = fields.optional("expert_gating_func", 0) ?? 0;
  if (given !== 0 && gatingNames[given] !== gating) {
    throw fields.error("expert_gating_func", `${gatingNames.indexOf(gating)} (${gating})`, given);
  }
  if ((fields.boolean("expert_weights_norm") ?? normalized) !== normalized) {
    throw fields.error("expert_weights_norm", String(normalized), !normalized);
  }
  const scale = fields.number("expert_weights_scale") ?? 1;
  if (scale !== 0 && scale !== 1) throw fields.error("expert_weights_scale", "1", scale);
  const groups = fields.optional("expert_group_count", 0) ?? 1;
  if (groups > 1) throw fields.error("expert_group_count", "1", groups);
}

/** An architecture whose formula the metadata cannot change. */
function fixed(
  family: Family,
  gating: Gating,
  normalized: boolean,
  more: (fields: GgufFields, sizes: Readonly<Record<string, number>>) => Readonly<Record<string, unknown>> = () => ({}),
): Architecture {
  return {
    read(fields, layer) {
      checkFormula(fields, gating, normalized);
      const known = sizes(fields, layer);
      return { family, fields: { ...known, num_local_experts: known.num_experts, ...more(fields, known) } };
    },
  };
}

/** The first llama.cpp files of Qwen have no width of experts: the dense one is that of all experts of a token. */
function qwenWidth(fields: GgufFields, known: Readonly<Record<string, number>>): number {
  const width = fields.optional("expert_feed_forward_length");
  return width ?? Math.floor((known.intermediate_size as number) / (known.num_experts_per_tok as number));
}

const qwen2: Architecture = fixed(qwen2Moe, "softmax", false, (fields, known) => ({
  moe_intermediate_size: qwenWidth(fields, known),
  shared_expert_intermediate_size:
    fields.optional("expert_shared_feed_forward_length") ?? fields.integer("feed_forward_length"),
  norm_topk_prob: false,
}));

const qwen3: Architecture = fixed(qwen3Moe, "softmax", true, (fields, known) => ({
  moe_intermediate_size: qwenWidth(fields, known),
  norm_topk_prob: true,
}));

/** The sizes, groups and normalisation of DeepSeek's families. */
function deepseekFields(fields: GgufFields, layer: number): Record<string, unknown> {
  const { intermediate_size: _, ...known } = sizes(fields, layer);
  const scale = fields.number("expert_weights_scale") ?? 0;
  return {
    ...known,
    n_routed_experts: known.num_experts,
    moe_intermediate_size: fields.integer("expert_feed_forward_length"),
    n_shared_experts: fields.optional("expert_shared_count", 0) ?? 0,
    n_group: fields.optional("expert_group_count", 0) || 1,
    topk_group: fields.optional("expert_group_used_count", 0) || 1,
    norm_topk_prob: fields.boolean("expert_weights_norm") ?? false,
    routed_scaling_factor: scale === 0 ? 1 : scale,
  };
}

/** DeepSeek-V2 with softmax, which is what files of that time do not say, and V3, R1 and Kimi K2 with a sigmoid. */
const deepseek2: Architecture = {
  read(fields, layer) {
    const gating = fields.optional("expert_gating_func", 0) || 1;
    const known = deepseekFields(fields, layer);
    if (gatingNames[gating] === "sigmoid") return { family: deepseekV3, fields: known };
    if (gatingNames[gating] !== "softmax")
      throw fields.error("expert_gating_func", "1 (softmax) or 2 (sigmoid)", gating);
    if (known.norm_topk_prob && known.routed_scaling_factor !== 1) {
      // DeepSeek's own code does one or the other, llama.cpp both.
      throw fields.error("expert_weights_scale", "1 beside expert_weights_norm", known.routed_scaling_factor);
    }
    const method = (known.n_group as number) > 1 ? "group_limited_greedy" : "greedy";
    return { family: deepseekV2, fields: { ...known, topk_method: method } };
  },
};

const glm4: Architecture = {
  read(fields, layer) {
    const gating = fields.optional("expert_gating_func", 0) || 2;
    if (gatingNames[gating] !== "sigmoid") throw fields.error("expert_gating_func", "2 (sigmoid)", gating);
    return { family: glm4Moe, fields: deepseekFields(fields, layer) };
  },
};

const ernie: Architecture = fixed(ernie45Moe, "softmax", true, (fields, known) => ({
  moe_intermediate_size: known.intermediate_size,
  moe_num_experts: known.num_experts,
  moe_k: known.num_experts_per_tok,
  moe_num_shared_experts: fields.optional("expert_shared_count", 0) ?? 0,
}));

const hunyuan: Architecture = fixed(hunyuanV1Moe, "softmax", true, (fields, known) => {
  const width = known.intermediate_size as number;
  const shared = fields.optional("expert_shared_feed_forward_length") ?? fields.integer("feed_forward_length");
  if (shared % width !== 0) throw fields.error("expert_shared_feed_forward_length", `a multiple of ${width}`, shared);
  return { moe_intermediate_size: width, moe_topk: known.num_experts_per_tok, num_shared_expert: shared / width };
});

const dbrxMoe: Architecture = fixed(dbrx, "softmax", true, (_fields, known) => ({
  d_model: known.hidden_size,
  ffn_config: {
    ffn_hidden_size: known.intermediate_size,
    moe_num_experts: known.num_experts,
    moe_top_k: known.num_experts_per_tok,
  },
}));

const granite: Architecture = fixed(graniteMoe, "softmax", true, (fields) => {
  const shared = fields.optional("expert_shared_feed_forward_length", 0) ?? 0;
  if (shared > 0) throw fields.error("expert_shared_feed_forward_length", "none: shared experts of Granite", shared);
  return {};
});

const architectures: ReadonlyMap<string, Architecture> = new Map([
  ["llama", fixed(mixtral, "softmax", true)],
  ["qwen2moe", qwen2],
  ["qwen3moe", qwen3],
  ["olmoe", fixed(olmoe, "softmax", false, () => ({ norm_topk_prob: false }))],
  ["deepseek2", deepseek2],
  ["glm4moe", glm4],
  ["gpt-oss", fixed(gptOss, "softmax of the chosen", false)],
  ["llama4", fixed(llama4Text, "sigmoid", false)],
  ["phimoe", fixed(phimoe, "softmax", true)],
  ["dbrx", dbrxMoe],
  ["jamba", fixed(jamba, "softmax", false)],
  ["granitemoe", granite],
  ["ernie4_5-moe", ernie],
  ["hunyuan-moe", hunyuan],
]);

/** Finds an architecture. @throws BAD_CHECKPOINT naming those that are known. */
export function architectureOf(path: string, name: unknown): Architecture {
  const found = typeof name === "string" ? architectures.get(name) : undefined;
  if (found !== undefined) return found;
  const known = [...architectures.keys()].join(", ");
  const got = typeof name === "string" ? JSON.stringify(name) : "none";
  throw badCheckpoint(path, `general.architecture: expected one of ${known}, got ${got}`);
}
