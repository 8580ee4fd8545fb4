import type { ConfigFields } from "../config_fields.js";
import { blockTensors, type Family, gatedActivation, gatedExpert, isListedSparse, layerCount } from "./family.js";

/** The defaults by which Qwen's families differ. */
interface Defaults {
  readonly layers: number;
  readonly intermediateSize: number;
  readonly numExperts: number;
  readonly topK: number;
  readonly normalize: boolean;
  readonly hiddenSize?: number;
  /** The width of the shared expert, which Qwen3-MoE does not have. */
  readonly sharedWidth?: number;
}

/** Softmax over all experts; in some models a shared expert times the sigmoid of its gate. */
export function qwenFamily(modelType: string, { sharedWidth, ...defaults }: Defaults): Family {
  return {
    modelType,
    layerCount: layerCount(defaults.layers),
    config: (fields) => ({
      hiddenSize: fields.integer("hidden_size", defaults.hiddenSize ?? 2048),
      intermediateSize: fields.integer("moe_intermediate_size", defaults.intermediateSize),
      numExperts: fields.integer("num_experts", defaults.numExperts, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", defaults.topK),
      normalize: fields.boolean("norm_topk_prob", defaults.normalize),
      activation: gatedActivation(fields),
      ...(sharedWidth !== undefined && {
        sharedExpert: {
          intermediateSize: fields.integer("shared_expert_intermediate_size", sharedWidth),
          gate: "sigmoid",
        },
      }),
    }),
    hasExperts: isSparseQwenLayer,
    tensors: (prefix) =>
      blockTensors(`${prefix}.mlp`, {
        ...(sharedWidth !== undefined && {
          shared: gatedExpert(`${prefix}.mlp.shared_expert`),
          sharedGate: { name: `${prefix}.mlp.shared_expert_gate.weight` },
        }),
      }),
  };
}

/** Qwen1.5-MoE and Qwen2-MoE: Qwen2MoeConfig and Qwen2MoeSparseMoeBlock of Transformers. */
export const qwen2Moe = qwenFamily("qwen2_moe", {
  layers: 24,
  intermediateSize: 1408,
  numExperts: 60,
  topK: 4,
  normalize: false,
  sharedWidth: 5632,
});

const nextDefaults = { intermediateSize: 512, normalize: true, sharedWidth: 512 } as const;

/** Qwen3-Next: Qwen3NextConfig. */
export const qwen3Next = qwenFamily("qwen3_next", { ...nextDefaults, layers: 48, numExperts: 512, topK: 10 });

/** The text model of Qwen3.5: Qwen3_5MoeTextConfig, which always normalises. */
export const qwen35Moe = qwenFamily("qwen3_5_moe_text", { ...nextDefaults, layers: 40, numExperts: 256, topK: 8 });

/** BerryLM: BerryLMConfig and BerryLMSparseMoeBlock of its authors and vLLM. */
export const berryLm = qwenFamily("berrylm", { ...nextDefaults, layers: 40, numExperts: 128, topK: 8 });

const expDefaults = { ...nextDefaults, layers: 40, numExperts: 512, topK: 10 } as const;

/** The text model of Qwen4-Exp: Qwen4ExpTextConfig. */
export const qwen4Exp = qwenFamily("qwen4_exp_text", expDefaults);

/** Qwen4-Exp by the name that it had before, as Qwen3.8-Flash-Next, which vLLM and published checkpoints still have. */
export const qwen38FlashNext = qwenFamily("qwen3_8_flash_next_text", expDefaults);

/** Layers listed in `mlp_only_layers` or skipped by `decoder_sparse_step` are dense; `mlp_layer_types` replaces both. */
export function isSparseQwenLayer(fields: ConfigFields, layer: number): boolean {
  const listed = isListedSparse(fields, layer);
  if (listed !== undefined) return listed;
  const step = fields.integer("decoder_sparse_step", 1);
  return !fields.integers("mlp_only_layers", []).includes(layer) && (layer + 1) % step === 0;
}
