"""What is made: a configuration, a layer and the shape of the tokens."""

from dataclasses import dataclass

from . import configs as c
from .families import FAMILIES, Family


@dataclass(frozen=True)
class Case:
    name: str
    config: dict
    layer: int
    shape: tuple[int, int] = (1, 11)
    """Sequences and tokens of each."""
    dtype: str = "F32"
    """Of the stored weights."""
    shards: int = 1
    scale: float = 1
    """Of the input."""

    @property
    def family(self) -> Family:
        openmoe = "OpenMoeForCausalLM" in self.config.get("architectures", [])
        return FAMILIES["openmoe" if openmoe else self.config["model_type"]]


CASES = [
    Case("mixtral", c.MIXTRAL, 2),
    Case("mixtral_sharded_bf16", c.MIXTRAL | {"num_local_experts": 7}, 3, dtype="BF16", shards=3),
    Case("mixtral_one_token", c.MIXTRAL | {"hidden_act": "gelu"}, 0, (1, 1)),
    Case("minimax", c.MINIMAX, 1, (3, 5)),
    Case("minimax_text_01", c.MINIMAX_TEXT_01, 0),
    Case("phimoe", c.PHIMOE, 3),
    Case("phimoe_wide_jitter", c.PHIMOE | {"router_jitter_noise": 0.3, "num_local_experts": 5}, 0, (2, 13)),
    Case("qwen2_moe", c.QWEN2, 0),
    Case(
        "qwen2_moe_normalized",
        c.QWEN2 | {"norm_topk_prob": True, "mlp_only_layers": [0], "decoder_sparse_step": 2},
        3,
    ),
    Case("qwen3_moe", c.QWEN3, 3),
    Case("qwen3_moe_unnormalized", c.QWEN3 | {"norm_topk_prob": False, "num_experts_per_tok": 1}, 1, (2, 7)),
    Case("olmoe", c.OLMOE, 2),
    Case("olmoe_all_experts", c.OLMOE | {"norm_topk_prob": True, "num_experts": 4}, 0, (1, 3), dtype="F16"),
    Case("deepseek_v2_greedy", c.DEEPSEEK_V2, 1),
    Case("deepseek_v2_groups", c.DEEPSEEK_V2_GROUPS, 3, (2, 6)),
    Case("deepseek_v3", c.DEEPSEEK_V3, 4),
    Case("deepseek_v3_unnormalized", c.DEEPSEEK_V3 | {"norm_topk_prob": False, "n_shared_experts": 2}, 3, (2, 3)),
    Case("kimi_k2", c.KIMI_K2, 1),
    Case("glm4_moe", c.GLM4, 1),
    Case("glm4_moe_unnormalized", c.GLM4 | {"norm_topk_prob": False, "routed_scaling_factor": 2.5}, 2, (1, 5)),
    Case("gpt_oss", c.GPT_OSS, 0),
    Case(
        "gpt_oss_clamped_bf16",
        c.GPT_OSS | {"num_local_experts": 5, "num_experts_per_tok": 2},
        2, dtype="BF16", scale=12,
    ),
    Case("llama4_scout", c.LLAMA4, 0),
    Case("llama4_maverick", c.LLAMA4_MAVERICK, 3, (1, 2)),
    Case("llama4_text_two_experts", c.LLAMA4_TEXT | {"num_experts_per_tok": 2, "num_local_experts": 6}, 1, (2, 5)),
    Case("dbrx", c.DBRX, 2),
    Case("dbrx_l3_norm", c.DBRX | {"ffn_config": c.DBRX["ffn_config"] | {"moe_normalize_expert_weights": 3.0}}, 0),
    Case("dbrx_as_they_are", c.DBRX | {"ffn_config": c.DBRX["ffn_config"] | {"moe_normalize_expert_weights": None}}, 1),
    Case("jamba", c.JAMBA, 7),
    Case(
        "jamba_every_third",
        c.JAMBA | {"expert_layer_period": 3, "expert_layer_offset": 0, "num_experts": 5},
        3, (2, 4),
    ),
    Case("granitemoe", c.GRANITE, 1),
    Case("granitemoe_one_expert", c.GRANITE | {"num_experts_per_tok": 1}, 0, (1, 4)),
    Case("ernie4_5_moe", c.ERNIE, 3),
    Case("ernie4_5_moe_biases", c.ERNIE | {"use_bias": True, "moe_layer_end_index": -1, "moe_norm_min": 0.4}, 1),
    Case("ernie4_5_moe_no_shared", c.ERNIE | {"moe_num_shared_experts": 0}, 2, (2, 4)),
    Case("hunyuan_v1_moe", c.HUNYUAN, 2),
    Case("hunyuan_v1_moe_by_layer", c.HUNYUAN | {"num_experts": [4, 5, 6, 7], "moe_topk": [1, 2, 3, 4]}, 1, (2, 4)),
    Case(
        "hunyuan_v1_moe_one_size",
        c.HUNYUAN | {"moe_topk": 1, "moe_intermediate_size": 10, "num_shared_expert": 1},
        0, (1, 4),
    ),
    Case("switch_transformers", c.SWITCH, 3, (3, 9)),
    Case("switch_transformers_decoder", c.SWITCH | {"expert_capacity": 64, "router_bias": True}, 9, (2, 5)),
    Case("nllb_moe", c.NLLB, 3),
    Case("nllb_moe_decoder", c.NLLB | {"moe_token_dropout": 0.0}, 7, (2, 5)),
    *(
        Case(
            f"nllb_moe_{order}_normalized_{when}",
            c.NLLB | size | {
                "batch_prioritized_routing": order == "prioritized",
                "normalize_router_prob_before_dropping": when == "before",
            },
            3, (2, 11),
        )
        for order, size in (
            ("by_position", {"moe_eval_capacity_token_fraction": 0.2}),
            ("prioritized", {"moe_eval_capacity_token_fraction": 0.0, "expert_capacity": 3}),
        )
        for when in ("before", "after")
    ),
    Case("openmoe", c.OPENMOE, 1, (2, 13)),
    Case("openmoe_tight", c.OPENMOE | {"router_capacity_factor_eval": 0.6, "router_min_capacity": 2}, 3, (1, 29)),
    Case(
        "openmoe_one_expert",
        c.OPENMOE | {"router_topk": 1, "router_min_capacity": 2, "router_capacity_factor_eval": 1.0},
        3,
    ),
    Case(
        "openmoe_ungated", c.OPENMOE | {"mlp_gated": False, "hidden_act": "gelu", "model_type": "openmoe"}, 1, (1, 7),
    ),
]
