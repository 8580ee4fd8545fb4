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


def rms_norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def frequencies(theta, yarn):
    plain = theta ** (-np.arange(0, SIZE, 2) / SIZE)
    if yarn is None:
        return plain, 1.0
    low, high = (SIZE * np.log(yarn["original_max_position_embeddings"] / (rotations * 2 * np.pi)) / (2 * np.log(theta))
                 for rotations in (yarn["beta_fast"], yarn["beta_slow"]))
    ramp = np.clip((np.arange(SIZE // 2) - max(low, 0)) / (min(high, SIZE - 1) - max(low, 0)), 0, 1)
    return plain / yarn["factor"] * ramp + plain * (1 - ramp), 0.1 * np.log(yarn["factor"]) + 1


def rotate(heads, theta, yarn):
    """Pairs of the first and second half of each head [T, heads, SIZE] as complex numbers."""
    turns, scale = frequencies(theta, yarn)
    angles = np.arange(len(heads))[:, None, None] * turns
    pairs = (heads[..., : SIZE // 2] + 1j * heads[..., SIZE // 2 :]) * np.exp(1j * angles) * scale
    return np.concatenate([pairs.real, pairs.imag], -1)


def attend(x, weights, prefix, *, key_heads=2, biases=(), norm=None, theta=10000.0, yarn=None, window=None, sinks=False):
    def project(name, rows, columns, inputs):
        y = inputs @ weights.take(f"{prefix}.{name}_proj.weight", rows, columns).T
        return y + weights.take(f"{prefix}.{name}_proj.bias", rows) if name in biases else y

    def normed(name, rows):
        if norm == "head":
            return rms_norm(rows.reshape(len(x), -1, SIZE), weights.norm(f"{prefix}.{name}_norm.weight", SIZE))
        if norm == "all":
            rows = rms_norm(rows, weights.norm(f"{prefix}.{name}_norm.weight", rows.shape[1]))
        return rows.reshape(len(x), -1, SIZE)

    queries = rotate(normed("q", project("q", HEADS * SIZE, H, x)), theta, yarn)
    keys = rotate(normed("k", project("k", key_heads * SIZE, H, x)), theta, yarn)
    values = project("v", key_heads * SIZE, H, x).reshape(len(x), key_heads, SIZE)
    sink = weights.take(f"{prefix}.sinks", HEADS, scale=1.0) if sinks else None
    distance = np.arange(len(x))[:, None] - np.arange(len(x))
    hidden = (distance < 0) | (distance >= (window or len(x)))
    seen = []
    for head in range(HEADS):
        key_head = head * key_heads // HEADS
        logits = np.where(hidden, -np.inf, queries[:, head] @ keys[:, key_head].T / np.sqrt(SIZE))
        if sink is not None:
            logits = np.concatenate([logits, np.full((len(x), 1), sink[head])], 1)
        seen.append(softmax(logits)[:, : len(x)] @ values[:, key_head])
    return project("o", H, HEADS * SIZE, np.concatenate(seen, 1))


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
}


def run(name):
    global softmax_of
    config, softmax_of, self_attention, mixture = families[name]
    weights = Weights(name)
    ids = weights.random.integers(0, VOCABULARY, T)
    table = weights.take("model.embed_tokens.weight", VOCABULARY, H, scale=1.0)
    x = table[ids]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        x = x + self_attention(rms_norm(x, weights.norm(f"{prefix}.input_layernorm.weight", H)), weights, prefix, layer)
        x = x + mixture(rms_norm(x, weights.norm(f"{prefix}.post_attention_layernorm.weight", H)), weights, prefix)
    head = table if config.get("tie_word_embeddings") else weights.take("lm_head.weight", VOCABULARY, H)
    logits = rms_norm(x, weights.norm("model.norm.weight", H)) @ head.T
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
