import type { Family } from "../families/family.js";
import type { Adjugate } from "../families/grove_moe.js";
import type { GgufFields } from "./fields.js";

/** `expert_gating_func`: llama_expert_gating_func_type of llama.cpp. */
export const gatingNames = ["none", "softmax", "sigmoid", "softmax of the chosen", "sqrt_softplus"] as const;
export type Gating = (typeof gatingNames)[number];

/** A family, and the fields that its config.json would have. */
export interface FamilyFields {
  readonly family: Pick<Family, "modelType" | "config">;
  readonly fields: Readonly<Record<string, unknown>>;
  /** Multiplies the shared expert's last matrix; default 1. */
  readonly sharedFactor?: number;
  /**
   * Whether experts are always chosen with a bias, as the authors' code does or llama.cpp demands: a file without it would be another
   * model. Default: if there is one.
   */
  readonly alwaysBiased?: boolean;
  /** How many shared experts the router weighs, as the layer's last ones. */
  readonly weighedShared?: number;
  /** The experts that neighbouring ones share. */
  readonly adjugate?: Adjugate;
}

/** What of a layer's formula its tensors tell. */
export interface LayerFacts {
  /** Whether it has a bias for the choice of experts. */
  readonly hasBias: boolean;
  /** How many token ids have experts in a table; undefined if there is none. */
  readonly tableRows: number | undefined;
  /** Whether it has a norm of the sum of experts that work on a projection of the tokens. */
  readonly hasLatentNorm: boolean;
}

/**
 * How `general.architecture` names families, and which metadata keys have what their config.json has: the loaders of
 * llama.cpp (src/models). What is not in the metadata is part of an architecture's formula there, as here.
 */
export interface Architecture {
  /** Names of a dense block that works beside the experts and is no part of the layer; absent if there is none. */
  readonly denseBlock?: "ffn_up" | "ffn_up_shexp";
  /** Whether files may have another bias for the choice of experts, for tokens of images. */
  readonly imageBias?: true;
  /** The layer is for sizes that differ between layers. */
  read(fields: GgufFields, layer: number, facts: LayerFacts): FamilyFields;
}

/** The sizes that all have, by their usual names in config.json. */
export function sizes(fields: GgufFields, layer: number): Record<string, number> {
  return {
    hidden_size: fields.integer("embedding_length"),
    num_experts_per_tok: fields.integer("expert_used_count"),
    num_experts: fields.integer("expert_count"),
    intermediate_size: expertWidth(fields, layer),
  };
}

export function expertWidth(fields: GgufFields, layer: number): number {
  return fields.optional("expert_feed_forward_length") ?? fields.ofLayer("feed_forward_length", layer);
}

/** Files may leave out how scores are made; otherwise it must be this. */
export function checkGating(fields: GgufFields, gating: Gating): void {
  const given = fields.optional("expert_gating_func");
  if (given !== undefined && gatingNames[given] !== gating) {
    throw fields.error("expert_gating_func", `${gatingNames.indexOf(gating)} (${gating})`, given);
  }
}

/** The factor of the weights; 1 if files do not say it, or have a 0 in its place. */
export function weightsScale(fields: GgufFields): number {
  return fields.number("expert_weights_scale") || 1;
}

/**
 * What the metadata may say of a formula that knows only this. Files that llama.cpp itself saves have every key, with
 * `false` for a normalisation that the metadata do not decide.
 */
export function checkFormula(fields: GgufFields, gating: Gating, normalized: boolean): void {
  checkGating(fields, gating);
  if (fields.boolean("expert_weights_norm") === true && !normalized) {
    throw fields.error("expert_weights_norm", "false", true);
  }
  const scale = weightsScale(fields);
  if (scale !== 1) throw fields.error("expert_weights_scale", "1", scale);
  const groups = fields.optional("expert_group_count") ?? 1;
  if (groups > 1) throw fields.error("expert_group_count", "1", groups);
}
