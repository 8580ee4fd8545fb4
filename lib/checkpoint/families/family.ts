import type { Activation } from "../../core/layer/activation.js";
import type { MoeLayerConfig, SharedExpertConfig } from "../../layer/description/config.js";
import type { ExpertWeights } from "../../layer/weights/expert_weights.js";
import type { Orient } from "../../layer/weights/weight_layout.js";
import type { ConfigFields } from "../config_fields.js";
import type { LayerTensors, NamedWeight } from "../locate/locate_layer.js";
import type { LayerTensorNames } from "../tensor_names.js";

/** How one family of Hugging Face checkpoints describes its layers and names their tensors; see {@link registerFamily}. */
export interface ModelFamily {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** The class in config.json's `architectures`, for families that `model_type` does not identify. */
  readonly architecture?: string | undefined;
  /** Whether a config.json without a `model_type` is the family's; absent if there are none. */
  recognizes?(fields: ConfigFields): boolean;
  /** The number of layers, dense ones included; at most 4096. */
  layerCount(fields: ConfigFields): number;
  /** How layers are numbered, for errors; absent for plain decoders. */
  readonly numbering?: string | undefined;
  /** Whether layer `layer` has experts; absent if all layers do. */
  hasExperts?(fields: ConfigFields, layer: number): boolean;
  /** The sizes and formula of an MoE layer. */
  config(fields: ConfigFields, layer: number): MoeLayerConfig;
  /** The prefix of a layer's tensor names; by default `model.layers.N`. */
  prefix?(fields: ConfigFields, layer: number): string;
  /** A layer's tensors in each of the family's storage schemes, the most common first. */
  tensors(prefix: string, fields: ConfigFields, layer: number): readonly LayerTensorNames[];
}

/** A family whose tensors have been read. */
export interface Family extends ModelFamily {
  tensors(prefix: string, fields: ConfigFields, layer: number): readonly LayerTensors[];
}

/** Far above any model; keeps a broken configuration from producing an endless list. */
export const maximumLayers = 4096;

/** Reads the number of layers from `field`; most families use the default. */
export function layerCount(fallback: number | undefined, field = "num_hidden_layers"): Family["layerCount"] {
  return (fields) => fields.integer(field, fallback, { maximum: maximumLayers });
}

/** Whether `mlp_layer_types` says that a layer has experts; undefined if there is no such list. */
export function isListedSparse(fields: ConfigFields, layer: number): boolean | undefined {
  const types = fields.value("mlp_layer_types");
  return Array.isArray(types) ? types[layer] === "sparse" : undefined;
}

/** Experts on a projection of the tokens, if a field says how wide that is; null and an absent one say that there is none. */
export function latentTokens(
  fields: ConfigFields,
  field: string,
  norm?: NonNullable<MoeLayerConfig["latent"]>["norm"],
): Pick<MoeLayerConfig, "latent"> {
  if (!fields.has(field)) return {};
  const size = fields.integer(field, undefined);
  return { latent: { size, ...(norm && { norm }) } };
}

/** Transformers' activation names for experts that compute down(act(up x)). */
const plainActivations: ReadonlyMap<string, Activation> = new Map([
  ["relu", "relu"],
  ["relu2", "relu2"],
  ["gelu", "gelu"],
  ["gelu_new", "gelu_tanh"],
  ["gelu_fast", "gelu_tanh"],
  ["gelu_pytorch_tanh", "gelu_tanh"],
  ["silu", "silu"],
  ["swish", "silu"],
]);

/** The same for down(act(gate x) * up x). */
const gatedActivations: ReadonlyMap<string, Activation> = new Map([
  ["silu", "swiglu"],
  ["swish", "swiglu"],
  ["gelu", "geglu"],
  ["gelu_new", "geglu_tanh"],
  ["gelu_fast", "geglu_tanh"],
  ["gelu_pytorch_tanh", "geglu_tanh"],
  ["relu", "reglu"],
]);

/** What fields may call the scores of experts. */
export const scoreNames = new Map([
  ["sigmoid", "sigmoid"],
  ["softmax", "softmax"],
] as const);

export function plainActivation(fields: ConfigFields, field: string, fallback = "relu"): Activation {
  return fields.choice(field, fallback, plainActivations);
}

export function gatedActivation(fields: ConfigFields, field = "hidden_act", fallback = "silu"): Activation {
  return fields.choice(field, fallback, gatedActivations);
}

/** Shared experts form one expert of their total width. */
export function sharedExpert(
  count: number,
  width: number,
  more: Pick<SharedExpertConfig, "clamp"> = {},
): Pick<MoeLayerConfig, "sharedExpert"> {
  return count === 0 ? {} : { sharedExpert: { intermediateSize: count * width, ...more } };
}

/** Its tensors, by the name that most families give it. */
export function sharedTensors(block: string, count: number, biases = false): Pick<LayerTensors, "shared"> {
  return count === 0 ? {} : { shared: gatedExpert(`${block}.shared_experts`, undefined, biases) };
}

/** The matrices, and optionally biases, of a gated expert whose tensor names begin with `expert`. */
export function gatedExpert(
  expert: string,
  [gate, up, down] = ["gate_proj", "up_proj", "down_proj"],
  biases = false,
): ExpertWeights<NamedWeight, NamedWeight> {
  return {
    gate: { name: `${expert}.${gate}.weight` },
    up: { name: `${expert}.${up}.weight` },
    down: { name: `${expert}.${down}.weight` },
    ...(biases && {
      gateBias: { name: `${expert}.${gate}.bias` },
      upBias: { name: `${expert}.${up}.bias` },
      downBias: { name: `${expert}.${down}.bias` },
    }),
  };
}

/** A gated expert whose gate rows are in one tensor with its up rows, before these. */
export function fusedExpert<T extends NamedWeight>(gateUp: T, down: T): ExpertWeights<NamedWeight, NamedWeight> {
  return { gate: { ...gateUp, part: "first_half" }, up: { ...gateUp, part: "second_half" }, down };
}

/** The experts as Transformers 5 stores them: two tensors, with gate rows before up rows. */
export function stackedExperts(experts: string, orient: Orient = "out_in"): ExpertWeights<NamedWeight, NamedWeight> {
  const stack = (name: string) => ({ name: `${experts}.${name}`, stacked: "dim0", orient }) as const;
  return fusedExpert(stack("gate_up_proj"), stack("down_proj"));
}

/**
 * A layer whose experts are stacked, and the same as tools that quantise it take it apart: with the matrices of each expert by
 * themselves.
 * @param others all but the experts, whose tensor names begin with `experts`.
 */
export function stackedOrSingle(
  others: Omit<LayerTensors, "experts">,
  experts: string,
  orient?: Orient,
): readonly [LayerTensors, LayerTensors] {
  return [
    { ...others, experts: stackedExperts(experts, orient) },
    { ...others, experts: gatedExpert(`${experts}.{e}`) },
  ];
}

/**
 * The two storage schemes of most families, for an MoE block whose tensor names begin with `block`, such as
 * `model.layers.0.mlp`: one tensor per matrix, or stacked as in Transformers 5, which has no biases.
 * @param more tensors to add, or to use instead of the router and experts above.
 */
export function blockTensors(
  block: string,
  more: Partial<LayerTensors> = {},
  biases = false,
): readonly [LayerTensors, ...LayerTensors[]] {
  const router = { name: `${block}.gate.weight` };
  const single = { router, experts: gatedExpert(`${block}.experts.{e}`, undefined, biases), ...more };
  return biases ? [single] : [single, { router, experts: stackedExperts(`${block}.experts`), ...more }];
}
