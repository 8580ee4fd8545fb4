import type { Activation } from "../../backend.js";
import type { MoeLayerConfig } from "../../layer/config.js";
import type { ConfigFields } from "../config_fields.js";
import type { LayerTensors } from "../weights.js";

/** What one `model_type` of Hugging Face checkpoints says and where it keeps its experts. */
export interface Family {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** `num_hidden_layers` where config.json has none. */
  readonly defaultLayers: number;
  /** Sizes and formula of the model's MoE layers. */
  config(fields: ConfigFields): MoeLayerConfig;
  /** Whether decoder layer `layer` has experts; absent where all have. */
  hasExperts?(fields: ConfigFields, layer: number): boolean;
  /** The tensors of the decoder layer whose tensors' names begin with `prefix`, such as `model.layers.0`. */
  tensors(prefix: string): LayerTensors;
}

/** `hidden_act` as Transformers names it, for experts that compute down(act(gate x) * up x). */
const gatedActivations: ReadonlyMap<string, Activation> = new Map([
  ["silu", "swiglu"],
  ["swish", "swiglu"],
  ["gelu", "geglu"],
  ["gelu_new", "geglu_tanh"],
  ["gelu_pytorch_tanh", "geglu_tanh"],
]);

/** The activation of gated experts, from `hidden_act`. */
export function gatedActivation(fields: ConfigFields): Activation {
  return fields.choice("hidden_act", "silu", gatedActivations);
}

/** The names that most families give the tensors of an MoE block, such as `model.layers.0.mlp`. */
export function blockTensors(block: string): LayerTensors {
  return {
    router: `${block}.gate.weight`,
    gate: `${block}.experts.{e}.gate_proj.weight`,
    up: `${block}.experts.{e}.up_proj.weight`,
    down: `${block}.experts.{e}.down_proj.weight`,
  };
}
