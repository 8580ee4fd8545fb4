import { type Choice, type Expert, type FamilyModel, hidden, inner, model, softmaxTopK } from "./family_model.js";
import {
  at,
  build,
  dot,
  largest,
  linear,
  relu,
  scaled,
  silu,
  softmax,
  times,
  total,
  type Vector,
  Weights,
} from "./plain_math.js";

/**
 * Drops what is over an expert's capacity: all first choices in `order` of the tokens come before all second choices.
 * @param keep what becomes of the weights of a token, those of dropped choices being 0.
 */
function dropped(
  choices: readonly Choice[],
  capacity: number,
  order: Vector = choices.map((_, token) => token),
  keep = (weights: Vector): Vector => weights,
): Choice[] {
  const taken = new Map<number, number>();
  const ids = choices.map((choice) => [...choice.ids]);
  for (const slot of (choices[0] as Choice).ids.keys()) {
    for (const token of order) {
      const id = (choices[token] as Choice).ids[slot] as number;
      const count = taken.get(id) ?? 0;
      taken.set(id, count + 1);
      if (count >= capacity) (ids[token] as number[])[slot] = -1;
    }
  }
  return choices.map(({ weights }, token) => {
    const left = ids[token] as number[];
    return { ids: left, weights: keep(weights.map((weight, slot) => (left[slot] === -1 ? 0 : weight))) };
  });
}

function switchTransformers(layer: number, block: string): FamilyModel {
  const weights = new Weights(block);
  const router = weights.draw(`${block}.router.classifier.weight`, [4, hidden]);
  const bias = weights.draw(`${block}.router.classifier.bias`, [4], 4);
  const experts = Array.from({ length: 4 }, (_, expert): Expert => {
    const wi = weights.draw(`${block}.experts.expert_${expert}.wi.weight`, [inner, hidden]);
    const wo = weights.draw(`${block}.experts.expert_${expert}.wo.weight`, [hidden, inner]);
    return (x) => linear(wo, linear(wi, x).map(relu));
  });
  const route = (x: Vector): Choice => {
    const scores = softmax(linear(router, x, bias));
    const [best] = largest(scores, 1) as [number];
    return { ids: [best], weights: [scores[best] as number] };
  };
  const config = {
    model_type: "switch_transformers",
    d_model: hidden,
    d_ff: inner,
    num_layers: 4,
    num_decoder_layers: 2,
    num_sparse_encoder_layers: 2,
    num_sparse_decoder_layers: 1,
    num_experts: 4,
    expert_capacity: 2,
    router_bias: true,
    dense_act_fn: "relu",
  };
  const drop = (choices: readonly Choice[]) =>
    [0, 9, 18].flatMap((first) => dropped(choices.slice(first, first + 9), 2));
  return model(weights, config, layer, route, experts, { drop, sequences: 3 });
}

function openMoe(topK: number, activation: "swiglu" | "relu"): FamilyModel {
  const weights = new Weights(`openmoe ${topK} ${activation}`);
  const block = "model.layers.1.mlp";
  const router = weights.draw(`${block}.gate_weight`, [4, hidden]);
  const gated = activation === "swiglu";
  const [wiGate, wi] = gated
    ? [
        weights.draw(`${block}.experts.wi_gate`, [4, hidden, 2 * inner], hidden),
        weights.draw(`${block}.experts.wi_up`, [4, hidden, inner], hidden),
      ]
    : [undefined, weights.draw(`${block}.experts.wi`, [4, hidden, inner], hidden)];
  const wo = weights.draw(`${block}.experts.wo`, [4, inner, hidden], inner);
  const experts = Array.from(
    { length: 4 },
    (_, e): Expert =>
      (x) => {
        const up = build(inner, (column) => dot(x, (k) => at(wi, e, k, column)));
        const both = wiGate ? build(2 * inner, (column) => dot(x, (k) => at(wiGate, e, k, column))) : [];
        const product = gated ? times(times(both.slice(0, inner), both.slice(inner).map(silu)), up) : up.map(relu);
        return build(hidden, (column) => dot(product, (k) => at(wo, e, k, column)));
      },
  );
  const config = {
    architectures: ["OpenMoeForCausalLM"],
    model_type: "llama",
    hidden_size: hidden,
    intermediate_size: inner,
    num_hidden_layers: 4,
    num_experts: 4,
    router_topk: topK,
    router_capacity_factor_train: 9,
    router_capacity_factor_eval: 0.9,
    router_min_capacity: 2,
    router_drop_tks: true,
    moe_layer_interval: 2,
    mlp_gated: gated,
    hidden_act: activation,
  };
  const capacity = Math.floor((topK * 0.9 * 9) / 4);
  const even = Math.max(capacity + (capacity % 2), 2);
  const drop = (choices: readonly Choice[]) => dropped(choices, even);
  return model(weights, config, 1, softmaxTopK(router, topK, false), experts, { drop });
}

function nllb(layer: number, block: string, fields: Record<string, unknown>): FamilyModel {
  const weights = new Weights(`nllb ${layer} ${JSON.stringify(fields)}`);
  const router = weights.draw(`${block}.router.classifier.weight`, [4, hidden]);
  const width = layer < 4 ? inner : inner + 4;
  const experts = Array.from({ length: 4 }, (_, expert): Expert => {
    const draw = (name: string, shape: number[]) => weights.draw(`${block}.experts.expert_${expert}.${name}`, shape);
    const [fc1, bias1] = [draw("fc1.weight", [width, hidden]), draw("fc1.bias", [width])];
    const [fc2, bias2] = [draw("fc2.weight", [hidden, width]), draw("fc2.bias", [hidden])];
    return (x) => linear(fc2, linear(fc1, x, bias1).map(relu), bias2);
  });
  const config = {
    model_type: "nllb-moe",
    d_model: hidden,
    encoder_layers: 4,
    decoder_layers: 4,
    encoder_ffn_dim: inner,
    decoder_ffn_dim: inner + 4,
    encoder_sparse_step: 2,
    decoder_sparse_step: 4,
    num_experts: 4,
    expert_capacity: 3,
    activation_function: "relu",
    ...fields,
  };
  const {
    moe_token_dropout: dropout = 0.2,
    moe_eval_capacity_token_fraction: fraction = 1,
    normalize_router_prob_before_dropping: before = false,
    batch_prioritized_routing: prioritized = false,
  } = fields as Record<string, number & boolean>;
  const normalized = (chosen: Vector) => scaled(chosen, (1 - dropout) / Math.max(total(chosen), 2 ** -23));
  const drop = (choices: readonly Choice[]) => {
    const capacity = fraction > 0 ? Math.ceil(fraction * choices.length) : 3;
    const order = largest(
      choices.map(({ weights }) => weights[0] as number),
      choices.length,
    );
    const ready = before ? choices.map(({ ids, weights }) => ({ ids, weights: normalized(weights) })) : choices;
    return dropped(ready, capacity, prioritized ? order : undefined, before ? undefined : normalized);
  };
  return model(weights, config, layer, softmaxTopK(router, 2, false), experts, { drop });
}

export const capacityModels: Readonly<Record<string, () => FamilyModel>> = {
  "switch_transformers, encoder": () => switchTransformers(1, "encoder.block.1.layer.1.mlp"),
  "switch_transformers, decoder": () => switchTransformers(5, "decoder.block.1.layer.2.mlp"),
  openmoe: () => openMoe(2, "swiglu"),
  "openmoe, one expert a token": () => openMoe(1, "swiglu"),
  "openmoe, ungated": () => openMoe(2, "relu"),
  "nllb-moe, encoder": () => nllb(3, "model.encoder.layers.3.ffn", {}),
  "nllb-moe, decoder": () => nllb(7, "model.decoder.layers.3.ffn", { moe_token_dropout: 0.3 }),
  "nllb-moe, dropping after normalising": () =>
    nllb(1, "model.encoder.layers.1.ffn", {
      moe_eval_capacity_token_fraction: 0.4,
      normalize_router_prob_before_dropping: true,
    }),
  "nllb-moe, normalising after dropping": () =>
    nllb(1, "model.encoder.layers.1.ffn", { moe_eval_capacity_token_fraction: 0.4, moe_token_dropout: 0 }),
  "nllb-moe, prioritized": () =>
    nllb(1, "model.encoder.layers.1.ffn", {
      moe_eval_capacity_token_fraction: 0,
      batch_prioritized_routing: true,
      moe_token_dropout: 0,
    }),
};
