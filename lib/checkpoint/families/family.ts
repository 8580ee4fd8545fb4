import type { Activation } from "../../backend.js";
import type { MoeLayerConfig } from "../../layer/config.js";
import type { ExpertWeights } from "../../layer/expert_weights.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { ConfigFields } from "../config_fields.js";
import type { LayerTensors, NamedWeight } from "../locate.js";

/** What one kind of Hugging Face checkpoints says and where it keeps its experts. */
export interface Family {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** How many layers the model has, with experts and without. */
  layerCount(fields: ConfigFields): number;
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

/** `hidden_act` as Transformers names it, for experts that compute down(act(gate x) * up x). */
const gatedActivations: ReadonlyMap<string, Activation> = new Map([
  ["silu", "swiglu"],
  ["swish", "swiglu"],
  ["gelu", "geglu"],
  ["gelu_new", "geglu_tanh"],
  ["gelu_fast", "geglu_tanh"],
  ["gelu_pytorch_tanh", "geglu_tanh"],
]);

/** The activation of gated experts, from `hidden_act`. */
export function gatedActivation(fields: ConfigFields, fallback = "silu", field = "hidden_act"): Activation {
  return fields.choice(field, fallback, gatedActivations);
}

/** The names of the three matrices of a gated expert whose names begin with `expert`. */
export function gatedExpert(
  expert: string,
  [gate, up, down] = ["gate_proj", "up_proj", "down_proj"],
): ExpertWeights<NamedWeight> {
  return {
    gate: { name: `${expert}.${gate}.weight` },
    up: { name: `${expert}.${up}.weight` },
    down: { name: `${expert}.${down}.weight` },
  };
}

/** The experts that Transformers 5 keeps in two tensors, gate rows before up rows. */
export function stackedExperts(experts: string): ExpertWeights<NamedWeight> {
  const gateUp = { name: `${experts}.gate_up_proj`, stacked: "dim0" } as const;
  return {
    gate: { ...gateUp, part: "first_half" },
    up: { ...gateUp, part: "second_half" },
    down: { name: `${experts}.down_proj`, stacked: "dim0" },
  };
}

/**
 * The storages of most families, for an MoE block whose names begin with `block`, such as `model.layers.0.mlp`: a tensor for
 * every expert's matrix, or those of Transformers 5. `more` is what there is besides router and experts.
 */
export function blockTensors(block: string, more: Partial<LayerTensors> = {}): readonly LayerTensors[] {
  const router = { name: `${block}.gate.weight` };
  return [
    { router, experts: gatedExpert(`${block}.experts.{e}`), ...more },
    { router, experts: stackedExperts(`${block}.experts`), ...more },
  ];
}

/** Refuses a value that the family's formula here does not cover, unless it is the one that is. */
export function requireValue(
  fields: ConfigFields,
  name: string,
  expected: unknown,
  fallback: unknown = expected,
): void {
  const value = fields.value(name) ?? fallback;
  if (value === expected) return;
  throw badCheckpoint(fields.path, `${name}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(value)}`);
}
