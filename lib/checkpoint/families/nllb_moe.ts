import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { ConfigFields } from "../config_fields.js";
import { encoderDecoder } from "./encoder_decoder.js";
import { type Family, layerCount, plainActivation } from "./family.js";

const { place, ...layers } = encoderDecoder(
  layerCount(12, "encoder_layers"),
  layerCount(12, "decoder_layers"),
  ({ stack, index }) => `model.${stack}.layers.${index}.ffn`,
);

/** The smallest sum that NllbMoeTop2Router divides by: float32's epsilon. */
const epsilon = 2 ** -23;

/**
 * NLLB-MoE: NllbMoeConfig, NllbMoeTop2Router and NllbMoeSparseMLP of Transformers, in evaluation. Two experts,
 * renormalised; an expert takes at most `moe_eval_capacity_token_fraction` of the tokens. `moe_token_dropout` scales
 * every expert's output.
 */
export const nllbMoe: Family = {
  modelType: "nllb-moe",
  ...layers,
  hasExperts: (fields, layer) => {
    const { stack, index } = place(fields, layer);
    const step = fields.integer(`${stack}_sparse_step`, 4, { minimum: 0 });
    return step > 0 && (index + 1) % step === 0;
  },
  config: (fields, layer) => {
    fields.require("second_expert_policy", "all");
    const { stack } = place(fields, layer);
    const numExperts = fields.integer("num_experts", 128);
    return {
      hiddenSize: fields.integer("d_model", 1024, { alias: "hidden_size" }),
      intermediateSize: fields.integer(`${stack}_ffn_dim`, 4096),
      numExperts,
      topK: 2,
      activation: plainActivation(fields, "activation_function"),
      ...readRouting(fields, numExperts),
    };
  },
  tensors: (block, fields) => {
    const expert = `${block}.experts.expert_{e}`;
    return [
      {
        router: { name: `${block}.router.classifier.weight` },
        ...(fields.boolean("router_bias", false) && { routerBias: { name: `${block}.router.classifier.bias` } }),
        experts: {
          up: { name: `${expert}.fc1.weight` },
          down: { name: `${expert}.fc2.weight` },
          upBias: { name: `${expert}.fc1.bias` },
          downBias: { name: `${expert}.fc2.bias` },
        },
      },
    ];
  },
};

/** The two probabilities are divided by their sum, taken before or after tokens are dropped. */
function readRouting(
  fields: ConfigFields,
  numExperts: number,
): Pick<MoeLayerConfig, "normalize" | "scale" | "capacity"> {
  const scale = 1 - Math.max(fields.number("moe_token_dropout", 0.2), 0);
  const fraction = fields.number("moe_eval_capacity_token_fraction", 1);
  if (fraction >= 1) return { normalize: { by: "clamped_sum", epsilon }, scale };
  const size = fraction > 0 ? { factor: (fraction * numExperts) / 2 } : { tokens: readCapacity(fields) };
  const drop = fields.boolean("batch_prioritized_routing", false) ? "prioritized" : "position";
  const by = fields.boolean("normalize_router_prob_before_dropping", false) ? "chosen" : "kept";
  return { capacity: { ...size, drop, renormalize: { by, scale } } };
}

/** Refuses null, which makes the capacity depend on the tokens in another way. */
function readCapacity(fields: ConfigFields): number {
  return fields.integer("expert_capacity", fields.isNull("expert_capacity") ? undefined : 64);
}
