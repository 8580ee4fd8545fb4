import type { ConfigFields } from "../config_fields.js";
import { type Family, gatedExpert, isListedSparse, layerCount, sharedExpert, stackedOrSingle } from "./family.js";
import { limitedOutputs } from "./limits.js";

/**
 * Step 3.5 and the text model of Step 3.7: Step3p7TextConfig and Step3p7SparseMoeBlock of Transformers. Sigmoid; experts are
 * chosen by score plus bias, and weighted by their scores, renormalised and scaled; a shared expert. In the last layers
 * SiLU is limited, in the shared expert or in the others.
 */
export const step3p5: Family = {
  modelType: "step3p5",
  layerCount: layerCount(45),
  hasExperts: (fields, layer) => isListedSparse(fields, layer) ?? layersOf(fields)?.includes(layer) ?? layer >= 3,
  config: (fields, layer) => {
    const { experts, shared } = limitedOutputs(fields, layer, "swiglu_limits", "swiglu_limits_shared");
    fields.require("moe_router_activation", "sigmoid");
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize: fields.integer("moe_intermediate_size", 1280),
      numExperts: fields.integer("n_routed_experts", 288, { alias: "moe_num_experts" }),
      topK: fields.integer("num_experts_per_tok", 8, { alias: "moe_top_k" }),
      scoring: "sigmoid",
      normalize: fields.boolean("norm_expert_weight", true),
      scale: fields.number("moe_router_scaling_factor", 1),
      ...experts,
      ...sharedExpert(1, fields.integer("share_expert_dim", 1280, { alias: "share_expert_dims" }), shared),
    };
  },
  tensors: (prefix, fields) => {
    const biased = fields.boolean("use_moe_router_bias", true);
    const [own, transformers] = [`${prefix}.moe`, `${prefix}.mlp`];
    const published = {
      router: { name: `${own}.gate.weight` },
      ...(biased && { selectionBias: { name: `${own}.router_bias` } }),
      shared: gatedExpert(`${prefix}.share_expert`),
    };
    return [
      { ...published, experts: stacks(own) },
      { ...published, experts: gatedExpert(`${own}.experts.{e}`) }, // as AutoRound has them
      ...stackedOrSingle(
        {
          router: { name: `${transformers}.gate.weight` },
          ...(biased && { selectionBias: { name: `${transformers}.gate.e_score_correction_bias` } }),
          shared: gatedExpert(`${transformers}.shared_experts`),
        },
        `${transformers}.experts`,
      ),
      {
        // As MLX has them.
        router: { name: `${transformers}.gate.gate.weight` },
        ...(biased && { selectionBias: { name: `${transformers}.gate.router_bias` } }),
        shared: gatedExpert(`${transformers}.share_expert`),
        experts: stacks(`${transformers}.switch_mlp`),
      },
    ];
  },
};

/** The text model of Step 5 Preview: Step5PreviewTextConfig of vLLM, which has Step 3.5's fields and, as Step4ForCausalLM, its names. */
export const step4: Family = { ...step3p5, modelType: "step4" };

/**
 * Step 3: Step3vMoEMLP of its own code. Softmax over all experts, which other software renormalises where config.json says so; a
 * shared expert.
 */
export const step3Text: Family = {
  modelType: "step3_text",
  layerCount: layerCount(61),
  hasExperts: (fields, layer) => layersOf(fields)?.includes(layer) ?? layer >= 1,
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 7168),
    intermediateSize: fields.integer("moe_intermediate_size", 5120),
    numExperts: fields.integer("moe_num_experts", 48),
    topK: fields.integer("moe_top_k", 3),
    normalize: fields.boolean("norm_expert_weight", false),
    activation: "swiglu",
    ...sharedExpert(1, fields.integer("share_expert_dim", 5120)),
  }),
  tensors: (prefix) => {
    const others = { router: { name: `${prefix}.moe.gate.weight` }, shared: gatedExpert(`${prefix}.share_expert`) };
    return [
      { ...others, experts: stacks(`${prefix}.moe`) },
      { ...others, experts: gatedExpert(`${prefix}.moe.experts.{e}`) }, // as AutoRound takes them apart
    ];
  },
};

/** A stack for each matrix of a module's experts. */
function stacks(module: string) {
  const stack = (name: string) => ({ name: `${module}.${name}.weight`, stacked: "dim0" }) as const;
  return { gate: stack("gate_proj"), up: stack("up_proj"), down: stack("down_proj") };
}

/** The layers with experts as published files list them: numbers, or a string of them. Step 4 may have the other name. */
function layersOf(fields: ConfigFields): readonly number[] | undefined {
  const field = ["moe_layers_enum", "moe_layer_list"].find((name) => fields.value(name) !== undefined);
  if (field === undefined) return undefined;
  const listed = fields.value(field);
  return typeof listed === "string" ? listed.split(",").map(Number) : fields.integers(field, []);
}
