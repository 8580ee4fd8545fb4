import { describe } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { bailingMoe } from "../families/bailing_moe.js";
import { cohere2Moe } from "../families/cohere2_moe.js";
import { dbrx } from "../families/dbrx.js";
import { deepseekV2 } from "../families/deepseek_v2.js";
import { deepseekV3, deepseekV32, dots1, glm4Moe, glmMoeDsa } from "../families/deepseek_v3.js";
import { deepseekV4, deepseekV41 } from "../families/deepseek_v4.js";
import { ernie45Moe } from "../families/ernie4_5_moe.js";
import type { Family } from "../families/family.js";
import { gemma4Text } from "../families/gemma4.js";
import { gptOss } from "../families/gpt_oss.js";
import { graniteMoe, graniteMoeShared } from "../families/granitemoe.js";
import { hunyuanV1Moe } from "../families/hunyuan_v1_moe.js";
import { jamba } from "../families/jamba.js";
import { lfm2Moe } from "../families/lfm2_moe.js";
import { llama4Text } from "../families/llama4.js";
import { longcatFlashNgram } from "../families/longcat_flash.js";
import { minimax } from "../families/minimax.js";
import { minimaxM2 } from "../families/minimax_m2.js";
import { mixtral } from "../families/mixtral.js";
import { nemotronH } from "../families/nemotron_h.js";
import { olmoe } from "../families/olmoe.js";
import { phimoe } from "../families/phimoe.js";
import { qwen2Moe, qwen3Next, qwen4Exp, qwen35Moe } from "../families/qwen2_moe.js";
import { qwen3Moe } from "../families/qwen3_moe.js";
import { smallThinker } from "../families/smallthinker.js";
import { unknownFamily } from "../unknown_family.js";
import {
  type Architecture,
  checkFormula,
  checkGating,
  type Gating,
  gatingNames,
  sizes,
  weightsScale,
} from "./architecture.js";
import { grove, inklingMoe } from "./composed_experts.js";
import type { GgufFields } from "./fields.js";
import { statedArchitectures } from "./stated_formula.js";

/** An architecture whose formula the metadata cannot change. */
function fixed(
  family: Family,
  gating: Gating,
  normalized: boolean,
  more: (
    fields: GgufFields,
    sizes: Readonly<Record<string, number>>,
    layer: number,
  ) => Readonly<Record<string, unknown>> = () => ({}),
): Architecture {
  return {
    read(fields, layer) {
      checkFormula(fields, gating, normalized);
      const known = sizes(fields, layer);
      return { family, fields: { ...known, num_local_experts: known.num_experts, ...more(fields, known, layer) } };
    },
  };
}

/** The first llama.cpp files of Qwen have no width of experts: the dense one is that of all experts of a token. */
function qwenWidth(fields: GgufFields, known: Readonly<Record<string, number>>): number {
  const width = fields.optional("expert_feed_forward_length");
  return width ?? Math.floor((known.intermediate_size as number) / (known.num_experts_per_tok as number));
}

/** The same with a bias for the choice of experts that no file may lack. */
function biased(architecture: Architecture): Architecture {
  return { ...architecture, read: (...given) => ({ ...architecture.read(...given), alwaysBiased: true }) };
}

function qwenWithShared(family: Family, normalized: boolean): Architecture {
  return fixed(family, "softmax", normalized, (fields, known, layer) => ({
    moe_intermediate_size: qwenWidth(fields, known),
    shared_expert_intermediate_size:
      fields.optional("expert_shared_feed_forward_length") ?? fields.ofLayer("feed_forward_length", layer),
    norm_topk_prob: normalized,
  }));
}

const qwen3: Architecture = fixed(qwen3Moe, "softmax", true, (fields, known) => ({
  moe_intermediate_size: qwenWidth(fields, known),
  norm_topk_prob: true,
}));

/** The sizes, groups and normalisation of DeepSeek's families. */
function deepseekFields(fields: GgufFields, layer: number): Record<string, unknown> {
  const { intermediate_size: _, ...known } = sizes(fields, layer);
  return {
    ...known,
    n_routed_experts: known.num_experts,
    moe_intermediate_size: fields.integer("expert_feed_forward_length"),
    n_shared_experts: fields.optional("expert_shared_count") ?? 0,
    n_group: fields.optional("expert_group_count") ?? 1,
    topk_group: fields.optional("expert_group_used_count") ?? 1,
    norm_topk_prob: fields.boolean("expert_weights_norm") ?? false,
    routed_scaling_factor: weightsScale(fields),
  };
}

/**
 * DeepSeek-V2 with softmax, and V3, R1, Kimi K2 and GLM-4.7-Flash with a sigmoid. Files of V2's time and of GLM-4.7-Flash do not
 * say which; only the latter have a bias for the choice.
 */
const deepseek2: Architecture = {
  read(fields, layer, { hasBias }) {
    const gating = fields.optional("expert_gating_func") ?? (hasBias ? 2 : 1);
    const known = deepseekFields(fields, layer);
    if (gatingNames[gating] === "sigmoid") return { family: deepseekV3, fields: known, alwaysBiased: true };
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

/** DeepSeek-V4 and V4.1. What clamps the experts clamps the shared one too, unless files say otherwise. */
const deepseek4 = (family: Family): Architecture => ({
  read(fields, layer, { tableRows }) {
    checkGating(fields, "sqrt_softplus");
    const limit = fields.elementOf("swiglu_clamp_exp", layer) ?? 0;
    const ofShared = fields.elementOf("swiglu_clamp_shexp", layer) ?? limit;
    if (ofShared !== limit) {
      throw fields.error(`swiglu_clamp_shexp[${layer}]`, `${limit}, as swiglu_clamp_exp has`, ofShared);
    }
    return {
      family,
      fields: {
        ...deepseekFields(fields, layer),
        norm_topk_prob: fields.boolean("expert_weights_norm") ?? true,
        num_hash_layers: fields.optional("hash_layer_count") ?? 0,
        swiglu_limit: limit,
        ...(tableRows !== undefined && { vocab_size: tableRows }),
      },
    };
  },
});

/** DeepSeek-V3's formula, whether the file says so or not. */
function deepseekSigmoid(family: Family): Architecture {
  return {
    read(fields, layer) {
      checkGating(fields, "sigmoid");
      return { family, fields: deepseekFields(fields, layer), alwaysBiased: true };
    },
  };
}

/** Ling and Ring, whose shared experts may have a width of their own. */
function bailing(gating: "softmax" | "sigmoid"): Architecture {
  return {
    read(fields, layer) {
      checkGating(fields, gating);
      const known = deepseekFields(fields, layer);
      const shared = fields.optional("expert_shared_feed_forward_length") ?? known.moe_intermediate_size;
      return {
        family: bailingMoe,
        fields: {
          ...known,
          score_function: gating,
          num_shared_experts: known.n_shared_experts,
          moe_shared_expert_intermediate_size: shared,
        },
      };
    },
  };
}

/** Sigmoid with the sizes and the scale that the metadata have; the weights are always renormalised. */
const lfm2: Architecture = fixed(lfm2Moe, "sigmoid", true, (_fields, known) => ({
  moe_intermediate_size: known.intermediate_size,
  norm_topk_prob: true,
  use_expert_bias: false, // the names of the file tell
}));

const nemotron: Architecture = {
  read(fields, layer, facts) {
    const latent = fields.optional("moe_latent_size") ?? fields.optional("expert_latent_length");
    const width = fields.integer("expert_shared_feed_forward_length");
    const { fields: known, ...others } = deepseekSigmoid(nemotronH).read(fields, layer, facts);
    return {
      ...others,
      fields: { ...known, moe_shared_expert_intermediate_size: width, moe_latent_size: latent ?? null },
    };
  },
};

/** How many of the experts a shared expert is as wide as. */
function sharedCount(fields: GgufFields, shared: number, width: number): number {
  if (shared % width === 0) return shared / width;
  throw fields.error("expert_shared_feed_forward_length", `a multiple of ${width}`, shared);
}

/** How many shared experts there are, by their width or their count. */
function sharedExperts(fields: GgufFields, width: number): number {
  const shared = fields.optional("expert_shared_feed_forward_length");
  return shared === undefined ? (fields.optional("expert_shared_count") ?? 0) : sharedCount(fields, shared, width);
}

const ernie: Architecture = fixed(ernie45Moe, "softmax", true, (fields, known) => {
  const width = known.intermediate_size as number;
  return {
    moe_intermediate_size: width,
    moe_num_experts: known.num_experts,
    moe_k: known.num_experts_per_tok,
    moe_num_shared_experts: sharedExperts(fields, width),
  };
});

const hunyuan: Architecture = fixed(hunyuanV1Moe, "softmax", true, (fields, known, layer) => {
  const width = known.intermediate_size as number;
  const shared = fields.optional("expert_shared_feed_forward_length") ?? fields.ofLayer("feed_forward_length", layer);
  const count = sharedCount(fields, shared, width);
  return { moe_intermediate_size: width, moe_topk: known.num_experts_per_tok, num_shared_expert: count };
});

const dbrxMoe: Architecture = fixed(dbrx, "softmax", true, (_fields, known) => ({
  d_model: known.hidden_size,
  ffn_config: {
    ffn_hidden_size: known.intermediate_size,
    moe_num_experts: known.num_experts,
    moe_top_k: known.num_experts_per_tok,
  },
}));

const granite: Architecture = {
  read(fields, layer, facts) {
    const shared = fields.optional("expert_shared_feed_forward_length") ?? 0;
    const more = () => ({ shared_intermediate_size: shared });
    return fixed(shared > 0 ? graniteMoeShared : graniteMoe, "softmax", true, more).read(fields, layer, facts);
  },
};

const gemma4: Architecture = {
  ...fixed(gemma4Text, "softmax", true, (fields, known) => ({
    moe_intermediate_size: fields.integer("expert_feed_forward_length"),
    top_k_experts: known.num_experts_per_tok,
    rms_norm_eps: fields.number("attention.layer_norm_rms_epsilon"),
  })),
  denseBlock: "ffn_up",
};

/** Snowflake Arctic: Mixtral's formula, on tokens that another norm makes than the dense block's. */
const arctic: Architecture = { ...fixed(mixtral, "softmax", true), denseBlock: "ffn_up" };

/** Command A+ as it is published: shared experts are averaged with the sum of the others. */
const cohere2: Architecture = {
  read(fields, layer) {
    checkFormula(fields, "sigmoid", true);
    const { intermediate_size: width, ...known } = sizes(fields, layer);
    const count = sharedExperts(fields, width as number);
    return {
      family: cohere2Moe,
      fields: {
        ...known,
        intermediate_size: width,
        expert_selection_fn: "sigmoid",
        norm_topk_prob: fields.boolean("expert_weights_norm") ?? false,
        num_shared_experts: count,
        shared_expert_combination_strategy: "average",
      },
      ...(count > 0 && { sharedFactor: 0.5 }),
    };
  },
};

/** SmallThinker, of which files say how experts are scored; weights are always renormalised. */
const smallThinkerMoe: Architecture = {
  read(fields, layer) {
    const gating = gatingNames[fields.optional("expert_gating_func") ?? 0];
    if (gating !== "softmax" && gating !== "sigmoid") {
      throw fields.error("expert_gating_func", "1 (softmax) or 2 (sigmoid)", fields.number("expert_gating_func"));
    }
    checkFormula(fields, gating, true);
    const known = sizes(fields, layer);
    return {
      family: smallThinker,
      fields: {
        hidden_size: known.hidden_size,
        moe_ffn_hidden_size: known.intermediate_size,
        moe_num_primary_experts: known.num_experts,
        moe_num_active_primary_experts: known.num_experts_per_tok,
        moe_primary_router_apply_softmax: gating === "softmax",
      },
    };
  },
};

/** LongCat-Flash-Lite. The dense block beside the experts has the names of a shared expert. */
const longcat: Architecture = {
  denseBlock: "ffn_up_shexp",
  read(fields, layer) {
    checkGating(fields, "softmax");
    if (fields.boolean("expert_weights_norm") === true) throw fields.error("expert_weights_norm", "false", true);
    const { intermediate_size: width, num_experts: count, num_experts_per_tok: topK, ...known } = sizes(fields, layer);
    return {
      family: longcatFlashNgram,
      fields: {
        ...known,
        expert_ffn_hidden_size: width,
        n_routed_experts: count,
        zero_expert_num: fields.optional("expert_zero_count") ?? 0,
        moe_topk: topK,
        routed_scaling_factor: weightsScale(fields),
      },
    };
  },
};

const architectures: ReadonlyMap<string, Architecture> = new Map([
  ["llama", fixed(mixtral, "softmax", true)],
  ["qwen2moe", qwenWithShared(qwen2Moe, false)],
  ["qwen3moe", qwen3],
  ["qwen3vlmoe", qwen3],
  ["qwen3next", qwenWithShared(qwen3Next, true)],
  ["qwen35moe", qwenWithShared(qwen35Moe, true)],
  ["qwen4exp", qwenWithShared(qwen4Exp, true)],
  ["olmoe", fixed(olmoe, "softmax", false, () => ({ norm_topk_prob: false }))],
  ["deepseek", deepseek2],
  ["deepseek2", deepseek2],
  ["deepseek2-ocr", deepseek2],
  ["deepseek4", biased(deepseek4(deepseekV4))],
  ["deepseek41", { ...biased(deepseek4(deepseekV41)), imageBias: true }],
  ["deepseek32", deepseekSigmoid(deepseekV32)],
  ["glm4moe", deepseekSigmoid(glm4Moe)],
  ["glm-dsa", deepseekSigmoid(glmMoeDsa)],
  ["dots1", deepseekSigmoid(dots1)],
  ["bailingmoe", bailing("softmax")],
  ["bailingmoe2", bailing("sigmoid")],
  ["minimax-m2", biased(fixed(minimaxM2, "sigmoid", true))],
  ["lfm2moe", biased(lfm2)],
  ["nemotron_h_moe", nemotron],
  ["gpt-oss", fixed(gptOss, "softmax of the chosen", false)],
  ["gemma4", gemma4],
  ["diffusion-gemma", gemma4],
  ["llama4", fixed(llama4Text, "sigmoid", false)],
  ["phimoe", fixed(phimoe, "softmax", true)],
  ["dbrx", dbrxMoe],
  ["jamba", fixed(jamba, "softmax", false)],
  ["granitemoe", granite],
  ["granitehybrid", granite],
  ["ernie4_5-moe", biased(ernie)],
  ["hunyuan-moe", hunyuan],
  ["minimax-01", fixed(minimax, "softmax", true)],
  ["arctic", arctic],
  ["cohere2moe", cohere2],
  ["longcat-flash-ngram", biased(longcat)],
  ["smallthinker", smallThinkerMoe],
  ["grovemoe", grove],
  ["inkling", inklingMoe],
  ...statedArchitectures,
]);

/** Architectures whose layers the formula of a layer cannot express, and why. */
const unsupportedArchitectures: ReadonlyMap<unknown, string> = new Map([
  ["graniteswitch", "its tokens choose adapters of the matrices"],
  ["motif3", "the activation of its experts is a polynomial with coefficients of their own"],
]);

/** The names of those that are known. */
export const architectureNames: readonly string[] = [...architectures.keys()];

/** Finds an architecture. @throws BAD_CHECKPOINT if it is not known, or known and not supported. */
export function architectureOf(path: string, name: unknown): Architecture {
  const found = typeof name === "string" ? architectures.get(name) : undefined;
  if (found !== undefined) return found;
  const reason = unsupportedArchitectures.get(name);
  if (reason !== undefined) {
    throw badCheckpoint(path, `general.architecture: ${describe(name)} is not supported, as ${reason}`);
  }
  const ways = ["MoeLayer.load(path, { config, tensors })"];
  throw badCheckpoint(path, unknownFamily("general.architecture", name, architectureNames, ways));
}
