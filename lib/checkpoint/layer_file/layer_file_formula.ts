import { MoeError } from "../../core/errors.js";
import { activations, type Clamp, type ClampOptions, isClamped } from "../../core/layer/activation.js";
import { groupScores, type Normalization, scorings, weightPlaces } from "../../core/layer/routing_rule.js";
import { sharedGates } from "../../core/layer/shared_gate.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { MoeLayerConfig, SharedExpertConfig } from "../../layer/description/config.js";
import type { CapacitySize } from "../../operators/routing/capacity.js";
import type { Groups, Normalize } from "../../operators/routing/gating_options.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { ConfigFields } from "../config_fields.js";
import type { JsonObject } from "../safetensors/strict_json.js";

/** The contents of a layer file's `config`. */
export interface LayerFormula {
  readonly config: MoeLayerConfig;
  /** Shape of the input and output: [T, H], or [B, S, H] for sequences. */
  readonly shape: Shape;
  /** Whether the file's results are from training, with noise on the logits. */
  readonly training: boolean;
}

type ExpertFormula = Pick<MoeLayerConfig, "activation" | "multiplier" | "outputActivation">;
type RoutingFormula = Pick<MoeLayerConfig, "scoring" | "selectionKey">;

/** The `scoring` with which experts choose the tokens. */
const expertChoice = "expert_choice";

/** The `scoring` that adds noise to the logits in training. */
const noisyTopK = "noisy_softmax_selected";

/** Fields whose string names a formula, and what each string means here. */
const choices = {
  activation: new Map<string, ExpertFormula>([
    ...activations.map((activation) => [activation, { activation }] as const),
    ["swiglu_gate_times_up", { activation: "swiglu", multiplier: true }],
    ["relu_bias_softmax_out", { activation: "relu", outputActivation: "softmax" }],
  ]),
  scoring: new Map<string, RoutingFormula>([
    ...scorings.map((scoring) => [scoring, { scoring }] as const),
    ["sigmoid_selected", { scoring: "sigmoid", selectionKey: "logit" }],
    [noisyTopK, { scoring: "softmax_selected" }],
    [expertChoice, { scoring: "softmax" }],
  ]),
  norm_kind: new Map<string, Exclude<Normalization, "none">>([
    ["sum", "sum"],
    ["sum_plus_eps", "sum_plus_epsilon"],
    ["clamped_sum", "clamped_sum"],
    ["lp", "lp"],
  ]),
  group_score: named(groupScores),
  weight_applied_to: named(weightPlaces),
  capacity_scope: named(["batch", "sequence"] as const),
};

/** The parameters of an activation that are limits. */
const clampFields: Readonly<Record<keyof Clamp, string>> = {
  alpha: "swiglu_alpha",
  limit: "swiglu_limit",
  upLimit: "swiglu_up_limit",
  offset: "swiglu_offset",
};

/**
 * All other fields that are read or do not affect the output. Unknown fields are refused: they may change the formula.
 */
const otherFields: readonly string[] = [
  ...["hidden_size", "intermediate_size", "num_experts", "top_k", "num_tokens", "batch_size", "seq_len"],
  ...["shared_expert", "expert_capacity", "capacity_factor"],
  ...["norm_topk_prob", "norm_eps", "norm_p", "routed_scaling_factor", "n_group", "topk_group"],
  ...Object.values(clampFields),
  ...["router_jitter_noise", "training", "noise_epsilon", "loss_coef"],
];

/**
 * Reads a layer file's `config`.
 * @throws BAD_CHECKPOINT naming what is missing or wrong; UNSUPPORTED_OPERATION for a formula that layers do not
 * support.
 */
export function readFormula(path: string, json: JsonObject): LayerFormula {
  checkKnown(path, json);
  const fields = new ConfigFields(`${path}: config`, json);
  const expert = fields.choice("activation", undefined, choices.activation);
  const routing = fields.choice("scoring", undefined, choices.scoring);
  const shared = fields.section("shared_expert");
  const hiddenSize = fields.integer("hidden_size", undefined);
  const numExperts = fields.integer("num_experts", undefined);
  const capacity = readCapacity(fields);
  const expertsChoose = json.scoring === expertChoice;
  const noisy = json.scoring === noisyTopK;
  return {
    config: {
      hiddenSize,
      intermediateSize: fields.integer("intermediate_size", undefined),
      numExperts,
      topK: expertsChoose ? numExperts : fields.integer("top_k", undefined),
      ...(capacity &&
        (expertsChoose ? { expertChoice: capacity } : { capacity: { ...capacity, per: readScope(fields) } })),
      ...expert,
      ...(isClamped(expert.activation) && { clamp: readClamp(fields) }),
      ...routing,
      ...(noisy && { noisy: { epsilon: fields.number("noise_epsilon", 0.01) } }),
      ...(routing.scoring === "sparsemixer" && { jitter: fields.number("router_jitter_noise", 0.01) }),
      ...(fields.has("n_group") && { groups: readGroups(fields) }),
      normalize: fields.boolean("norm_topk_prob", false) && readNormalize(fields),
      scale: fields.number("routed_scaling_factor", 1),
      ...(fields.has("weight_applied_to") && {
        weightOn: fields.choice("weight_applied_to", undefined, choices.weight_applied_to),
      }),
      ...(shared && { sharedExpert: readSharedExpert(shared, isClamped(expert.activation)) }),
    },
    shape: readShape(fields, hiddenSize),
    training: noisy && fields.boolean("training", false),
  };
}

/** An UNSUPPORTED_OPERATION error about a formula or storage. */
export function unsupported(path: string, problem: string): MoeError {
  return new MoeError("UNSUPPORTED_OPERATION", `${path}: ${problem}; layers cannot compute anything else`);
}

function checkKnown(path: string, json: JsonObject): void {
  for (const [field, value] of Object.entries(json)) {
    const names = Object.hasOwn(choices, field) ? choices[field as keyof typeof choices] : undefined;
    if (names === undefined ? otherFields.includes(field) : typeof value !== "string" || names.has(value)) continue;
    const expected = names
      ? `one of ${[...names.keys()].map((name) => JSON.stringify(name)).join(", ")}`
      : "no such field";
    throw unsupported(path, `config.${field}: expected ${expected}, got ${JSON.stringify(value)}`);
  }
}

function readShape(fields: ConfigFields, hiddenSize: number): Shape {
  const count = fields.integer("num_tokens", undefined, { minimum: 0 });
  if (!fields.has("batch_size")) return [count, hiddenSize];
  const batch = fields.integer("batch_size", undefined);
  const length = fields.integer("seq_len", undefined, { minimum: 0 });
  if (batch * length === count) return [batch, length, hiddenSize];
  throw badCheckpoint(fields.path, `num_tokens: expected batch_size * seq_len = ${batch * length}, got ${count}`);
}

/** `expert_capacity` is the number of tokens that `capacity_factor` yields. */
function readCapacity(fields: ConfigFields): CapacitySize | undefined {
  if (fields.has("expert_capacity")) return { tokens: fields.integer("expert_capacity", undefined, { minimum: 0 }) };
  return fields.has("capacity_factor") ? { factor: fields.number("capacity_factor", undefined) } : undefined;
}

function readScope(fields: ConfigFields): "batch" | "sequence" {
  return fields.choice("capacity_scope", "batch", choices.capacity_scope);
}

/** What the fields say; the rest is the activation's default. A limit of 0 is none. */
function readClamp(fields: ConfigFields): ClampOptions {
  const given = Object.entries(clampFields).filter(([, field]) => fields.has(field));
  const read = (name: string, value: number) =>
    value === 0 && /limit$/i.test(name) ? Number.POSITIVE_INFINITY : value;
  return Object.fromEntries(given.map(([name, field]) => [name, read(name, fields.number(field, undefined))]));
}

function readGroups(fields: ConfigFields): Groups {
  return {
    count: fields.integer("n_group", undefined),
    top: fields.integer("topk_group", undefined),
    score: fields.choice("group_score", "max", choices.group_score),
  };
}

function readNormalize(fields: ConfigFields): true | Normalize {
  const by = fields.choice("norm_kind", "sum", choices.norm_kind);
  if (by === "sum") return true;
  return by === "lp"
    ? { by, power: fields.number("norm_p", undefined) }
    : { by, epsilon: fields.number("norm_eps", undefined) };
}

function readSharedExpert(fields: ConfigFields, clamped: boolean): SharedExpertConfig {
  const clamp = clamped ? readClamp(fields) : {};
  return {
    intermediateSize: fields.integer("intermediate_size", undefined),
    gate: fields.choice("gate", "none", named(sharedGates)),
    ...(Object.keys(clamp).length > 0 && { clamp }),
  };
}

function named<T extends string>(names: readonly T[]): ReadonlyMap<string, T> {
  return new Map(names.map((name) => [name, name]));
}
