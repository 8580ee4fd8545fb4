import type { Activation } from "../../core/backend.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { ExpertWeights } from "../../layer/weights/expert_weights.js";
import type { ConfigFields } from "../config_fields.js";
import type { LayerTensors, NamedWeight } from "../locate.js";

/** What one kind of Hugging Face checkpoints says and where it keeps its experts. */
export interface Family {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** The class in config.json's `architectures`, where that and not `model_type` tells the family. */
  readonly architecture?: string;
  /** How many layers the model has, with experts and without. */
  layerCount(fields: ConfigFields): number;
  /** What layers are numbered, for errors, where it is not plainly a decoder's. */
  readonly numbering?: string;
  /** Whether layer `layer` has experts; absent where all have. */
  hasExperts?(fields: ConfigFields, layer: number): boolean;
  /** Sizes and formula of an MoE layer. */
  config(fields: ConfigFields, layer: number): MoeLayerConfig;
  /** What the names of a layer's tensors begin with; by default `model.layers.N`. */
  prefix?(fields: ConfigFields, layer: number): string;
  /** The tensors of a layer in every storage that checkpoints of the family have, the most usual first. */
  tensors(prefix: string, fields: ConfigFields, layer: number): readonly LayerTensors[];
}

/** Far above any model, so that a broken config.json cannot make an error list without end. */
const maximumLayers = 100_000;

/** The number of layers in the field that most families have. */
export function layerCount(fallback: number, field = "num_hidden_layers"): Family["layerCount"] {
  return (fields) => fields.integer(field, fallback, { maximum: maximumLayers });
}

/** Activations as Transformers names them, where an expert is down(act(up x)). */
const plainActivations: ReadonlyMap<string, Activation> = new Map([
  ["relu", "relu"],
  ["gelu", "gelu"],
  ["gelu_new", "gelu_tanh"],
  ["gelu_fast", "gelu_tanh"],
  ["gelu_pytorch_tanh", "gelu_tanh"],
  ["silu", "silu"],
  ["swish", "silu"],
]);

/** The same where it is down(act(gate x) * up x). */
const gatedActivations: ReadonlyMap<string, Activation> = new Map([
  ["silu", "swiglu"],
  ["swish", "swiglu"],
  ["gelu", "geglu"],
  ["gelu_new", "geglu_tanh"],
  ["gelu_fast", "geglu_tanh"],
  ["gelu_pytorch_tanh", "geglu_tanh"],
]);

export function plainActivation(fields: ConfigFields, field: string): Activation {
  return fields.choice(field, "relu", plainActivations);
}

export function gatedActivation(fields: ConfigFields, field = "hidden_act"): Activation {
  return fields.choice(field, "silu", gatedActivations);
}

/** The matrices of a gated expert, and its biases where it has them, whose names begin with `expert`. */
export function gatedExpert(
  expert: string,
  [gate, up, down] = ["gate_proj", "up_proj", "down_proj"],
  biases = false,
): ExpertWeights<NamedWeight> {
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

/** The experts that Transformers 5 keeps in two tensors, gate rows before up rows. */
function stackedExperts(experts: string): ExpertWeights<NamedWeight> {
  const gateUp = { name: `${experts}.gate_up_proj`, stacked: "dim0" } as const;
  return {
    gate: { ...gateUp, part: "first_half" },
    up: { ...gateUp, part: "second_half" },
    down: { name: `${experts}.down_proj`, stacked: "dim0" },
  };
}

/**
 * The storages of most families, for an MoE block whose names begin with `block`, such as `model.layers.0.mlp`: a tensor
 * for every matrix, or those of Transformers 5, which have no biases.
 * @param more what there is besides router and experts, or in place of them.
 */
export function blockTensors(block: string, more: Partial<LayerTensors> = {}, biases = false): readonly LayerTensors[] {
  const router = { name: `${block}.gate.weight` };
  const single = { router, experts: gatedExpert(`${block}.experts.{e}`, undefined, biases), ...more };
  return biases ? [single] : [single, { router, experts: stackedExperts(`${block}.experts`), ...more }];
}
