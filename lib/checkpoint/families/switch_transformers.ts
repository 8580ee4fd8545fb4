import type { ConfigFields } from "../config_fields.js";
import { encoderDecoder, type Place } from "./encoder_decoder.js";
import { type Family, layerCount, plainActivation } from "./family.js";

const encoderLayers = layerCount(12, "num_layers");
const decoderLayers: Family["layerCount"] = (fields) =>
  fields.isNull("num_decoder_layers") ? encoderLayers(fields) : layerCount(12, "num_decoder_layers")(fields);

const { place, ...layers } = encoderDecoder(
  encoderLayers,
  decoderLayers,
  ({ stack, index }) => `${stack}.block.${index}.layer.${stack === "encoder" ? 1 : 2}.mlp`,
);

/**
 * Switch Transformers: SwitchTransformersConfig, Top1Router and SparseMLP of Transformers. One expert per token,
 * weighted by its probability; in each sequence an expert takes the first `expert_capacity` tokens that chose it.
 */
export const switchTransformers: Family = {
  modelType: "switch_transformers",
  ...layers,
  hasExperts: (fields, layer) => {
    const { stack, index } = place(fields, layer);
    const step = sparseStep(fields, stack);
    return step > 0 && (step === 1 || index % step === 1);
  },
  config: (fields) => ({
    hiddenSize: fields.integer("d_model", 768, { alias: "hidden_size" }),
    intermediateSize: fields.integer("d_ff", 2048),
    numExperts: fields.integer("num_experts", 8),
    topK: 1,
    capacity: { tokens: fields.integer("expert_capacity", 64, { minimum: 0 }), per: "sequence" },
    activation: plainActivation(fields, "dense_act_fn"),
  }),
  tensors: (block, fields) => [
    {
      router: { name: `${block}.router.classifier.weight` },
      ...(fields.boolean("router_bias", false) && { routerBias: { name: `${block}.router.classifier.bias` } }),
      experts: {
        up: { name: `${block}.experts.expert_{e}.wi.weight` },
        down: { name: `${block}.experts.expert_{e}.wo.weight` },
      },
    },
  ],
};

/**
 * One layer in this many has experts; 0: none. Saved configurations store the step itself, which takes precedence over
 * the layer counts it was computed from.
 */
function sparseStep(fields: ConfigFields, stack: Place["stack"]): number {
  const count = (stack === "encoder" ? encoderLayers : decoderLayers)(fields);
  const sparse = fields.integer(`num_sparse_${stack}_layers`, 3, { minimum: 0 });
  // Transformers calls this a hack to get no sparse layers, but it still gives the second layer experts.
  const step = sparse === 0 ? count : Math.floor(count / sparse);
  return fields.integer(`${stack}_sparse_step`, step, { minimum: 0 });
}
