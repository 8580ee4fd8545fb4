"""The MoE block of every family: its class in Transformers (OpenMoE: in ColossalAI), its place in a checkpoint, and how its routing is observed."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature

import torch
from torch import Tensor, nn


class Probe(nn.Module):
    """In an expert's place: answers every token with the unit vector of the expert, so that a block returns its weights."""

    def __init__(self, expert: int):
        super().__init__()
        self.expert = expert

    def forward(self, x: Tensor, *_) -> Tensor:
        answer = torch.zeros_like(x)
        answer[..., self.expert] = 1
        return answer


class Nothing(nn.Module):
    """In the place of shared experts."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def output_of(block: nn.Module, x: Tensor) -> Tensor:
    # NLLB's default of False is no mask that its router takes.
    unpadded = {"padding_mask": None} if "padding_mask" in signature(block.forward).parameters else {}
    result = block(x.clone(), **unpadded)
    return (result[0] if isinstance(result, tuple) else result).reshape(-1, x.shape[-1])


def probed(block: nn.Module, x: Tensor) -> Tensor:
    """Weights [T, E] of a block that has its experts one by one."""
    experts = block.experts
    names = list(experts) if isinstance(experts, nn.ModuleDict) else range(len(experts))
    for number, name in enumerate(names):
        experts[name] = Probe(number)
    for shared in ("shared_expert", "shared_experts", "shared_mlp"):
        if getattr(block, shared, None) is not None:
            setattr(block, shared, Nothing())
    return output_of(block, x)[:, : len(names)]


def probed_gpt_oss(block: nn.Module, x: Tensor) -> Tensor:
    """Experts whose output is their bias, a unit vector."""
    experts = block.experts
    experts.down_proj.data.zero_()
    experts.down_proj_bias.data.copy_(torch.eye(*experts.down_proj_bias.shape))
    return output_of(block, x)[:, : experts.num_experts]


class StackedProbe(nn.Module):
    """In the place of stacked experts, which get [1, E, C, H]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.eye(*x.shape[1::2], dtype=x.dtype)[None, :, None].expand_as(x).contiguous()


def probed_openmoe(block: nn.Module, x: Tensor) -> Tensor:
    number = block.gate_weight.shape[0]
    block.experts = StackedProbe()
    return output_of(block, x)[:, :number]


def llama4_scores(block: nn.Module, x: Tensor) -> Tensor:
    return block.router(x.reshape(-1, x.shape[-1]))[0]


def dbrx_weights(block: nn.Module, x: Tensor) -> Tensor:
    scores, weights, experts = block.router(x.clone())
    return torch.zeros_like(scores).scatter(1, experts, weights)


def granite_weights(block: nn.Module, x: Tensor) -> Tensor:
    tokens = x.reshape(-1, x.shape[-1])
    _, token_of_row, weight_of_row, rows_of_expert, logits = block.router(tokens)
    expert_of_row = torch.repeat_interleave(torch.arange(len(rows_of_expert)), torch.tensor(rows_of_expert))
    weights = torch.zeros(logits.shape, dtype=x.dtype)
    weights[token_of_row, expert_of_row] = weight_of_row
    return weights


@dataclass(frozen=True)
class Family:
    model: str
    """The folder in transformers/models."""
    block: str
    config: str
    prefix: Callable[[int, dict], str]
    """What the names of a layer's tensors begin with."""
    router: str
    """The router's weight within the block."""
    top_k: Callable[[dict, int], int]
    weights: Callable[[nn.Module, Tensor], Tensor] = probed
    key: Callable[[Tensor, dict], Tensor] = lambda logits, tensors: logits
    """What experts are chosen by, [T, E], from the logits and the block's tensors."""
    router_bias: str | None = None
    arguments: Callable[[dict, int], tuple] = lambda config, layer: ()
    """Of the block's constructor, behind the configuration."""

    make: Callable[[dict], nn.Module] | None = None
    """The block, where it is not one of Transformers."""

    def create(self, config: dict, layer: int) -> nn.Module:
        if self.make:
            return self.make(config).eval()
        package = f"transformers.models.{self.model}"
        configuration = getattr(import_module(f"{package}.configuration_{self.model}"), self.config)(**config)
        text = configuration.get_text_config() if "text_config" in config else configuration
        block_class = getattr(import_module(f"{package}.modeling_{self.model}"), self.block)
        return block_class(text, *self.arguments(config, layer)).eval()


def make_openmoe(config: dict) -> nn.Module:
    from colossalai.moe.layers import SparseMLP

    return SparseMLP(
        num_experts=config["num_experts"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        router_top_k=config["router_topk"],
        router_capacity_factor_eval=config["router_capacity_factor_eval"],
        router_min_capacity=config["router_min_capacity"],
        router_drop_tks=config["router_drop_tks"],
        mlp_activation=config["hidden_act"],
        mlp_gated=config["mlp_gated"],
    )


def block_at(name: str) -> Callable[[int, dict], str]:
    return lambda layer, config: f"model.layers.{layer}.{name}"


def switch_block(layer: int, config: dict) -> str:
    encoder = config["num_layers"]
    return f"encoder.block.{layer}.layer.1.mlp" if layer < encoder else f"decoder.block.{layer - encoder}.layer.2.mlp"


def nllb_block(layer: int, config: dict) -> str:
    encoder = config["encoder_layers"]
    return f"model.encoder.layers.{layer}.ffn" if layer < encoder else f"model.decoder.layers.{layer - encoder}.ffn"


def nllb_width(config: dict, layer: int) -> tuple:
    return (config["encoder_ffn_dim" if layer < config["encoder_layers"] else "decoder_ffn_dim"],)


def per_token(config: dict, layer: int) -> int:
    return config.get("text_config", config)["num_experts_per_tok"]


def hunyuan_top_k(config: dict, layer: int) -> int:
    return config["moe_topk"] if isinstance(config["moe_topk"], int) else config["moe_topk"][layer]


def biased_sigmoid(logits: Tensor, tensors: dict) -> Tensor:
    return logits.sigmoid() + tensors["gate.e_score_correction_bias"]


def biased_softmax(logits: Tensor, tensors: dict) -> Tensor:
    return logits.softmax(-1) + tensors["moe_statics.e_score_correction_bias"]


def gated(model: str, name: str, place: str = "mlp", **others) -> Family:
    """A family whose router is `gate.weight`."""
    settings = {"router": "gate.weight", "top_k": per_token} | others
    return Family(model, name, settings.pop("config"), block_at(place), **settings)


FAMILIES: dict[str, Family] = {
    "mixtral": gated("mixtral", "MixtralSparseMoeBlock", "block_sparse_moe", config="MixtralConfig"),
    "minimax": gated("minimax", "MiniMaxSparseMoeBlock", "block_sparse_moe", config="MiniMaxConfig"),
    "phimoe": gated("phimoe", "PhimoeSparseMoeBlock", "block_sparse_moe", config="PhimoeConfig"),
    "qwen2_moe": gated("qwen2_moe", "Qwen2MoeSparseMoeBlock", config="Qwen2MoeConfig"),
    "qwen3_moe": gated("qwen3_moe", "Qwen3MoeSparseMoeBlock", config="Qwen3MoeConfig"),
    "olmoe": gated("olmoe", "OlmoeSparseMoeBlock", config="OlmoeConfig"),
    "deepseek_v2": gated("deepseek_v2", "DeepseekV2MoE", config="DeepseekV2Config"),
    "deepseek_v3": gated("deepseek_v3", "DeepseekV3MoE", config="DeepseekV3Config", key=biased_sigmoid),
    "glm4_moe": gated("glm4_moe", "Glm4MoeMoE", config="Glm4MoeConfig", key=biased_sigmoid),
    "jamba": gated("jamba", "JambaSparseMoeBlock", "feed_forward", config="JambaConfig", router="router.weight"),
    "ernie4_5_moe": gated(
        "ernie4_5_moe", "Ernie4_5_MoeSparseMoeBlock", config="Ernie4_5_MoeConfig", key=biased_softmax,
        top_k=lambda config, layer: config["moe_k"],
    ),
    "hunyuan_v1_moe": gated(
        "hunyuan_v1_moe", "HunYuanMoEV1Moe", config="HunYuanMoEV1Config", router="gate.wg.weight",
        top_k=hunyuan_top_k, arguments=lambda config, layer: (layer,),
    ),
    "gpt_oss": gated(
        "gpt_oss", "GptOssMLP", config="GptOssConfig", router="router.weight", router_bias="router.bias",
        weights=probed_gpt_oss,
    ),
    "granitemoe": gated(
        "granitemoe", "GraniteMoeMoE", "block_sparse_moe", config="GraniteMoeConfig", router="router.layer.weight",
        weights=granite_weights,
    ),
    "llama4": Family(
        "llama4", "Llama4TextMoe", "Llama4Config",
        lambda layer, config: f"language_model.model.layers.{layer}.feed_forward", "router.weight", per_token, llama4_scores,
    ),
    "llama4_text": gated(
        "llama4", "Llama4TextMoe", "feed_forward", config="Llama4TextConfig", router="router.weight", weights=llama4_scores,
    ),
    "dbrx": Family(
        "dbrx", "DbrxFFN", "DbrxConfig", lambda layer, config: f"transformer.blocks.{layer}.ffn", "router.layer.weight",
        lambda config, layer: config["ffn_config"]["moe_top_k"], dbrx_weights,
    ),
    "switch_transformers": Family(
        "switch_transformers", "SwitchTransformersSparseMLP", "SwitchTransformersConfig", switch_block,
        "router.classifier.weight", lambda config, layer: 1,
    ),
    "nllb-moe": Family(
        "nllb_moe", "NllbMoeSparseMLP", "NllbMoeConfig", nllb_block, "router.classifier.weight",
        lambda config, layer: 2, arguments=nllb_width,
    ),
}
FAMILIES["openmoe"] = Family(
    "openmoe", "SparseMLP", "LlamaConfig", block_at("mlp"), "gate_weight",
    lambda config, layer: config["router_topk"], probed_openmoe, make=make_openmoe,
)
FAMILIES["kimi_k2"] = FAMILIES["deepseek_v3"]
FAMILIES["minimax_text_01"] = FAMILIES["minimax_m1"] = FAMILIES["minimax"]
