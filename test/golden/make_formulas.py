"""
Writes ../golden/families for families that make_families does not run: for every case config.json, random weights under the
names of published checkpoints, and expected.safetensors with input and results. They come from the formulas of the classes
that each case names, written here in float64.

    python3 make_formulas.py [CASE...]

Needs numpy only.
"""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "families"
H, I, E, K, T = 18, 10, 8, 3, 7
L = 14
"""Width of the tokens of experts on a projection."""
MARGIN = 1e-3
"""Smallest difference of neighbouring keys, relative to the largest."""


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def swiglu(gate, up):
    return gate * sigmoid(gate) * up


def clamped_swiglu(alpha, limit, offset):
    """gpt-oss's, and with 1 and 0 DeepSeek-V4's."""
    def activate(gate, up):
        gate = np.minimum(gate, limit)
        return gate * sigmoid(alpha * gate) * (np.clip(up, -limit, limit) + offset)
    return activate


def swiglu_clamped_after(limit):
    """Step 3.5's and Ling 3's."""
    return lambda gate, up: np.minimum(gate * sigmoid(gate), limit) * np.clip(up, -limit, limit)


def situ(beta, linear_beta):
    """SituAndMul of Kimi K3's modeling_kimi_linear.py."""
    return lambda gate, up: beta * np.tanh(gate / beta) * sigmoid(gate) * linear_beta * np.tanh(up / linear_beta)


def gelu_tanh_gated(gate, up):
    return 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))) * up


def gelu_with_one_more(gate, up):
    """Moondream 3's."""
    return gate * (1 + np.vectorize(math.erf)(gate / math.sqrt(2))) / 2 * (up + 1)


def relu_gated(gate, up):
    return np.maximum(gate, 0) * up


def squared_relu(_gate, up):
    return np.maximum(up, 0) ** 2


def largest(keys, count):
    """Indices, largest first; None if two keys that count are too close to each other."""
    order = np.argsort(-keys, axis=-1)[:, : count + 1]
    ranked = np.take_along_axis(keys, order, 1)
    ranked = ranked[:, : count + 1] if keys.shape[1] > count else ranked[:, :count]
    with np.errstate(invalid="ignore"):
        gaps = -np.diff(ranked, axis=1)
    close = np.nan_to_num(gaps, nan=np.inf, posinf=np.inf) < MARGIN * np.abs(keys[np.isfinite(keys)]).max()
    return None if close.any() else order[:, :count]


# Routing: from logits, bias and configuration to ids and weights

def by_softmax(logits, _bias, config):
    """Qwen: softmax over all."""
    scores = softmax(logits)
    ids = largest(scores, K)
    if ids is None:
        return None
    weights = np.take_along_axis(scores, ids, 1)
    return ids, weights / weights.sum(1, keepdims=True) if config.get("norm_topk_prob", True) else weights


def as_it_is(logits, bias, _config):
    """Step 3: softmax over all, not renormalised."""
    return by_softmax(logits, bias, {"norm_topk_prob": False})


def over_chosen(logits, _bias, _config):
    """Granite: softmax over the chosen."""
    ids = largest(logits, K)
    return None if ids is None else (ids, softmax(np.take_along_axis(logits, ids, 1)))


def by_sigmoid(logits, bias, config, epsilon=1e-20):
    """DeepSeek-V3 under its own names."""
    return by_scores(sigmoid, config.get("n_group") or 1, config.get("topk_group") or 1, config.get("norm_topk_prob", True),
                     config.get("routed_scaling_factor", 1), epsilon)(logits, bias, config)


def by_scores(score, groups=1, top=1, normalize=True, scale=1, epsilon=1e-20):
    """DeepSeek-V3: chosen by score plus bias, from the groups with the largest sums of two."""
    return lambda logits, bias, _config: chosen(score(logits), bias, groups, top, normalize, scale, epsilon)


def chosen(scores, bias, groups, top, normalize, scale, epsilon):
    keys = scores + bias
    if groups > 1:
        grouped = keys.reshape(len(keys), groups, -1)
        best = largest(np.sort(grouped, -1)[..., -2:].sum(-1), top)
        if best is None:
            return None
        mask = np.zeros((len(keys), groups), bool)
        np.put_along_axis(mask, best, True, 1)
        keys = np.where(np.repeat(mask, grouped.shape[2], 1), keys, -np.inf)
    ids = largest(keys, K)
    if ids is None:
        return None
    weights = np.take_along_axis(scores, ids, 1)
    if normalize:
        weights = weights / (weights.sum(1, keepdims=True) + epsilon)
    return ids, weights * scale


def sigmoid_of_logit(logits, bias, _config):
    """Kolibri1TopKRouter: chosen by logit plus bias, not renormalised."""
    ids = largest(logits + bias, K)
    return None if ids is None else (ids, sigmoid(np.take_along_axis(logits, ids, 1)))


def by_table(score, scale=1, epsilon=1e-20):
    """DeepseekV4HashRouter: ids are looked up."""
    def route(logits, ids, _config):
        weights = np.take_along_axis(score(logits), ids, 1)
        return ids, weights / (weights.sum(1, keepdims=True) + epsilon) * scale
    return route


def with_sinks(scale, sinks):
    """InklingTopkRouter: a softmax of the log-sigmoids of the chosen and of all shared experts, which come first here."""
    def route(logits, bias, _config):
        ids = largest(sigmoid(logits[:, :E]) + bias, K)
        if ids is None:
            return None
        every = np.broadcast_to(np.arange(E, E + sinks), (len(logits), sinks))
        ids = np.concatenate([every, ids], axis=1)
        logarithms = -np.log1p(np.exp(-np.take_along_axis(logits, ids, 1)))
        return ids, softmax(logarithms) * scale
    return route


def sqrt_softplus(x):
    return np.sqrt(np.log1p(np.exp(x)))


def sigmoid_by_logit(logits, _bias, _config):
    """Command A+: chosen by logit, weighted by renormalised sigmoids."""
    ids = largest(logits, K)
    if ids is None:
        return None
    weights = sigmoid(np.take_along_axis(logits, ids, 1))
    return ids, weights / weights.sum(1, keepdims=True)


def lfm2(logits, bias, config):
    return by_sigmoid(logits, bias, config, 1e-6)


# Names of tensors: from an expert's matrices to tensors

SPLIT = ("gate_proj", "up_proj", "down_proj")


def one_by_one(experts, block, names=SPLIT):
    """A tensor for each matrix."""
    roles = ("gate", "up", "down")
    return {f"{block}.experts.{number}.{name}.weight": expert[role]
            for number, expert in enumerate(experts) for role, name in zip(roles, names) if role in expert}


def stacked(experts, block, inputs_first=False):
    """Two tensors, as in Transformers 5."""
    both = np.stack([np.concatenate([expert["gate"], expert["up"]]) for expert in experts])
    down = np.stack([expert["down"] for expert in experts])
    turn = (lambda matrix: np.swapaxes(matrix, 1, 2)) if inputs_first else (lambda matrix: matrix)
    return {f"{block}.experts.gate_up_proj": turn(both), f"{block}.experts.down_proj": turn(down)}


def granite_stacks(experts, block):
    names = stacked(experts, block)
    return {f"{block}.input_linear.weight": names[f"{block}.experts.gate_up_proj"],
            f"{block}.output_linear.weight": names[f"{block}.experts.down_proj"]}


def moondream_stacks(experts, block):
    names = stacked(experts, block)
    return {f"{block}.fc1.weight": names[f"{block}.experts.gate_up_proj"],
            f"{block}.fc2.weight": names[f"{block}.experts.down_proj"]}


def up_before_gate(experts, block):
    """HunyuanImage 3.0."""
    return {name: tensor for number, expert in enumerate(experts)
            for name, tensor in up_before_gate_of(f"{block}.experts.{number}")(expert).items()}


def up_before_gate_of(prefix):
    return lambda expert: {f"{prefix}.gate_and_up_proj.weight": np.concatenate([expert["up"], expert["gate"]]),
                           f"{prefix}.down_proj.weight": expert["down"]}


def three_stacks(experts, block):
    """Step 3.5: a tensor for each role."""
    return {f"{block}.{role}_proj.weight": np.stack([expert[role] for expert in experts]) for role in ("gate", "up", "down")}


def aria_stacks(experts, block):
    names = stacked(experts, block, inputs_first=True)
    return {f"{block}.experts.fc1.weight": names[f"{block}.experts.gate_up_proj"],
            f"{block}.experts.fc2.weight": names[f"{block}.experts.down_proj"]}


def matrices(random, width, gated=True, hidden=H):
    shapes = {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}
    drawn = {role: random.normal(0, shape[1] ** -0.5, shape).astype(np.float32) for role, shape in shapes.items()}
    return drawn if gated else {role: drawn[role] for role in ("up", "down")}


def layer(config, block, route, *, store=one_by_one, router="gate.weight", bias=None, shared=None, shared_width=0,
          shared_gate=None, residual=None, own_input=None, apart=False, table=None, latent=None, identity=0, sum_bias=None, average=False,
          sinks=0, sink_names=None, factor=None, adjugates=None,
          gated=True, activate=swiglu, activate_shared=None, index=1, text=False):
    """
    A case: `block` is the prefix of the MoE block's names; `shared(matrices)` names the shared expert's tensors;
    `residual` is the prefix of a biased softmax over the routed and the shared experts; `own_input` names the scale of the
    router's normalised input, which is not the experts', and the experts' scales; `apart` has such an input as it is; `table` is the name and the type of a table
    with the experts of each token id, which `route` gets in place of the bias; `latent` names the projections to the
    routed experts and back, and perhaps the weight of a norm of their sum; after the experts come `identity` that
    return their input; `sum_bias` names a bias of the sum of the experts; `average` halves that sum, and the weights
    with it; `activate_shared` is the shared expert's activation, if it differs; `sinks` shared experts have logits of the
    router, after the others, and names by `sink_names`; `factor` names that of all weights, already in `route`; `adjugates`
    are the width of experts that every two share, their factor, and their names.
    """
    activate = activate if gated else squared_relu

    def build(random):
        tensors = {}
        scored = E + identity + sinks
        weights = random.normal(0, 1.5 * H**-0.5, (scored, H)).astype(np.float32)
        tensors[f"{block}.{router}"] = weights
        correction = np.zeros(scored)
        if bias is not None:
            tensors[f"{block}.{bias}"] = random.normal(0, 0.2, scored - sinks).astype(np.float32)
            correction = tensors[f"{block}.{bias}"].astype(np.float64)
        if table is not None:
            name, kind = table
            rows_of_ids = [random.permutation(E)[:K] for _ in range(config["vocab_size"])]
            tensors[f"{block}.{name}"] = np.stack(rows_of_ids).astype(kind)
            token_ids = random.integers(0, config["vocab_size"], T)
            correction = tensors[f"{block}.{name}"][token_ids]
        experts = [matrices(random, I, gated, L if latent else H) for _ in range(E)]
        tensors |= store(experts, block)
        if sinks:
            experts += [matrices(random, I) for _ in range(sinks)]
            tensors |= sink_names(experts[E:], block)
        if factor:
            name, value = factor
            tensors[f"{block}.{name}"] = np.array([value], np.float32)
        small = []
        if adjugates:
            width, small_factor, names = adjugates
            small = [matrices(random, width) for _ in range(E // 2)]
            for expert in small:  # times 0.05, these are floats
                expert["down"] = (np.round(expert["down"] * 2**14 / 20) * 20 / 2**14).astype(np.float32)
            tensors |= names(small, block)
        common = matrices(random, shared_width, gated) if shared else None
        if common:
            tensors |= shared(common)
        if shared_gate:
            tensors[f"{block}.{shared_gate}"] = random.normal(0, H**-0.5, (1, H)).astype(np.float32)
        if residual:
            tensors[f"{block}.{residual}.weight"] = random.normal(0, H**-0.5, (2, H)).astype(np.float32)
            tensors[f"{block}.{residual}.bias"] = random.normal(0, 0.5, 2).astype(np.float32)

        if own_input:
            for name, count in zip(own_input, (H, E)):
                tensors[f"{block}.{name}"] = random.normal(1, 0.3, count).astype(np.float32)

        if sum_bias:
            tensors[f"{block}.{sum_bias}"] = random.normal(0, 1, H).astype(np.float32)
        if latent:
            for name, shape in zip(latent, ((L, H), (H, L), (L,))):
                tensors[f"{block}.{name}"] = random.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)

        def of_latent(name, x):
            return x @ tensors[f"{block}.{name}"].astype(np.float64).T

        def normalised(x):
            """KimiRMSNorm, if there is one."""
            if len(latent) == 2:
                return x
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"]) * tensors[f"{block}.{latent[2]}"]

        def read(x):
            """Gemma4TextRouter up to its projection."""
            normalised = x / np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
            return normalised * tensors[f"{block}.{own_input[0]}"].astype(np.float64) * H**-0.5

        def run(expert, x, activate=activate):
            if expert is None:
                return x
            wide = {role: matrix.astype(np.float64) for role, matrix in expert.items()}
            return activate(x @ wide["gate"].T if gated else None, x @ wide["up"].T) @ wide["down"].T

        for _ in range(10_000):
            x = random.normal(0, 1, (T, H)).astype(np.float32)
            rows = x.astype(np.float64)
            router_input = random.normal(0, 1, (T, H)).astype(np.float32) if own_input or apart else None
            router_rows = rows if router_input is None else router_input.astype(np.float64)
            if own_input:
                router_rows = read(router_rows)
            routed = route(router_rows @ weights.astype(np.float64).T, correction, config)
            if routed:
                break
        else:
            raise RuntimeError("no input whose choices are clear")
        ids, factors = routed
        if own_input:
            factors = factors * tensors[f"{block}.{own_input[1]}"].astype(np.float64)[ids]
        every = experts + [None] * identity
        inputs = of_latent(latent[0], rows) if latent else rows
        output = np.stack([sum(weight * run(every[expert], row) for expert, weight in zip(*each))
                           for row, *each in zip(inputs, ids, factors)])
        if small:
            output += small_factor * np.stack([sum(weight * run(small[expert // 2], row) for expert, weight in zip(*each))
                                               for row, *each in zip(inputs, ids, factors)])
        if latent:
            output = of_latent(latent[1], normalised(output))
        if sum_bias:
            output += tensors[f"{block}.{sum_bias}"].astype(np.float64)
        if residual:
            weight, offset = (tensors[f"{block}.{residual}.{kind}"].astype(np.float64) for kind in ("weight", "bias"))
            share = softmax(rows @ weight.T + offset)
            output = share[:, :1] * output + share[:, 1:] * run(common, rows)
        elif common:
            added = run(common, rows, activate_shared or activate)
            output += sigmoid(rows @ tensors[f"{block}.{shared_gate}"].astype(np.float64).T) * added if shared_gate else added
        if average:
            output, factors = output / 2, factors / 2
        whole = {**({"model_type": text} if isinstance(text, str) else text), "text_config": config} if text else config
        results = {"x": x[None], "ids": ids.astype(np.int32), "weights": factors, "output": output[None]}
        if router_input is not None:
            results["router_input"] = router_input[None]
        if table is not None:
            results["token_ids"] = token_ids.astype(np.int32)[None]
        return whole, tensors, results, index
    return build


def renamed(build, rename):
    """A case whose tensors `rename` changes."""
    def changed(random):
        config, tensors, results, index = build(random)
        return config, rename(tensors, random), results, index
    return changed


def interleaved(prefix):
    """Inkling's own stacks, gate and up rows by turns."""
    return lambda experts, block: {
        f"{block}.{prefix}w13_weight": np.stack([np.stack([expert["gate"], expert["up"]], 1).reshape(2 * I, H) for expert in experts]),
        f"{block}.{prefix}w2_weight": np.stack([expert["down"] for expert in experts])}


def inkling_shared(experts, block):
    """As Transformers stacks them."""
    return {f"{block}.shared_experts.{role}_proj": np.stack([expert[role] for expert in experts]) for role in ("gate", "up", "down")}


def chunks(experts, block):
    """GroveMoE's adjugate experts."""
    return {name.replace(".experts.", ".chunk_experts."): tensor for name, tensor in one_by_one(experts, block).items()}


def ernie_vl(images):
    """Ernie4_5_VLMoeMoeBlock for tokens of text or of images, under the names of published files."""
    widths = [14, I] if images else [I, 6]
    config = {"model_type": "ernie4_5_moe_vl", "hidden_size": H, "num_hidden_layers": 2, "hidden_act": "silu", "moe_k": K,
              "moe_num_experts": [E, E], "moe_intermediate_size": widths, "moe_num_shared_experts": 2, "intermediate_size": 30,
              "moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28], "moe_layer_interval": 1, "use_bias": False}
    block = "model.layers.1.mlp"

    def names(tensors, random):
        bias = tensors.pop(f"{block}.bias")
        other = random.normal(0, 0.2, E).astype(np.float32)
        tensors[f"{block}.moe_statics.e_score_correction_bias"] = np.stack([other, bias] if images else [bias, other])
        router = tensors.pop(f"{block}.router").T
        tensors[f"{block}.gate.weight{'_1' if images else ''}"] = router
        return tensors

    def store(experts, block):
        return {f"{block}.experts.{number + (E if images else 0)}.{role}_proj.weight": expert[role]
                for number, expert in enumerate(experts) for role in ("gate", "up", "down")}

    return renamed(layer(config, block, by_scores(softmax, epsilon=0), router="router", bias="bias", store=store,
                         shared=modules(f"{block}.shared_experts"), shared_width=2 * widths[0], index=3 if images else 1), names)


def ernie_vl_transformers(images):
    """The same as Transformers names and stacks it."""
    widths = [14, I] if images else [I, 6]
    config = {"model_type": "ernie4_5_vl_moe_text", "hidden_size": H, "num_hidden_layers": 2, "hidden_act": "silu", "moe_k": K,
              "moe_num_experts": E, "moe_intermediate_size": widths, "moe_num_shared_experts": 2, "intermediate_size": 30,
              "mlp_layer_types": ["dense", "sparse"], "use_bias": False}
    block = "model.language_model.layers.1.mlp"
    own = f"{block}.{'vision' if images else 'text'}_moe"
    bias = f"{own}.gate.moe_statics.e_score_correction_bias"
    return renamed(layer(config, own, by_scores(softmax, epsilon=0), bias="gate.moe_statics.e_score_correction_bias", store=stacked,
                         shared=modules(f"{block}.shared_experts"), shared_width=2 * widths[0], index=3 if images else 1,
                         text="ernie4_5_vl_moe"),
                   lambda tensors, _random: tensors | {bias: tensors[bias][None]})


def modules(block, names=SPLIT):
    return lambda expert: {f"{block}.{name}.weight": expert[role]
                           for role, name in zip(("gate", "up", "down"), names) if role in expert}


def fused(prefix, gate_up, down):
    return lambda expert: {f"{prefix}.{gate_up}.weight": np.concatenate([expert["gate"], expert["up"]]),
                           f"{prefix}.{down}.weight": expert["down"]}


def granite_shared(prefix):
    return fused(prefix, "input_linear", "output_linear")


MIXTRAL = ("w1", "w3", "w2")


def mixtral_names(experts, block):
    return one_by_one(experts, block, MIXTRAL)


common = {"hidden_size": H, "num_hidden_layers": 2, "num_experts_per_tok": K, "hidden_act": "silu"}
qwen = common | {"num_experts": E, "moe_intermediate_size": I, "intermediate_size": 30}
deepseek = common | {"n_routed_experts": E, "moe_intermediate_size": I, "intermediate_size": 30, "n_shared_experts": 2,
                     "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.8}
bailing = qwen | {"model_type": "bailing_moe", "num_shared_experts": 2, "first_k_dense_replace": 1, "norm_topk_prob": True}
gemma4 = {"hidden_size": H, "num_hidden_layers": 2, "num_experts": E, "top_k_experts": K, "moe_intermediate_size": I,
          "intermediate_size": 30, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-3}
granite = common | {"num_local_experts": E, "intermediate_size": I, "shared_intermediate_size": 14}

step = {"model_type": "step3p5", "hidden_size": H, "num_hidden_layers": 2, "moe_num_experts": E, "moe_top_k": K,
        "moe_intermediate_size": I, "share_expert_dim": 14, "moe_layers_enum": "1", "moe_router_activation": "sigmoid",
        "moe_router_scaling_factor": 3.0, "norm_expert_weight": True, "use_moe_router_bias": True, "swiglu_limits": [7.0, 0.0],
        "swiglu_limits_shared": [16.0, 0.0]}
kimi = {"model_type": "kimi_linear", "hidden_size": H, "num_hidden_layers": 2, "hidden_act": "silu", "num_experts": E,
        "num_experts_per_token": K, "moe_intermediate_size": I, "intermediate_size": 30, "num_shared_experts": 1,
        "first_k_dense_replace": 1, "moe_layer_freq": 1, "moe_router_activation_func": "sigmoid", "moe_renormalize": True,
        "routed_scaling_factor": 2.446}
minimax_m3 = {"hidden_size": H, "num_hidden_layers": 2, "num_experts_per_tok": K, "num_local_experts": E, "intermediate_size": I,
              "dense_intermediate_size": 30, "shared_intermediate_size": 14, "routed_scaling_factor": 2.0, "swiglu_alpha": 1.702,
              "swiglu_limit": 0.8}
deepseek_v4 = common | {"model_type": "deepseek_v4", "n_routed_experts": E, "n_shared_experts": 1, "moe_intermediate_size": I,
                        "routed_scaling_factor": 1.5, "swiglu_limit": 0.7}


def glm(config, block="model.layers.1.mlp", shared_width=None, **more):
    """DeepseekV3MoE of Transformers, which the others inherit."""
    return layer(config, block, by_sigmoid, bias="gate.e_score_correction_bias", shared=modules(f"{block}.shared_experts"),
                 shared_width=shared_width or config["n_shared_experts"] * I, **more)


def gemma(config, block, **more):
    """Gemma4TextRouter and Gemma4TextExperts, which DiffusionGemma inherits."""
    return layer(config, block, by_softmax, router="router.proj.weight", activate=gelu_tanh_gated,
                 own_input=("router.scale", "router.per_expert_scale"), **more)


def smallthinker(softmax_of_chosen, route):
    config = {"model_type": "smallthinker", "hidden_size": H, "num_hidden_layers": 2, "moe_num_primary_experts": E,
              "moe_num_active_primary_experts": K, "moe_ffn_hidden_size": I,
              "moe_primary_router_apply_softmax": softmax_of_chosen}
    return layer(config, "model.layers.1.block_sparse_moe", route, router="primary_router.weight", apart=True,
                 store=lambda experts, block: one_by_one(experts, block, ("gate", "up", "down")), activate=relu_gated)


def qwen_shared(config, block, **more):
    """Qwen3NextSparseMoeBlock."""
    return layer(config | {"shared_expert_intermediate_size": 14}, block, by_softmax, shared=modules(f"{block}.shared_expert"),
                 shared_width=14, shared_gate="shared_expert_gate.weight", **more)


def pangu(model_type, config, bias=None):
    """OpenPanguMoE"""
    return layer(common | {"model_type": model_type, "moe_intermediate_size": I, "intermediate_size": 30, "norm_topk_prob": True,
                           "routed_scaling_factor": 2.5} | config,
                 "model.layers.1.mlp", by_scores(sigmoid, scale=2.5), bias=bias, shared=modules("model.layers.1.mlp.shared_experts"),
                 shared_width=2 * I)


inkling = {"hidden_size": H, "num_hidden_layers": 2, "num_experts_per_tok": K, "n_routed_experts": E, "n_shared_experts": 2,
           "route_scale": 8.0, "shared_expert_sink": True}

cases = {
    "qwen3_next": qwen_shared(qwen | {"model_type": "qwen3_next"}, "model.layers.1.mlp"),
    # The same block with the fields of AliceAIConfig of vLLM
    "alice_ai": layer(
        qwen | {"model_type": "alice_ai", "shared_expert_intermediate_size": 14, "router_score_function": "sigmoid",
                "router_bias_correction": True},
        "model.layers.1.mlp", by_scores(sigmoid), bias="gate.e_score_correction_bias",
        shared=modules("model.layers.1.mlp.shared_expert"), shared_width=14, shared_gate="shared_expert_gate.weight"),
    "qwen3_5_moe": qwen_shared(qwen | {"model_type": "qwen3_5_moe_text"}, "model.language_model.layers.1.mlp", store=stacked,
                               text="qwen3_5_moe"),
    # Qwen3VLMoeTextSparseMoeBlock
    "qwen3_vl_moe": layer(qwen | {"model_type": "qwen3_vl_moe_text"}, "model.language_model.layers.0.mlp", by_softmax, index=0,
                          store=lambda experts, block: stacked(experts, block, inputs_first=True), text="qwen3_vl_moe"),
    "glm4v_moe": glm(deepseek | {"model_type": "glm4v_moe_text", "first_k_dense_replace": 1}, "model.language_model.layers.1.mlp",
                     text="glm4v_moe"),
    "glm4_moe_lite": glm(deepseek | {"model_type": "glm4_moe_lite", "mlp_layer_types": ["dense", "sparse"]}),
    "glm_moe_dsa": glm(deepseek | {"model_type": "glm_moe_dsa", "first_k_dense_replace": 1}, store=stacked),
    "glm5_next": glm(deepseek | {"model_type": "glm5_next_text", "mlp_layer_types": ["dense", "sparse"], "swiglu_limit": 0.7},
                     "model.language_model.layers.1.mlp", text="glm5_next", activate=clamped_swiglu(1, 0.7, 0)),
    # GigaChat35MoE of vLLM
    "gigachat3_5": glm(deepseek | {"model_type": "gigachat3_5", "first_k_dense_replace": 1, "scoring_func": "sigmoid",
                                   "swiglu_limit": 0.7, "use_shared_expert_sigmoid": False},
                       activate=clamped_swiglu(1, 0.7, 0)),
    # HYV4MoE, whose shared expert has no limit
    "hy_v4": glm(deepseek | {"model_type": "hy_v4", "mlp_layer_types": ["dense", "sparse"], "swiglu_limit": 0.7}, store=stacked,
                 activate=clamped_swiglu(1, 0.7, 0), activate_shared=swiglu),
    "dots1": glm(deepseek | {"model_type": "dots1", "first_k_dense_replace": 1, "norm_topk_prob": False}),
    # BailingMoeSparseMoeBlock
    "bailing_moe": layer(bailing, "model.layers.1.mlp", by_softmax, shared=modules("model.layers.1.mlp.shared_experts"),
                         shared_width=2 * I),
    # BailingMoeV2SparseMoeBlock and BailingMoeV2Gate
    "bailing_moe_v2": layer(
        bailing | {"architectures": ["BailingMoeV2ForCausalLM"], "score_function": "sigmoid", "n_group": 4, "topk_group": 2,
                   "routed_scaling_factor": 2.5, "moe_router_enable_expert_bias": True},
        "model.layers.1.mlp", by_sigmoid, bias="gate.expert_bias", shared=modules("model.layers.1.mlp.shared_experts"),
        shared_width=2 * I),
    # A layer of Ling 3 of which the shared expert alone is limited
    "bailing_hybrid": layer(
        bailing | {"model_type": "bailing_hybrid", "score_function": "sigmoid", "n_group": 1, "topk_group": 1,
                   "routed_scaling_factor": 2.5, "moe_router_enable_expert_bias": True, "expert_swiglu_limit_list": [0, 0],
                   "share_expert_swiglu_limit_list": [0, 0.5]},
        "model.layers.1.mlp", by_sigmoid, bias="gate.expert_bias", shared=modules("model.layers.1.mlp.shared_experts"),
        shared_width=2 * I, activate_shared=swiglu_clamped_after(0.5)),
    # SarvamMoEGate of modeling_sarvam_moe.py, and SarvamMLAMoE of vLLM
    "sarvam_moe": layer(
        bailing | {"model_type": "sarvam_moe", "num_shared_experts": 1, "n_group": 1, "topk_group": 1, "routed_scaling_factor": 2.5,
                   "moe_router_enable_expert_bias": True},
        "model.layers.1.mlp", by_sigmoid, bias="gate.expert_bias", shared=modules("model.layers.1.mlp.shared_experts"),
        shared_width=I),
    "sarvam_mla": layer(
        bailing | {"model_type": "sarvam_mla", "num_shared_experts": 1, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5},
        "model.layers.1.mlp", by_sigmoid, bias="gate.e_score_correction_bias",
        shared=modules("model.layers.1.mlp.shared_experts"), shared_width=I),
    # Param2MoEMoEBlock of vLLM
    "param2moe": layer(
        bailing | {"model_type": "param2moe", "score_function": "sigmoid", "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5,
                   "moe_router_enable_expert_bias": True, "moe_shared_expert_intermediate_size": 14},
        "model.layers.1.mlp", by_sigmoid, bias="gate.expert_bias", shared=modules("model.layers.1.mlp.shared_experts"),
        shared_width=14),
    # As modeling_openpangu_moe.py has the fields and names, and as vLLM and modeling_pangu_moe.py have them
    "pangu_ultra_moe": pangu("pangu_ultra_moe", {"num_routed_experts": E, "num_shared_experts": 2, "num_dense_layers": 1}),
    "openpangu_v2": pangu("openpangu_v2", {"n_routed_experts": E, "n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 1,
                                           "topk_group": 1, "router_enable_expert_bias": True}, "gate.e_score_correction_bias"),
    "pangu_pro_moe_v2": pangu(
        "pangu_pro_moe_v2", {"architectures": ["PanguProMoEV2ForCausalLM"], "n_routed_experts": E, "n_shared_experts": 2,
                             "first_k_dense_replace": 1, "router_enable_expert_bias": True}, "e_score_correction_bias"),
    # moe_mlp of Moondream's text.py
    "moondream3": layer(
        {"model_type": "moondream3", "architectures": ["HfMoondream"], "config": {"skills": ["query"], "text": {
            "dim": H, "n_layers": 2,
            "moe": {"num_experts": E, "start_layer": 1, "experts_per_token": K, "expert_inner_dim": I}}}},
        "model.text.blocks.1.mlp", lambda logits, bias, config: over_chosen(logits + bias, None, config), router="router.weight",
        bias="router.bias", store=moondream_stacks, activate=gelu_with_one_more),
    # HunyuanMoE of HunyuanImage 3.0
    "hunyuan_image_3": layer(
        {"model_type": "hunyuan_image_3_moe", "hidden_size": H, "num_hidden_layers": 2, "hidden_act": "silu", "mlp_bias": False,
         "num_experts": E, "moe_topk": [K, K], "moe_intermediate_size": [I, I], "intermediate_size": I, "num_shared_expert": [2, 1],
         "use_mixed_mlp_moe": True, "moe_layer_num_skipped": 0, "norm_topk_prob": True},
        "model.layers.0.mlp", by_softmax, router="gate.wg.weight", store=up_before_gate, index=0,
        shared=up_before_gate_of("model.layers.0.mlp.shared_mlp"), shared_width=2 * I),
    # ArcticMoE
    "arctic": layer(common | {"model_type": "arctic", "num_local_experts": E, "intermediate_size": I, "moe_layer_frequency": 2,
                              "parallel_attn_mlp_res": True},
                    "model.layers.1.block_sparse_moe", by_softmax, store=mixtral_names),
    # MiniCPMMoE
    "minicpm": layer(common | {"model_type": "minicpm", "num_experts": E, "intermediate_size": I},
                     "model.layers.1.mlp", by_softmax, store=mixtral_names),
    # Step3vMoEMLP of modeling_step3.py
    "step3": layer(
        {"model_type": "step3_text", "hidden_size": H, "num_hidden_layers": 2, "moe_num_experts": E, "moe_top_k": K,
         "moe_intermediate_size": I, "share_expert_dim": 14, "moe_layers_enum": "1", "norm_expert_weight": False},
        "model.layers.1.moe", as_it_is, store=three_stacks, shared=modules("model.layers.1.share_expert"), shared_width=14,
        text="step3_vl"),
    # MiniMaxM2SparseMoeBlock
    "minimax_m2": layer(common | {"model_type": "minimax_m2", "num_local_experts": E, "intermediate_size": I, "scoring_func": "sigmoid",
                                  "use_routing_bias": True},
                        "model.layers.1.block_sparse_moe", by_sigmoid, bias="e_score_correction_bias",
                        store=lambda experts, block: one_by_one(experts, block, ("w1", "w3", "w2"))),
    # Lfm2MoeSparseMoeBlock
    "lfm2_moe": layer(qwen | {"model_type": "lfm2_moe", "num_dense_layers": 1, "norm_topk_prob": True, "use_expert_bias": True,
                              "routed_scaling_factor": 1.0},
                      "model.layers.1.feed_forward", lfm2, bias="expert_bias",
                      store=lambda experts, block: one_by_one(experts, block, ("w1", "w3", "w2"))),
    # GraniteMoeSharedDecoderLayer and GraniteMoeHybridDecoderLayer, without norm and residual
    "granitemoeshared": layer(granite | {"model_type": "granitemoeshared"}, "model.layers.0.block_sparse_moe", over_chosen,
                              router="router.layer.weight", store=granite_stacks, index=0,
                              shared=granite_shared("model.layers.0.shared_mlp"), shared_width=14),
    "granitemoehybrid": layer(granite | {"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"]},
                              "model.layers.1.block_sparse_moe", over_chosen, router="router.layer.weight", store=granite_stacks,
                              shared=granite_shared("model.layers.1.shared_mlp"), shared_width=14),
    # NemotronHMoE
    "nemotron_h": layer(
        common | {"model_type": "nemotron_h", "hybrid_override_pattern": "ME*E", "num_hidden_layers": 4, "mlp_hidden_act": "relu2",
                  "n_routed_experts": E, "moe_intermediate_size": I, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
                  "moe_shared_expert_intermediate_size": 21, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "mlp_bias": False},
        "backbone.layers.3.mixer", by_sigmoid, bias="gate.e_score_correction_bias", index=3, gated=False,
        shared=modules("backbone.layers.3.mixer.shared_experts"), shared_width=21),
    # The same with moe_latent_size
    "nemotron_h_latent": layer(
        common | {"model_type": "nemotron_h", "hybrid_override_pattern": "ME*E", "num_hidden_layers": 4, "mlp_hidden_act": "relu2",
                  "n_routed_experts": E, "moe_intermediate_size": I, "moe_latent_size": L, "n_shared_experts": 1, "n_group": 1,
                  "topk_group": 1, "moe_shared_expert_intermediate_size": 21, "norm_topk_prob": True, "routed_scaling_factor": 5.0,
                  "mlp_bias": False},
        "backbone.layers.3.mixer", by_sigmoid, bias="gate.e_score_correction_bias", index=3, gated=False,
        shared=modules("backbone.layers.3.mixer.shared_experts"), shared_width=21,
        latent=("fc1_latent_proj.weight", "fc2_latent_proj.weight")),
    # A block of NemotronHPuzzleConfig, which has sizes of its own
    "nemotron_h_puzzle": layer(
        {"model_type": "nemotron_h_puzzle", "hidden_size": H, "mlp_hidden_act": "relu2", "n_shared_experts": 1, "n_group": 1,
         "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "mlp_bias": False, "block_configs": [
             {"block_type": "mamba"},
             {"block_type": "moe", "n_routed_experts": E, "num_experts_per_tok": 1, "moe_intermediate_size": 6, "moe_latent_size": 4,
              "moe_shared_expert_intermediate_size": 9},
             {"block_type": "attention"},
             {"block_type": "moe", "n_routed_experts": E, "num_experts_per_tok": K, "moe_intermediate_size": I, "moe_latent_size": L,
              "moe_shared_expert_intermediate_size": 21}]},
        "model.layers.3.mixer", by_scores(sigmoid, scale=2.5), bias="gate.e_score_correction_bias", index=3, gated=False,
        shared=modules("model.layers.3.mixer.shared_experts"), shared_width=21,
        latent=("fc1_latent_proj.weight", "fc2_latent_proj.weight")),
    # AfmoeMoE, and with groups Arcee's own class
    "afmoe": layer(
        qwen | {"model_type": "afmoe", "num_dense_layers": 1, "num_shared_experts": 2, "score_func": "sigmoid", "route_norm": True,
                "route_scale": 2.826, "n_group": 2, "topk_group": 1},
        "model.layers.1.mlp", by_scores(sigmoid, groups=2, top=1, scale=2.826), router="router.gate.weight", bias="expert_bias",
        shared=modules("model.layers.1.mlp.shared_experts"), shared_width=2 * I),
    # ExaoneMoeSparseMoEBlock
    "exaone_moe": layer(
        qwen | {"model_type": "exaone_moe", "is_moe_layer": [False, True], "num_shared_experts": 1, "scoring_func": "sigmoid",
                "topk_method": "noaux_tc", "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5},
        "model.layers.1.mlp", by_scores(sigmoid, scale=2.5), bias="e_score_correction_bias",
        shared=modules("model.layers.1.mlp.shared_experts"), shared_width=I),
    # HYV3MoE
    "hy_v3": layer(
        qwen | {"model_type": "hy_v3", "first_k_dense_replace": 1, "num_shared_experts": 1, "route_norm": True,
                "moe_router_use_sigmoid": True, "moe_router_enable_expert_bias": True, "router_scaling_factor": 2.826},
        "model.layers.1.mlp", by_scores(sigmoid, scale=2.826), router="router.gate.weight", bias="expert_bias",
        shared=modules("model.layers.1.mlp.shared_mlp"), shared_width=I),
    # KimiSparseMoeBlock of modeling_kimi.py
    "kimi_linear": layer(
        kimi | {"use_grouped_topk": True, "num_expert_group": 2, "topk_group": 1},
        "model.layers.1.block_sparse_moe", by_scores(sigmoid, groups=2, top=1, scale=2.446), bias="gate.e_score_correction_bias",
        store=mixtral_names, shared=modules("model.layers.1.block_sparse_moe.shared_experts"), shared_width=I),
    # KimiSparseMoeBlock of Kimi K3
    "kimi_linear_latent": layer(
        kimi | {"hidden_act": "situ", "activation_situ_beta": 0.8, "activation_situ_linear_beta": 1.5, "num_shared_experts": 2,
                "routed_scaling_factor": 1.0, "rms_norm_eps": 1e-2, "routed_expert_hidden_size": L, "latent_moe_use_norm": True},
        "language_model.model.layers.1.block_sparse_moe", by_scores(sigmoid), bias="gate.e_score_correction_bias",
        store=mixtral_names, shared=modules("language_model.model.layers.1.block_sparse_moe.shared_experts"), shared_width=2 * I,
        latent=("routed_expert_down_proj.weight", "routed_expert_up_proj.weight", "routed_expert_norm.weight"),
        activate=situ(0.8, 1.5), text="kimi_k3"),
    # Its activation alone
    "kimi_linear_situ": layer(
        kimi | {"hidden_act": "situ", "activation_situ_beta": 0.8, "activation_situ_linear_beta": 1.5},
        "model.layers.1.block_sparse_moe", by_scores(sigmoid, scale=2.446), bias="gate.e_score_correction_bias",
        store=mixtral_names, shared=modules("model.layers.1.block_sparse_moe.shared_experts"), shared_width=I,
        activate=situ(0.8, 1.5)),
    # Kolibri1SparseMoeBlock
    "kolibri1": layer(
        qwen | {"model_type": "kolibri1", "shared_expert_intermediate_size": 14, "norm_topk_prob": False},
        "model.layers.1.mlp", sigmoid_of_logit, bias="gate.e_score_correction_bias",
        shared=modules("model.layers.1.mlp.shared_experts"), shared_width=14),
    # LagunaSparseMoeBlock
    "laguna": layer(
        qwen | {"model_type": "laguna", "mlp_layer_types": ["dense", "sparse"], "shared_expert_intermediate_size": 14,
                "moe_routed_scaling_factor": 2.5, "moe_apply_router_weight_on_input": False, "moe_router_logit_softcapping": 0.0},
        "model.layers.1.mlp", by_scores(sigmoid, scale=2.5, epsilon=0), bias="experts.e_score_correction_bias",
        shared=modules("model.layers.1.mlp.shared_expert"), shared_width=14),
    # Step3p7SparseMoeBlock, under the names of published files and under its own
    "step3p5": layer(step, "model.layers.1.moe", by_scores(sigmoid, scale=3), bias="router_bias", store=three_stacks,
                     shared=modules("model.layers.1.share_expert"), shared_width=14),
    "step3p5_limited": layer(
        step | {"swiglu_limits": [0.0, 0.4], "swiglu_limits_shared": [0.0, 0.9]}, "model.layers.1.moe", by_scores(sigmoid, scale=3),
        bias="router_bias", store=three_stacks, shared=modules("model.layers.1.share_expert"), shared_width=14,
        activate=swiglu_clamped_after(0.4), activate_shared=swiglu_clamped_after(0.9)),
    "step3p5_transformers": layer(
        common | {"model_type": "step3p5", "mlp_layer_types": ["dense", "sparse"], "n_routed_experts": E, "moe_intermediate_size": I,
                  "share_expert_dim": 14, "moe_router_scaling_factor": 3.0},
        "model.language_model.layers.1.mlp", by_scores(sigmoid, scale=3), bias="gate.e_score_correction_bias", store=stacked,
        shared=modules("model.language_model.layers.1.mlp.shared_experts"), shared_width=14, text="step3p7"),
    # MiniMaxM3VLSparseMoeBlock, likewise
    "minimax_m3": layer(
        minimax_m3 | {"hidden_act": "swigluoai", "architectures": ["MiniMaxM3SparseForCausalLM"], "moe_layer_freq": [0, 1],
                      "n_shared_experts": 1, "scoring_func": "sigmoid", "use_routing_bias": True},
        "language_model.model.layers.1.block_sparse_moe", by_scores(sigmoid, scale=2, epsilon=0), bias="e_score_correction_bias",
        store=mixtral_names, shared=modules("language_model.model.layers.1.block_sparse_moe.shared_experts"), shared_width=14,
        activate=clamped_swiglu(1.702, 0.8, 1), text="minimax_m3_vl"),
    "minimax_m3_transformers": layer(
        minimax_m3 | {"model_type": "minimax_m3_vl_text", "hidden_act": "silu", "mlp_layer_types": ["dense", "sparse"]},
        "model.language_model.layers.1.mlp", by_scores(sigmoid, scale=2, epsilon=0), bias="gate.e_score_correction_bias",
        store=stacked, shared=fused("model.language_model.layers.1.mlp.shared_experts", "gate_up_proj", "down_proj"),
        shared_width=14, activate=clamped_swiglu(1.702, 0.8, 1), text="minimax_m3_vl"),
    # DeepseekV4SparseMoeBlock, likewise
    "deepseek_v4": layer(
        deepseek_v4 | {"num_hash_layers": 1, "topk_method": "noaux_tc", "scoring_func": "sqrtsoftplus", "norm_topk_prob": True},
        "layers.1.ffn", by_scores(sqrt_softplus, scale=1.5), bias="gate.bias", store=mixtral_names,
        shared=modules("layers.1.ffn.shared_experts", MIXTRAL), shared_width=I, activate=clamped_swiglu(1, 0.7, 0)),
    "deepseek_v4_transformers": layer(
        deepseek_v4 | {"mlp_layer_types": ["hash_moe", "moe"]}, "model.layers.1.mlp", by_scores(sqrt_softplus, scale=1.5),
        bias="gate.e_score_correction_bias", store=stacked, shared=modules("model.layers.1.mlp.shared_experts"), shared_width=I,
        activate=clamped_swiglu(1, 0.7, 0)),
    # the same with DeepseekV4HashRouter
    "deepseek_v4_hash": layer(
        deepseek_v4 | {"num_hash_layers": 1, "vocab_size": 11, "topk_method": "noaux_tc", "scoring_func": "sqrtsoftplus"},
        "layers.0.ffn", by_table(sqrt_softplus, scale=1.5), table=("gate.tid2eid", np.int32), store=mixtral_names, index=0,
        shared=modules("layers.0.ffn.shared_experts", MIXTRAL), shared_width=I, activate=clamped_swiglu(1, 0.7, 0)),
    "deepseek_v4_hash_transformers": layer(
        deepseek_v4 | {"mlp_layer_types": ["hash_moe", "moe"], "vocab_size": 11}, "model.layers.0.mlp",
        by_table(sqrt_softplus, scale=1.5), table=("gate.tid2eid", np.int64), store=stacked, index=0,
        shared=modules("model.layers.0.mlp.shared_experts"), shared_width=I, activate=clamped_swiglu(1, 0.7, 0)),
    # Mistral4MoE
    "mistral4": layer(
        deepseek | {"model_type": "mistral4", "first_k_dense_replace": 0, "n_shared_experts": 1, "n_group": 2, "topk_group": 1},
        "language_model.model.layers.0.mlp", by_scores(softmax, groups=2, top=1, scale=1.8), index=0, text="mistral3",
        shared=modules("language_model.model.layers.0.mlp.shared_experts"), shared_width=I),
    # MiMoV2FlashSparseMoeBlock
    "mimo_v2_flash": layer(
        deepseek | {"model_type": "mimo_v2_flash", "moe_layer_freq": [0, 1], "n_shared_experts": None, "scoring_func": "sigmoid",
                    "topk_method": "noaux_tc", "routed_scaling_factor": None},
        "model.layers.1.mlp", by_scores(sigmoid), bias="gate.e_score_correction_bias"),
    # AriaTextMoELayer
    "aria": layer(
        {"model_type": "aria_text", "hidden_size": H, "num_hidden_layers": 2, "intermediate_size": I, "moe_num_experts": E,
         "moe_topk": K, "moe_num_shared_experts": 2},
        "language_model.model.layers.1.mlp", over_chosen, router="router.weight", store=aria_stacks, text="aria",
        shared=modules("language_model.model.layers.1.mlp.shared_experts"), shared_width=2 * I),
    # Cohere2MoeSparseMoeBlock
    "cohere2_moe": layer(
        common | {"model_type": "cohere2_moe", "first_k_dense_replace": 1, "num_experts": E, "intermediate_size": I,
                  "num_shared_experts": 2, "shared_expert_combination_strategy": "sum", "expert_selection_fn": "sigmoid",
                  "norm_topk_prob": True},
        "model.layers.1.mlp", sigmoid_by_logit, shared=modules("model.layers.1.mlp.shared_experts"), shared_width=2 * I),
    "cohere2_moe_average": layer(
        common | {"model_type": "cohere2_moe", "num_experts": E, "intermediate_size": I, "num_shared_experts": 2,
                  "shared_expert_combination_strategy": "average", "expert_selection_fn": "sigmoid", "norm_topk_prob": True},
        "model.layers.1.mlp", sigmoid_by_logit, shared=modules("model.layers.1.mlp.shared_experts"), shared_width=2 * I,
        average=True),
    "cohere2_moe_softmax": layer(
        common | {"model_type": "cohere2_moe", "num_experts": E, "intermediate_size": I, "expert_selection_fn": "softmax"},
        "model.layers.1.mlp", over_chosen, store=stacked),
    # KlearSparseMoeBlock of modeling_klear.py
    "klear": layer(
        qwen | {"model_type": "Klear", "decoder_sparse_step": 1, "mlp_only_layers": [0], "n_shared_experts": 2, "norm_topk_prob": True},
        "model.layers.1.mlp", by_scores(sigmoid, epsilon=0), bias="expert_bias", residual="coefficient",
        shared=modules("model.layers.1.mlp.shared_experts"), shared_width=2 * I),
    "gemma4": gemma(gemma4 | {"model_type": "gemma4_text", "enable_moe_block": True}, "model.language_model.layers.1",
                    store=stacked, text="gemma4"),
    "diffusion_gemma": gemma(gemma4 | {"model_type": "diffusion_gemma_text"}, "model.decoder.layers.0", index=0,
                             text="diffusion_gemma"),
    # JetMoeMoE
    "jetmoe": layer(
        {"model_type": "jetmoe", "hidden_size": H, "num_hidden_layers": 2, "num_local_experts": E, "num_experts_per_tok": K,
         "intermediate_size": I, "activation_function": "silu"},
        "model.layers.1.mlp", over_chosen, router="router.layer.weight", store=granite_stacks, sum_bias="bias"),
    # LongcatFlashMoE
    "longcat_flash": layer(
        {"model_type": "longcat_flash", "hidden_size": H, "num_layers": 2, "num_hidden_layers": 4, "ffn_hidden_size": 30,
         "expert_ffn_hidden_size": I, "moe_topk": K, "n_routed_experts": E, "zero_expert_num": 4, "zero_expert_type": "identity",
         "routed_scaling_factor": 6.0, "norm_topk_prob": False, "router_bias": False},
        "model.layers.1.mlp", by_scores(softmax, normalize=False, scale=6), router="router.classifier.weight",
        bias="router.e_score_correction_bias", identity=4),
    # Dots3NoteTextMoE
    "dots3_note": glm(
        deepseek | {"model_type": "dots3_note", "n_shared_experts": 1, "moe_shared_expert_intermediate_size": 2 * I,
                    "first_k_dense_replace": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "use_dynamic_rsf": False},
        shared_width=2 * I),
    # K2HorizonSparseMoeBlock
    "k2_horizon": layer(
        qwen | {"model_type": "k2_horizon", "mlp_only_layers": [0], "norm_topk_prob": True, "moe_gate_bias": True,
                "num_shared_experts": 2, "router_score_func": "sigmoid", "router_scaling_factor": 2.5},
        "model.layers.1.mlp", by_scores(sigmoid, scale=2.5, epsilon=0), bias="gate.bias",
        shared=modules("model.layers.1.mlp.shared_experts"), shared_width=2 * I),
    "k2_horizon_softmax": layer(
        qwen | {"model_type": "k2_horizon", "decoder_sparse_step": 2, "norm_topk_prob": False, "router_scaling_factor": None},
        "model.layers.1.mlp", by_softmax),
    # SmallThinkerMoeBlock
    "smallthinker": smallthinker(False, sigmoid_by_logit),
    "smallthinker_softmax": smallthinker(True, over_chosen),
    "ernie4_5_moe_vl": ernie_vl(False),
    "ernie4_5_moe_vl_images": ernie_vl(True),
    "ernie4_5_vl_moe": ernie_vl_transformers(False),
    "ernie4_5_vl_moe_images": ernie_vl_transformers(True),
    # InklingMoE, under the names of published files and its own
    "inkling": layer(
        inkling | {"intermediate_size": I, "dense_intermediate_size": 30, "dense_mlp_idx": 1, "gate_activation": "sigmoid",
                   "norm_after_topk": True, "use_gate_bias": True, "use_global_scale": True},
        "model.llm.layers.1.mlp", with_sinks(8 * 1.25, 2), bias="gate.bias", store=interleaved("experts."), sinks=2,
        sink_names=interleaved("shared_experts.shared_"), factor=("gate.global_scale", 1.25), text="inkling_mm_model"),
    "inkling_transformers": layer(
        inkling | {"model_type": "inkling_text", "moe_intermediate_size": I, "intermediate_size": 30,
                   "mlp_layer_types": ["dense", "sparse"], "hidden_act": "silu"},
        "model.language_model.layers.1.mlp", with_sinks(8 * 0.75, 2), bias="gate.e_score_correction_bias", store=stacked, sinks=2,
        sink_names=inkling_shared, factor=("gate.global_scale", 0.75), text="inkling_mm_model"),
    # GroveMoeSparseMoeBlock of modeling_grove_moe.py
    "grove_moe": layer(
        qwen | {"model_type": "grove_moe", "architectures": ["GroveMoeForCausalLM"], "decoder_sparse_step": 1, "mlp_only_layers": [],
                "norm_topk_prob": True},
        "model.layers.1.mlp", by_softmax, adjugates=(128, 0.05, chunks)),
    # DeepseekV41SparseMoeBlock, for tokens of text
    "deepseek_v41": renamed(
        layer(deepseek_v4 | {"model_type": "deepseek_v41_text", "topk_method": "noaux_tc", "scoring_func": "sqrtsoftplus",
                             "norm_topk_prob": True, "gate_temp": 1.0},
              "layers.1.ffn", by_scores(sqrt_softplus, scale=1.5), bias="gate.bias", store=mixtral_names,
              shared=modules("layers.1.ffn.shared_experts", MIXTRAL), shared_width=I, activate=clamped_swiglu(1, 0.7, 0),
              text="deepseek_v41"),
        lambda tensors, random: tensors | {"layers.1.ffn.gate.bias_vl": random.normal(0, 0.2, E).astype(np.float32)}),
    # GraniteMoeSWAMoE, as Transformers 5 names and stacks its tensors
    "granitemoe_swa": layer(granite | {"model_type": "granitemoe_swa", "shared_intermediate_size": 0},
                            "model.layers.1.block_sparse_moe", over_chosen, router="router.weight", store=stacked),
}

dtypes = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64", np.dtype(np.int32): "I32",
          np.dtype(np.int64): "I64"}


def write_safetensors(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtypes[array.dtype], "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main(names):
    for name in names or cases:
        config, tensors, results, index = cases[name](np.random.default_rng(list(name.encode())))
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
        write_safetensors(folder / "expected.safetensors", results, {"layer": str(index)})


if __name__ == "__main__":
    main(sys.argv[1:])
