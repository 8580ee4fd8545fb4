import {
  type Choice,
  drawExperts,
  drawSwiglu,
  type Expert,
  type FamilyModel,
  hidden,
  inner,
  model,
  sizes,
  softmaxTopK,
} from "./family_model.js";
import {
  at,
  build,
  dot,
  largest,
  linear,
  pick,
  type Stored,
  scaled,
  sigmoid,
  silu,
  softmax,
  times,
  total,
  type Vector,
  Weights,
} from "./plain_math.js";

function mixtralLike(modelType: string): FamilyModel {
  const weights = new Weights(modelType);
  const block = "model.layers.1.block_sparse_moe";
  const router = weights.draw(`${block}.gate.weight`, [6, hidden]);
  const experts = drawExperts(weights, `${block}.experts`, 6, ["w1", "w3", "w2"]);
  const config = { ...sizes, model_type: modelType, num_local_experts: 6, num_experts_per_tok: 2 };
  return model(weights, config, 1, softmaxTopK(router, 2, true), experts);
}

/** The same layer with experts as Transformers 5 has them in memory. */
function stackedMixtral(): FamilyModel {
  const weights = new Weights("mixtral stacked");
  const block = "model.layers.1.mlp";
  const router = weights.draw(`${block}.gate.weight`, [6, hidden]);
  const gateUp = weights.draw(`${block}.experts.gate_up_proj`, [6, 2 * inner, hidden]);
  const down = weights.draw(`${block}.experts.down_proj`, [6, hidden, inner]);
  const experts = Array.from({ length: 6 }, (_, e) => (x: Vector) => {
    const both = build(2 * inner, (row) => dot(x, (k) => at(gateUp, e, row, k)));
    const product = times(both.slice(0, inner).map(silu), both.slice(inner));
    return build(hidden, (row) => dot(product, (k) => at(down, e, row, k)));
  });
  const config = { ...sizes, model_type: "mixtral", num_local_experts: 6, num_experts_per_tok: 2 };
  return model(weights, config, 1, softmaxTopK(router, 2, true), experts);
}

function qwen2Moe(): FamilyModel {
  const weights = new Weights("qwen2_moe");
  const block = "model.layers.3.mlp";
  const router = weights.draw(`${block}.gate.weight`, [7, hidden]);
  const experts = drawExperts(weights, `${block}.experts`, 7);
  const shared = drawSwiglu(weights, `${block}.shared_expert`, 31);
  const sharedGate = weights.draw(`${block}.shared_expert_gate.weight`, [1, hidden]);
  const config = {
    ...sizes,
    model_type: "qwen2_moe",
    intermediate_size: 99,
    moe_intermediate_size: inner,
    shared_expert_intermediate_size: 31,
    num_experts: 7,
    num_experts_per_tok: 3,
    decoder_sparse_step: 2,
    mlp_only_layers: [1],
  };
  const gated = (x: Vector) => scaled(shared(x), sigmoid(linear(sharedGate, x)[0] as number));
  return model(weights, config, 3, softmaxTopK(router, 3, false), experts, { shared: gated });
}

function deepseekV2(method: "greedy" | "group_limited_greedy", normalize: boolean): FamilyModel {
  const weights = new Weights(`deepseek_v2 ${method} ${normalize}`);
  const block = "model.layers.2.mlp";
  const router = weights.draw(`${block}.gate.weight`, [8, hidden]);
  const experts = drawExperts(weights, `${block}.experts`, 8);
  const shared = drawSwiglu(weights, `${block}.shared_experts`, 2 * inner);
  const route = (x: Vector): Choice => {
    const scores = softmax(linear(router, x));
    const groups = Array.from({ length: 4 }, (_, group) => Math.max(...scores.slice(2 * group, 2 * group + 2)));
    const allowed = new Set(method === "greedy" ? [0, 1, 2, 3] : largest(groups, 2));
    const masked = scores.map((score, expert) => (allowed.has(Math.floor(expert / 2)) ? score : 0));
    const ids = largest(masked, 3);
    const chosen = pick(scores, ids);
    return { ids, weights: normalize ? scaled(chosen, 1 / (total(chosen) + 1e-20)) : scaled(chosen, 16) };
  };
  const config = {
    ...sizes,
    model_type: "deepseek_v2",
    moe_intermediate_size: inner,
    n_routed_experts: 8,
    n_shared_experts: 2,
    num_experts_per_tok: 3,
    topk_method: method,
    n_group: 4,
    topk_group: 2,
    norm_topk_prob: normalize,
    routed_scaling_factor: 16,
    scoring_func: "softmax",
    first_k_dense_replace: 1,
    moe_layer_freq: 1,
  };
  return model(weights, config, 2, route, experts, { shared });
}

function deepseekV3Like(modelType: string, fields: { n_group: number; topk_group: number }): FamilyModel {
  const weights = new Weights(modelType);
  const block = "model.layers.3.mlp";
  const router = weights.draw(`${block}.gate.weight`, [8, hidden]);
  const bias = weights.draw(`${block}.gate.e_score_correction_bias`, [8], 16);
  const experts = drawExperts(weights, `${block}.experts`, 8);
  const shared = drawSwiglu(weights, `${block}.shared_experts`);
  const groupSize = 8 / fields.n_group;
  const route = (x: Vector): Choice => {
    const scores = linear(router, x).map(sigmoid);
    const keys = scores.map((score, expert) => score + at(bias, expert));
    const groups = Array.from({ length: fields.n_group }, (_, group) => {
      const ofGroup = keys.slice(groupSize * group, groupSize * (group + 1));
      return total(pick(ofGroup, largest(ofGroup, 2)));
    });
    const allowed = new Set(largest(groups, fields.topk_group));
    const masked = keys.map((key, expert) => (allowed.has(Math.floor(expert / groupSize)) ? key : -Infinity));
    const ids = largest(masked, 3);
    const chosen = pick(scores, ids);
    return { ids, weights: scaled(chosen, 2.5 / total(chosen)) };
  };
  const config = {
    ...sizes,
    ...fields,
    model_type: modelType,
    moe_intermediate_size: inner,
    n_routed_experts: 8,
    n_shared_experts: 1,
    num_experts_per_tok: 3,
    norm_topk_prob: true,
    routed_scaling_factor: 2.5,
    first_k_dense_replace: 2,
  };
  return model(weights, config, 3, route, experts, { shared });
}

function gptOss(): FamilyModel {
  const weights = new Weights("gpt_oss");
  const block = "model.layers.0.mlp";
  const router = weights.draw(`${block}.router.weight`, [6, hidden]);
  const routerBias = weights.draw(`${block}.router.bias`, [6]);
  const gateUp = weights.draw(`${block}.experts.gate_up_proj`, [6, hidden, 2 * inner], hidden / 9);
  const gateUpBias = weights.draw(`${block}.experts.gate_up_proj_bias`, [6, 2 * inner], 1);
  const down = weights.draw(`${block}.experts.down_proj`, [6, inner, hidden], inner);
  const downBias = weights.draw(`${block}.experts.down_proj_bias`, [6, hidden], 1);
  const route = (x: Vector): Choice => {
    const logits = linear(router, x, routerBias);
    const ids = largest(logits, 2);
    return { ids, weights: softmax(pick(logits, ids)) };
  };
  const experts = Array.from({ length: 6 }, (_, e) => (x: Vector) => {
    const both = build(2 * inner, (column) => dot(x, (k) => at(gateUp, e, k, column)) + at(gateUpBias, e, column));
    const product = build(inner, (index) => {
      const gate = Math.min(both[2 * index] as number, 2);
      const up = Math.max(-2, Math.min(both[2 * index + 1] as number, 2));
      return (up + 1) * gate * sigmoid(1.702 * gate);
    });
    return build(hidden, (column) => dot(product, (k) => at(down, e, k, column)) + at(downBias, e, column));
  });
  const config = {
    ...sizes,
    model_type: "gpt_oss",
    num_local_experts: 6,
    num_experts_per_tok: 2,
    swiglu_limit: 2,
  };
  return model(weights, config, 0, route, experts);
}

function llama4(multimodal: boolean): FamilyModel {
  const weights = new Weights("llama4_text");
  const block = `${multimodal ? "language_model." : ""}model.layers.1.feed_forward`;
  const router = weights.draw(`${block}.router.weight`, [4, hidden]);
  const gateUp = weights.draw(`${block}.experts.gate_up_proj`, [4, hidden, 2 * inner], hidden);
  const down = weights.draw(`${block}.experts.down_proj`, [4, inner, hidden], inner);
  const shared = drawSwiglu(weights, `${block}.shared_expert`);
  const route = (x: Vector): Choice => {
    const logits = linear(router, x);
    const ids = largest(logits, 1);
    return { ids, weights: pick(logits, ids).map(sigmoid) };
  };
  const experts = Array.from({ length: 4 }, (_, e) => (x: Vector) => {
    const both = build(2 * inner, (column) => dot(x, (k) => at(gateUp, e, k, column)));
    const product = times(both.slice(0, inner).map(silu), both.slice(inner));
    return build(hidden, (column) => dot(product, (k) => at(down, e, k, column)));
  });
  const text = {
    ...sizes,
    model_type: "llama4_text",
    num_local_experts: 4,
    num_experts_per_tok: 1,
    intermediate_size_mlp: 99,
    interleave_moe_layer_step: 2,
  };
  const config = multimodal ? { model_type: "llama4", text_config: text } : text;
  return model(weights, config, 1, route, experts, { shared, weightOn: "input" });
}

function phimoe(): FamilyModel {
  const weights = new Weights("phimoe");
  const block = "model.layers.2.block_sparse_moe";
  const router = weights.draw(`${block}.gate.weight`, [6, hidden]);
  const experts = drawExperts(weights, `${block}.experts`, 6, ["w1", "w3", "w2"]);
  const jitter = 0.3;
  const route = (x: Vector): Choice => {
    const scores = linear(router, x);
    const left = [...scores];
    const ids: number[] = [];
    const chosen: number[] = [];
    for (let step = 0; step < 2; step++) {
      const best = largest(left, 1)[0] as number;
      const top = left[best] as number;
      const far = scores.map((score) => (top - score) / Math.max(Math.abs(score), top) > 2 * jitter);
      const gates = softmax(left.map((score, expert) => (far[expert] ? -Infinity : score)));
      ids.push(best);
      chosen.push(gates[best] as number);
      left[best] = -Infinity;
    }
    return { ids, weights: chosen };
  };
  const config = {
    ...sizes,
    model_type: "phimoe",
    num_local_experts: 6,
    num_experts_per_tok: 2,
    router_jitter_noise: jitter,
  };
  return model(weights, config, 2, route, experts);
}

function dbrx(power: number | null): FamilyModel {
  const weights = new Weights(`dbrx ${power}`);
  const block = "transformer.blocks.1.ffn";
  const router = weights.draw(`${block}.router.layer.weight`, [5, hidden]);
  const [w1, v1, w2] = ["w1", "v1", "w2"].map((name) =>
    weights.draw(`${block}.experts.mlp.${name}`, [5 * inner, hidden], name === "w2" ? inner : hidden),
  ) as [Stored, Stored, Stored];
  const route = (x: Vector): Choice => {
    const scores = softmax(linear(router, x));
    const ids = largest(scores, 3);
    const chosen = pick(scores, ids);
    const norm = power === null ? 1 : total(chosen.map((weight) => weight ** power)) ** (1 / power);
    return { ids, weights: scaled(chosen, 1 / norm) };
  };
  const experts = Array.from({ length: 5 }, (_, e) => (x: Vector) => {
    const row = (index: number) => e * inner + index;
    const gate = build(inner, (index) => silu(dot(x, (k) => at(w1, row(index), k))));
    const up = build(inner, (index) => dot(x, (k) => at(v1, row(index), k)));
    return build(hidden, (column) => dot(times(gate, up), (index) => at(w2, row(index), column)));
  });
  const config = {
    model_type: "dbrx",
    d_model: hidden,
    n_layers: 2,
    ffn_config: {
      ffn_act_fn: { name: "silu" },
      ffn_hidden_size: inner,
      moe_num_experts: 5,
      moe_top_k: 3,
      moe_normalize_expert_weights: power,
      moe_jitter_eps: 0.01,
    },
  };
  return model(weights, config, 1, route, experts);
}

function jamba(): FamilyModel {
  const weights = new Weights("jamba");
  const block = "model.layers.3.feed_forward";
  const router = weights.draw(`${block}.router.weight`, [6, hidden]);
  const experts = drawExperts(weights, `${block}.experts`, 6);
  const config = {
    ...sizes,
    model_type: "jamba",
    num_experts: 6,
    num_experts_per_tok: 2,
    expert_layer_period: 2,
    expert_layer_offset: 1,
  };
  return model(weights, config, 3, softmaxTopK(router, 2, false), experts);
}

function granitemoe(): FamilyModel {
  const weights = new Weights("granitemoe");
  const block = "model.layers.0.block_sparse_moe";
  const router = weights.draw(`${block}.router.layer.weight`, [6, hidden]);
  const input = weights.draw(`${block}.input_linear.weight`, [6, 2 * inner, hidden]);
  const down = weights.draw(`${block}.output_linear.weight`, [6, hidden, inner]);
  const route = (x: Vector): Choice => {
    const logits = linear(router, x);
    const ids = largest(logits, 3);
    return { ids, weights: softmax(pick(logits, ids)) };
  };
  const experts = Array.from({ length: 6 }, (_, e) => (x: Vector) => {
    const both = build(2 * inner, (row) => dot(x, (k) => at(input, e, row, k)));
    const product = times(both.slice(0, inner).map(silu), both.slice(inner));
    return build(hidden, (row) => dot(product, (k) => at(down, e, row, k)));
  });
  const config = { ...sizes, model_type: "granitemoe", num_local_experts: 6, num_experts_per_tok: 3 };
  return model(weights, config, 0, route, experts);
}

function ernie(biases: boolean): FamilyModel {
  const weights = new Weights(`ernie4_5_moe ${biases}`);
  const block = "model.layers.2.mlp";
  const router = weights.draw(`${block}.gate.weight`, [6, hidden]);
  const bias = weights.draw(`${block}.moe_statics.e_score_correction_bias`, [1, 6], 25);
  const draw = (prefix: string, width: number): Expert => {
    if (!biases) return drawSwiglu(weights, prefix, width);
    const [gate, up, down] = ["gate_proj", "up_proj", "down_proj"].map((name) => {
      const shape = name === "down_proj" ? [hidden, width] : [width, hidden];
      const weight = weights.draw(`${prefix}.${name}.weight`, shape);
      const offset = weights.draw(`${prefix}.${name}.bias`, shape.slice(0, 1), 1);
      return (x: Vector) => linear(weight, x, offset);
    }) as Expert[] as [Expert, Expert, Expert];
    return (x) => down(times(gate(x).map(silu), up(x)));
  };
  const experts = Array.from({ length: 6 }, (_, expert) => draw(`${block}.experts.${expert}`, inner));
  const shared = draw(`${block}.shared_experts`, 2 * inner);
  const normMin = 0.6;
  const route = (x: Vector): Choice => {
    const scores = softmax(linear(router, x));
    const ids = largest(
      scores.map((score, expert) => score + at(bias, 0, expert)),
      2,
    );
    const chosen = pick(scores, ids);
    return { ids, weights: scaled(chosen, 1 / Math.max(total(chosen), normMin)) };
  };
  const config = {
    ...sizes,
    model_type: "ernie4_5_moe",
    intermediate_size: 99,
    moe_intermediate_size: inner,
    moe_num_experts: 6,
    moe_k: 2,
    moe_num_shared_experts: 2,
    moe_norm_min: normMin,
    moe_layer_start_index: 1,
    moe_layer_end_index: -1,
    use_bias: biases,
  };
  return model(weights, config, 2, route, experts, { shared });
}

function hunyuan(): FamilyModel {
  const weights = new Weights("hunyuan_v1_moe");
  const block = "model.layers.1.mlp";
  const router = weights.draw(`${block}.gate.wg.weight`, [5, hidden]);
  const experts = drawExperts(weights, `${block}.experts`, 5);
  const shared = drawSwiglu(weights, `${block}.shared_mlp`);
  const config = { ...sizes, model_type: "hunyuan_v1_moe", num_experts: [4, 5, 6, 7], moe_topk: [1, 2, 3, 4] };
  return model(weights, config, 1, softmaxTopK(router, 2, true), experts, { shared });
}

export const decoderModels: Readonly<Record<string, () => FamilyModel>> = {
  mixtral: () => mixtralLike("mixtral"),
  "mixtral of Transformers 5": stackedMixtral,
  minimax: () => mixtralLike("minimax"),
  qwen2_moe: qwen2Moe,
  "deepseek_v2, greedy": () => deepseekV2("greedy", false),
  "deepseek_v2, groups": () => deepseekV2("group_limited_greedy", false),
  "deepseek_v2, renormalised": () => deepseekV2("group_limited_greedy", true),
  deepseek_v3: () => deepseekV3Like("deepseek_v3", { n_group: 4, topk_group: 2 }),
  kimi_k2: () => deepseekV3Like("kimi_k2", { n_group: 1, topk_group: 1 }),
  glm4_moe: () => deepseekV3Like("glm4_moe", { n_group: 1, topk_group: 1 }),
  gpt_oss: gptOss,
  llama4_text: () => llama4(false),
  "llama4, multimodal": () => llama4(true),
  phimoe,
  dbrx: () => dbrx(1),
  "dbrx, L^3 norm": () => dbrx(3),
  "dbrx, as they are": () => dbrx(null),
  jamba,
  granitemoe,
  ernie4_5_moe: () => ernie(false),
  "ernie4_5_moe, biases": () => ernie(true),
  hunyuan_v1_moe: hunyuan,
};
