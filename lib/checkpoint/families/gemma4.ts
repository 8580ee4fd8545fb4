import type { ConfigFields } from "../config_fields.js";
import { type Family, gatedActivation, layerCount, stackedOrSingle } from "./family.js";

/**
 * The experts of Gemma4TextDecoderLayer of Transformers, beside its dense network: Gemma4TextRouter reads the residual, which
 * it normalises, and the experts get another norm of it. Softmax; the weights of the chosen are renormalised, then times the
 * scales of the experts.
 */
function gemma4(modelType: string, own: Pick<Family, "hasExperts" | "prefix">): Family {
  return {
    modelType,
    ...own,
    layerCount: layerCount(30),
    config: (fields) => {
      const hiddenSize = fields.integer("hidden_size", 2304);
      return {
        hiddenSize,
        intermediateSize: fields.integer("moe_intermediate_size", undefined),
        numExperts: fields.integer("num_experts", undefined),
        topK: fields.integer("top_k_experts", undefined),
        normalize: true,
        activation: gatedActivation(fields, "hidden_activation", "gelu_pytorch_tanh"),
        separateRouterInput: true,
        routerNorm: { epsilon: fields.number("rms_norm_eps", 1e-6), scale: hiddenSize ** -0.5 },
        perExpertScale: true,
      };
    },
    tensors: (prefix) => {
      const common = {
        router: { name: `${prefix}.router.proj.weight` },
        routerNormWeight: { name: `${prefix}.router.scale` },
        expertScale: { name: `${prefix}.router.per_expert_scale` },
      };
      return stackedOrSingle(common, `${prefix}.experts`);
    },
  };
}

const hasExperts = (fields: ConfigFields) => fields.boolean("enable_moe_block", false);

/** Gemma 4: Gemma4TextConfig. */
export const gemma4Text = gemma4("gemma4_text", { hasExperts });

/** DiffusionGemma: DiffusionGemmaTextConfig. Its encoder has the weights of its decoder. */
export const diffusionGemmaText = gemma4("diffusion_gemma_text", {
  prefix: (_fields, layer) => `model.decoder.layers.${layer}`,
});
