import type { ConfigFields } from "../config_fields.js";
import type { LayerTensors, NamedWeight } from "../locate/locate_layer.js";
import { type Family, gatedActivation, isListedSparse, layerCount, stackedExperts } from "./family.js";

/**
 * Inkling: InklingTextConfig and InklingMoE of Transformers. Its router has logits of the shared experts, too, which every token
 * has: the weights are the sigmoids of these and of the chosen ones, divided by the sum of all. Hence they are the layer's last
 * experts, with a bias that always chooses them. A factor for all weights is a tensor.
 */
export const inkling: Family = {
  modelType: "inkling_text",
  layerCount: layerCount(66),
  hasExperts: (fields, layer) =>
    isListedSparse(fields, layer) ?? layer >= fields.integer("dense_mlp_idx", 0, { minimum: 0 }),
  config: (fields) => {
    fields.require("gate_activation", "sigmoid");
    for (const name of ["norm_after_topk", "shared_expert_sink", "use_gate_bias", "use_global_scale"]) {
      fields.require(name, true);
    }
    const [routed, shared] = counts(fields);
    return {
      hiddenSize: fields.integer("hidden_size", 6144),
      intermediateSize: width(fields),
      numExperts: routed + shared,
      topK: fields.integer("num_experts_per_tok", 6) + shared,
      scoring: "sigmoid",
      normalize: true,
      scale: fields.number("route_scale", 8),
      perExpertScale: true,
      activation: gatedActivation(fields),
    };
  },
  tensors: (prefix, fields) => {
    const published = `${prefix.replace(/(^|\.)layers\./, "$1llm.layers.")}.mlp`;
    const transformers = `${prefix}.mlp`;
    const stack = (name: string) => ({ name, stacked: "dim0" }) as const;
    const interleaved = (module: string) => {
      const both = stack(`${module}w13_weight`);
      return {
        gate: { ...both, part: "even" },
        up: { ...both, part: "odd" },
        down: stack(`${module}w2_weight`),
      } as const;
    };
    return [
      {
        ...router(published, "bias", fields),
        experts: interleaved(`${published}.experts.`),
        lastExperts: { count: counts(fields)[1], weights: interleaved(`${published}.shared_experts.shared_`) },
      },
      {
        ...router(transformers, "e_score_correction_bias", fields),
        experts: stackedExperts(`${transformers}.experts`),
        lastExperts: {
          count: counts(fields)[1],
          weights: {
            gate: stack(`${transformers}.shared_experts.gate_proj`),
            up: stack(`${transformers}.shared_experts.up_proj`),
            down: stack(`${transformers}.shared_experts.down_proj`),
          },
        },
      },
    ];
  },
};

function router(
  block: string,
  bias: string,
  fields: ConfigFields,
): Pick<LayerTensors, "router" | "selectionBias" | "expertScale"> {
  return {
    router: { name: `${block}.gate.weight` },
    ...inklingVectors({ name: `${block}.gate.${bias}` }, { name: `${block}.gate.global_scale` }, counts(fields)[0]),
  };
}

/** The vectors of all experts, of tensors that have the bias of the routed ones and one factor. */
export function inklingVectors(
  bias: NamedWeight,
  factor: NamedWeight,
  routed: number,
): Pick<LayerTensors, "selectionBias" | "expertScale"> {
  return {
    selectionBias: { ...bias, first: { count: routed, others: always } },
    expertScale: { ...factor, first: { count: 1, others: "the last" } },
  };
}

/** A bias that no sigmoid with another bias reaches. */
const always = 2 ** 100;

/** How many experts are routed, and how many every token has. */
function counts(fields: ConfigFields): readonly [number, number] {
  return [
    fields.integer("n_routed_experts", 256, { alias: "num_local_experts" }),
    fields.integer("n_shared_experts", 2),
  ];
}

/** Published files call the width of a dense block something else, and classes of Transformers that of an expert. */
function width(fields: ConfigFields): number {
  if (fields.has("dense_intermediate_size") && !fields.has("moe_intermediate_size")) {
    return fields.integer("intermediate_size", undefined);
  }
  return fields.integer("moe_intermediate_size", 3072);
}
