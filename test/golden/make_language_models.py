"""
Writes language_models/<family> for the example that generates text: a small model as Hugging Face has them, config.json
and random weights, and expected.safetensors with tokens and the logits after each of them. They come from the formulas of
Transformers' <Family>ForCausalLM, written here in float64.

    python3 make_language_models.py [FAMILY...]

Needs numpy only.
"""

import json
import sys
from pathlib import Path

import numpy as np
from make_formulas import clamped_swiglu, dtypes, sigmoid, softmax, swiglu, write_safetensors

FOLDER = Path(__file__).parent / "language_models"
LAYERS, H, HEADS, SIZE, I, E, K, VOCABULARY, T = 2, 32, 4, 8, 32, 4, 2, 40, 11
DENSE = 48
dtypes[np.dtype("uint16")] = "BF16"

attention = {
    "num_hidden_layers": LAYERS, "hidden_size": H, "num_attention_heads": HEADS, "max_position_embeddings": 256,
    "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "hidden_act": "silu", "torch_dtype": "bfloat16", "eos_token_id": 1,
}


class Weights:
    """Random numbers of bfloat16, by name."""

    def __init__(self, name):
        self.random = np.random.default_rng(list(name.encode()))
        self.stored = {}

    def take(self, name, *shape, mean=0.0, scale=None):
        values = mean + self.random.normal(size=shape) * (scale or shape[-1] ** -0.5)
        bits = values.astype(np.float32).view(np.uint32) >> 16
        self.stored[name] = bits.astype(np.uint16)
        return (bits << 16).astype(np.uint32).view(np.float32).astype(np.float64)

    def norm(self, name, width):
        return self.take(name, width, mean=1.0, scale=0.3)


def rms_norm(x, weight, epsilon=1e-5):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def yarn_scale(yarn, name):
    return 0.1 * yarn.get(name, 1.0) * np.log(yarn["factor"]) + 1


def frequencies(theta, yarn, size):
    plain = theta ** (-np.arange(0, size, 2) / size)
    if yarn is None:
        return plain, 1.0
    low, high = (size * np.log(yarn["original_max_position_embeddings"] / (rotations * 2 * np.pi)) / (2 * np.log(theta))
                 for rotations in (yarn["beta_fast"], yarn["beta_slow"]))
    if yarn.get("truncate", True):
        low, high = np.floor(low), np.ceil(high)
    ramp = np.clip((np.arange(size // 2) - max(low, 0)) / (min(high, size - 1) - max(low, 0)), 0, 1)
    scale = yarn_scale(yarn, "mscale") / (yarn_scale(yarn, "mscale_all_dim") if "mscale_all_dim" in yarn else 1)
    return plain / yarn["factor"] * ramp + plain * (1 - ramp), scale


def rotate(heads, theta, yarn):
    """Pairs of the first and second half of each head [T, heads, size] as complex numbers."""
    half = heads.shape[-1] // 2
    turns, scale = frequencies(theta, yarn, 2 * half)
    angles = np.arange(len(heads))[:, None, None] * turns
    pairs = (heads[..., :half] + 1j * heads[..., half:]) * np.exp(1j * angles) * scale
    return np.concatenate([pairs.real, pairs.imag], -1)


def rotate_some(heads, theta, yarn, size):
    """The first elements of each head."""
    return np.concatenate([rotate(heads[..., :size], theta, yarn), heads[..., size:]], -1)


def rotate_neighbours(heads, theta, yarn):
    """Neighbours are a pair. Where they are put then makes no difference to the products of queries and keys."""
    return rotate(np.concatenate([heads[..., ::2], heads[..., 1::2]], -1), theta, yarn)


def softmax_over_seen(products, values, *, window=None, sink=None):
    """The values [T, size] that tokens see, by their products [T, T] with keys."""
    distance = np.arange(len(products))[:, None] - np.arange(len(products))
    hidden = (distance < 0) | (distance >= (window or len(products)))
    logits = np.where(hidden, -np.inf, products)
    if sink is not None:
        logits = np.concatenate([logits, np.full((len(products), 1), sink)], 1)
    return softmax(logits)[:, : len(products)] @ values


def attend(x, weights, prefix, *, key_heads=2, biases=(), norm=None, theta=10000.0, yarn=None, window=None, sinks=False,
           turned=SIZE, scale=SIZE ** -0.5):
    def project(name, rows, columns, inputs):
        y = inputs @ weights.take(f"{prefix}.{name}_proj.weight", rows, columns).T
        return y + weights.take(f"{prefix}.{name}_proj.bias", rows) if name in biases else y

    def normed(name, rows):
        if norm == "head":
            return rms_norm(rows.reshape(len(x), -1, SIZE), weights.norm(f"{prefix}.{name}_norm.weight", SIZE))
        if norm == "all":
            rows = rms_norm(rows, weights.norm(f"{prefix}.{name}_norm.weight", rows.shape[1]))
        return rows.reshape(len(x), -1, SIZE)

    queries = rotate_some(normed("q", project("q", HEADS * SIZE, H, x)), theta, yarn, turned)
    keys = rotate_some(normed("k", project("k", key_heads * SIZE, H, x)), theta, yarn, turned)
    values = project("v", key_heads * SIZE, H, x).reshape(len(x), key_heads, SIZE)
    sink = weights.take(f"{prefix}.sinks", HEADS, scale=1.0) if sinks else None
    seen = []
    for head in range(HEADS):
        key_head = head * key_heads // HEADS
        products = queries[:, head] @ keys[:, key_head].T * scale
        seen.append(softmax_over_seen(products, values[:, key_head], window=window, sink=None if sink is None else sink[head]))
    return project("o", H, HEADS * SIZE, np.concatenate(seen, 1))


QUERY_RANK, RANK, PLAIN, TURNED, VALUE = 12, 16, 8, 4, 6
latent = {"kv_lora_rank": RANK, "qk_nope_head_dim": PLAIN, "qk_rope_head_dim": TURNED, "v_head_dim": VALUE}


def attend_to_latents(x, weights, prefix, *, yarn, query_rank=None, theta=10000.0):
    """Multi-head latent attention, with the keys and values of every head spelt out."""
    def project(name, rows, inputs):
        return inputs @ weights.take(f"{prefix}.{name}.weight", rows, inputs.shape[1]).T

    def normed(name, rows):
        # These norms have the default epsilon of their class, which is no field.
        return rms_norm(rows, weights.norm(f"{prefix}.{name}.weight", rows.shape[1]), 1e-6)

    query_input, name = x, "q_proj"
    if query_rank is not None:
        query_input, name = normed("q_a_layernorm", project("q_a_proj", query_rank, x)), "q_b_proj"
    queries = project(name, HEADS * (PLAIN + TURNED), query_input).reshape(len(x), HEADS, -1)
    both = project("kv_a_proj_with_mqa", RANK + TURNED, x)
    turned_keys = rotate_neighbours(both[:, None, RANK:], theta, yarn)[:, 0]
    turned_queries = rotate_neighbours(queries[..., PLAIN:], theta, yarn)
    heads = project("kv_b_proj", HEADS * (PLAIN + VALUE), normed("kv_a_layernorm", both[:, :RANK])).reshape(len(x), HEADS, -1)
    scale = (PLAIN + TURNED) ** -0.5 * yarn_scale(yarn, "mscale_all_dim") ** 2
    seen = []
    for head in range(HEADS):
        products = queries[:, head, :PLAIN] @ heads[:, head, :PLAIN].T + turned_queries[:, head] @ turned_keys.T
        seen.append(softmax_over_seen(products * scale, heads[:, head, PLAIN:]))
    return project("o_proj", H, np.concatenate(seen, 1))


def experts(x, route, expert, count=K):
    """route gives the probabilities of a token's experts, from which the largest are taken."""
    y = np.zeros_like(x)
    for token, logits in enumerate(route):
        ids = np.argsort(-logits)[:count]
        for id, weight in zip(ids, softmax_of(logits, ids)):
            y[token] += weight * expert(id, x[token])
    return y


softmax_of = None
"""The weights of the chosen, set by each family."""


def of_all(logits, ids):
    return softmax(logits)[ids]


def of_chosen(logits, ids):
    return softmax(logits[ids])


def one_by_one(x, weights, prefix, router, names):
    gate, up, down = names
    logits = x @ weights.take(f"{prefix}.{router}.weight", E, H).T
    matrices = [(weights.take(f"{prefix}.experts.{e}.{gate}.weight", I, H), weights.take(f"{prefix}.experts.{e}.{up}.weight", I, H),
                 weights.take(f"{prefix}.experts.{e}.{down}.weight", H, I)) for e in range(E)]
    return experts(x, logits, lambda e, row: matrices[e][2] @ swiglu(matrices[e][0] @ row, matrices[e][1] @ row))


SPLIT = ("gate_proj", "up_proj", "down_proj")


def shared_expert(x, weights, prefix):
    gate, up = (weights.take(f"{prefix}.shared_expert.{name}.weight", 2 * I, H) for name in SPLIT[:2])
    down = weights.take(f"{prefix}.shared_expert.down_proj.weight", H, 2 * I)
    share = sigmoid(x @ weights.take(f"{prefix}.shared_expert_gate.weight", 1, H).T)
    return share * (swiglu(x @ gate.T, x @ up.T) @ down.T)


def dense(x, weights, prefix, width):
    gate, up = (weights.take(f"{prefix}.{name}.weight", width, H) for name in SPLIT[:2])
    return swiglu(x @ gate.T, x @ up.T) @ weights.take(f"{prefix}.down_proj.weight", H, width).T


def after_dense(mixture):
    """Layer 0 has no experts."""
    def layer(x, weights, prefix):
        return dense(x, weights, f"{prefix}.mlp", DENSE) if prefix.endswith(".0") else mixture(x, weights, prefix)

    return layer


def deepseek_experts(x, weights, prefix, score, scale, *, bias, normalized):
    """Experts are chosen by scores and a bias; the weights are the scores."""
    scores = score(x @ weights.take(f"{prefix}.gate.weight", E, H).T)
    keys = scores + (weights.take(f"{prefix}.gate.e_score_correction_bias", E, scale=0.3) if bias else 0)
    matrices = [[weights.take(f"{prefix}.experts.{e}.{name}.weight", *shape)
                 for name, shape in zip(SPLIT, ((I, H), (I, H), (H, I)))] for e in range(E)]
    y = dense(x, weights, f"{prefix}.shared_experts", I)
    for token, row in enumerate(x):
        chosen = np.argsort(-keys[token])[:K]
        shares = scores[token, chosen] / (scores[token, chosen].sum() if normalized else 1) * scale
        for (gate, up, down), share in zip([matrices[e] for e in chosen], shares):
            y[token] += share * (down @ swiglu(gate @ row, up @ row))
    return y


def granite_experts(x, weights, prefix):
    logits = x @ weights.take(f"{prefix}.router.layer.weight", E, H).T
    both = weights.take(f"{prefix}.input_linear.weight", E, 2 * I, H)
    down = weights.take(f"{prefix}.output_linear.weight", E, H, I)
    return experts(x, logits, lambda e, row: down[e] @ swiglu(both[e, :I] @ row, both[e, I:] @ row))


def gpt_oss_experts(x, weights, prefix):
    logits = x @ weights.take(f"{prefix}.router.weight", E, H).T + weights.take(f"{prefix}.router.bias", E)
    gate_up = weights.take(f"{prefix}.experts.gate_up_proj", E, H, 2 * I, scale=0.3)
    gate_up_bias = weights.take(f"{prefix}.experts.gate_up_proj_bias", E, 2 * I)
    down = weights.take(f"{prefix}.experts.down_proj", E, I, H, scale=0.3)
    down_bias = weights.take(f"{prefix}.experts.down_proj_bias", E, H)

    def expert(e, row):
        both = row @ gate_up[e] + gate_up_bias[e]
        return clamped_swiglu(1.702, 7.0, 1)(both[::2], both[1::2]) @ down[e] + down_bias[e]

    return experts(x, logits, expert)


yarn = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 64,
        "truncate": False}

yarn_v2 = {"type": "yarn", "factor": 40.0, "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 64, "mscale": 0.707,
           "mscale_all_dim": 0.707}
yarn_v3 = {**yarn_v2, "mscale": 1.0, "mscale_all_dim": 0.5}
yarn_k2 = {"type": "yarn", "factor": 32.0, "beta_fast": 1.0, "beta_slow": 1.0, "original_max_position_embeddings": 64, "mscale": 1.0,
           "mscale_all_dim": 1.0}
sparse = {"intermediate_size": DENSE, "moe_intermediate_size": I, "n_routed_experts": E, "num_experts_per_tok": K,
          "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "moe_layer_freq": 1}

families = {
    "mixtral": (
        {"model_type": "mixtral", "intermediate_size": I, "num_local_experts": E, "num_experts_per_tok": K, "head_dim": SIZE,
         "rope_theta": 1e6, "sliding_window": 5}, of_chosen,
        lambda x, weights, prefix, _: attend(x, weights, f"{prefix}.self_attn", theta=1e6, window=5),
        lambda x, weights, prefix: one_by_one(x, weights, f"{prefix}.block_sparse_moe", "gate", ("w1", "w3", "w2"))),
    "qwen2_moe": (
        {"model_type": "qwen2_moe", "intermediate_size": 99, "moe_intermediate_size": I, "shared_expert_intermediate_size": 2 * I,
         "num_experts": E, "num_experts_per_tok": K, "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [],
         "head_dim": SIZE, "rope_theta": 1e4, "sliding_window": 4, "use_sliding_window": False}, of_all,
        lambda x, weights, prefix, _: attend(x, weights, f"{prefix}.self_attn", biases="qkv"),
        lambda x, weights, prefix: one_by_one(x, weights, f"{prefix}.mlp", "gate", SPLIT) + shared_expert(x, weights, f"{prefix}.mlp")),
    "qwen3_moe": (
        {"model_type": "qwen3_moe", "intermediate_size": 99, "moe_intermediate_size": I, "num_experts": E, "num_experts_per_tok": K,
         "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "head_dim": SIZE, "tie_word_embeddings": True,
         "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, of_chosen,
        lambda x, weights, prefix, _: attend(x, weights, f"{prefix}.self_attn", norm="head", theta=5e5),
        lambda x, weights, prefix: one_by_one(x, weights, f"{prefix}.mlp", "gate", SPLIT)),
    "olmoe": (
        {"model_type": "olmoe", "intermediate_size": I, "num_experts": E, "num_experts_per_tok": K, "norm_topk_prob": False,
         "head_dim": SIZE, "rope_theta": 1e4, "clip_qkv": None}, of_all,
        lambda x, weights, prefix, _: attend(x, weights, f"{prefix}.self_attn", norm="all", key_heads=HEADS),
        lambda x, weights, prefix: one_by_one(x, weights, f"{prefix}.mlp", "gate", SPLIT)),
    "gpt_oss": (
        {"model_type": "gpt_oss", "intermediate_size": I, "num_local_experts": E, "num_experts_per_tok": K, "head_dim": SIZE,
         "rope_theta": 150000.0, "rope_scaling": yarn, "sliding_window": 4, "swiglu_limit": 7.0, "attention_bias": True,
         "layer_types": ["sliding_attention", "full_attention"]}, of_chosen,
        lambda x, weights, prefix, layer: attend(x, weights, f"{prefix}.self_attn", biases="qkvo", theta=150000.0, yarn=yarn,
                                                 window=[4, None][layer], sinks=True),
        lambda x, weights, prefix: gpt_oss_experts(x, weights, f"{prefix}.mlp")),
    "glm4_moe": (
        {**sparse, "model_type": "glm4_moe", "head_dim": SIZE, "partial_rotary_factor": 0.5, "attention_bias": True,
         "use_qk_norm": True, "rope_theta": 1e6, "norm_topk_prob": True, "routed_scaling_factor": 2.5}, None,
        lambda x, weights, prefix, _: attend(x, weights, f"{prefix}.self_attn", biases="qkv", norm="head", theta=1e6, turned=SIZE // 2),
        after_dense(lambda x, weights, prefix: deepseek_experts(x, weights, f"{prefix}.mlp", sigmoid, 2.5, bias=True, normalized=True))),
    "granitemoe": (
        {"model_type": "granitemoe", "intermediate_size": I, "num_local_experts": E, "num_experts_per_tok": K, "rope_theta": 1e4,
         "embedding_multiplier": 6.0, "attention_multiplier": 0.2, "residual_multiplier": 0.22, "logits_scaling": 3.0,
         "position_embedding_type": "rope", "tie_word_embeddings": True}, of_chosen,
        lambda x, weights, prefix, _: attend(x, weights, f"{prefix}.self_attn", scale=0.2),
        lambda x, weights, prefix: granite_experts(x, weights, f"{prefix}.block_sparse_moe")),
    "deepseek_v2": (
        {**sparse, **latent, "model_type": "deepseek_v2", "q_lora_rank": None, "rope_theta": 1e4, "rope_scaling": yarn_v2,
         "num_key_value_heads": HEADS, "topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": False,
         "routed_scaling_factor": 1.5}, None,
        lambda x, weights, prefix, _: attend_to_latents(x, weights, f"{prefix}.self_attn", yarn=yarn_v2),
        after_dense(lambda x, weights, prefix: deepseek_experts(x, weights, f"{prefix}.mlp", softmax, 1.5, bias=False, normalized=False))),
    "deepseek_v3": (
        {**sparse, **latent, "model_type": "deepseek_v3", "q_lora_rank": QUERY_RANK, "rope_theta": 1e4, "rope_scaling": yarn_v3,
         "num_key_value_heads": HEADS, "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True,
         "routed_scaling_factor": 2.5}, None,
        lambda x, weights, prefix, _: attend_to_latents(x, weights, f"{prefix}.self_attn", yarn=yarn_v3, query_rank=QUERY_RANK),
        after_dense(lambda x, weights, prefix: deepseek_experts(x, weights, f"{prefix}.mlp", sigmoid, 2.5, bias=True, normalized=True))),
    "kimi_k2": (
        {**sparse, **latent, "model_type": "kimi_k2", "q_lora_rank": QUERY_RANK, "rope_theta": 5e4, "rope_scaling": yarn_k2,
         "num_key_value_heads": HEADS, "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True,
         "routed_scaling_factor": 2.827}, None,
        lambda x, weights, prefix, _: attend_to_latents(x, weights, f"{prefix}.self_attn", yarn=yarn_k2, query_rank=QUERY_RANK, theta=5e4),
        after_dense(lambda x, weights, prefix: deepseek_experts(x, weights, f"{prefix}.mlp", sigmoid, 2.827, bias=True, normalized=True))),
}


def run(name):
    global softmax_of
    config, softmax_of, self_attention, mixture = families[name]
    weights = Weights(name)
    ids = weights.random.integers(0, VOCABULARY, T)
    table = weights.take("model.embed_tokens.weight", VOCABULARY, H, scale=1.0)
    x = table[ids] * config.get("embedding_multiplier", 1)
    residual = config.get("residual_multiplier", 1)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        x = x + residual * self_attention(rms_norm(x, weights.norm(f"{prefix}.input_layernorm.weight", H)), weights, prefix, layer)
        x = x + residual * mixture(rms_norm(x, weights.norm(f"{prefix}.post_attention_layernorm.weight", H)), weights, prefix)
    head = table if config.get("tie_word_embeddings") else weights.take("lm_head.weight", VOCABULARY, H)
    logits = rms_norm(x, weights.norm("model.norm.weight", H)) @ head.T / config.get("logits_scaling", 1)
    return {**attention, "num_key_value_heads": HEADS if name == "olmoe" else 2, **config}, weights.stored, {"ids": ids.astype(np.int32), "logits": logits.astype(np.float32)}


def main(names):
    for name in names or families:
        config, tensors, results = run(name)
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
        write_safetensors(folder / "expected.safetensors", results, {})


if __name__ == "__main__":
    main(sys.argv[1:])
