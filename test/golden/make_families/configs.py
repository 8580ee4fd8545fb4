"""
Tiny configurations in the shape of published ones: every field that the published config.json of the model has and that
says something about its MoE layers, with smaller sizes.
"""

MIXTRAL = {  # Mixtral-8x7B-v0.1
    "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 18, "initializer_range": 0.02, "intermediate_size": 10,
    "max_position_embeddings": 32768, "model_type": "mixtral", "num_attention_heads": 2, "num_experts_per_tok": 2,
    "num_hidden_layers": 4, "num_key_value_heads": 1, "num_local_experts": 8, "output_router_logits": False,
    "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 32000,
}

MINIMAX = {  # MiniMax-Text-01-hf
    "architectures": ["MiniMaxForCausalLM"], "attention_dropout": 0.0, "block_size": 256,
    "full_attn_alpha_factor": 3.5565588200778455, "full_attn_beta_factor": 1.0, "head_dim": 9, "hidden_act": "silu",
    "hidden_size": 18, "intermediate_size": 11, "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_attn_alpha_factor": 3.5565588200778455, "linear_attn_beta_factor": 1.0,
    "mlp_alpha_factor": 3.5565588200778455, "mlp_beta_factor": 1.0, "model_type": "minimax", "num_attention_heads": 2, "num_experts_per_tok": 2,
    "num_hidden_layers": 4, "num_key_value_heads": 1, "num_local_experts": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 10000000, "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "sliding_window": None,
    "tie_word_embeddings": False, "vocab_size": 200064,
}

MINIMAX_TEXT_01 = {  # MiniMax-Text-01, whose own code is Mixtral's too
    "architectures": ["MiniMaxText01ForCausalLM"], "attention_dropout": 0.0, "attn_type_list": [0, 0, 0, 1],
    "head_dim": 9, "hidden_act": "silu", "hidden_size": 18, "intermediate_size": 10, "layernorm_mlp_alpha": 3.5565588200778455,
    "layernorm_mlp_beta": 1.0, "model_type": "minimax_text_01", "num_attention_heads": 2, "num_experts_per_tok": 2,
    "num_hidden_layers": 4, "num_key_value_heads": 1, "num_local_experts": 5, "output_router_logits": False,
    "postnorm": True, "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "shared_intermediate_size": 0,
    "shared_moe_mode": "sigmoid", "sliding_window": None, "tie_word_embeddings": False, "vocab_size": 200064,
}

QWEN2 = {  # Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B
    "architectures": ["Qwen2MoeForCausalLM"], "attention_dropout": 0.0, "decoder_sparse_step": 1, "hidden_act": "silu",
    "hidden_size": 18, "initializer_range": 0.02, "intermediate_size": 30, "max_window_layers": 21,
    "mlp_only_layers": [], "model_type": "qwen2_moe", "moe_intermediate_size": 10, "norm_topk_prob": False,
    "num_attention_heads": 2, "num_experts": 9, "num_experts_per_tok": 4, "num_hidden_layers": 4,
    "num_key_value_heads": 2, "output_router_logits": False, "rms_norm_eps": 1e-06, "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 23, "sliding_window": 32768, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 151936,
}

QWEN3 = {  # Qwen3-30B-A3B
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "decoder_sparse_step": 1, "head_dim": 9,
    "hidden_act": "silu", "hidden_size": 18, "intermediate_size": 30, "max_window_layers": 48, "mlp_only_layers": [],
    "model_type": "qwen3_moe", "moe_intermediate_size": 7, "norm_topk_prob": True, "num_attention_heads": 2,
    "num_experts": 12, "num_experts_per_tok": 5, "num_hidden_layers": 4, "num_key_value_heads": 1,
    "output_router_logits": False, "rope_scaling": None, "router_aux_loss_coef": 0.001, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 151936,
}

OLMOE = {  # OLMoE-1B-7B-0924
    "architectures": ["OlmoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "clip_qkv": None,
    "hidden_act": "silu", "hidden_size": 17, "intermediate_size": 9, "model_type": "olmoe", "norm_topk_prob": False,
    "num_attention_heads": 1, "num_experts": 11, "num_experts_per_tok": 4, "num_hidden_layers": 3,
    "num_key_value_heads": 1, "output_router_logits": False, "rope_scaling": None, "router_aux_loss_coef": 0.01,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 50304,
}

DEEPSEEK_V2 = {  # DeepSeek-V2-Lite
    "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": False, "aux_loss_alpha": 0.001, "ep_size": 1,
    "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 18, "intermediate_size": 40, "kv_lora_rank": 8,
    "model_type": "deepseek_v2", "moe_intermediate_size": 9, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 8,
    "n_shared_experts": 2, "norm_topk_prob": False, "num_attention_heads": 2, "num_experts_per_tok": 3,
    "num_hidden_layers": 4, "num_key_value_heads": 2, "pretraining_tp": 1, "q_lora_rank": None, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": True,
    "tie_word_embeddings": False, "topk_group": 1, "topk_method": "greedy", "torch_dtype": "bfloat16",
    "v_head_dim": 8, "vocab_size": 102400,
}

DEEPSEEK_V2_GROUPS = DEEPSEEK_V2 | {  # DeepSeek-V2
    "n_group": 4, "n_routed_experts": 12, "q_lora_rank": 12, "routed_scaling_factor": 16.0, "topk_group": 2,
    "topk_method": "group_limited_greedy",
}

DEEPSEEK_V3 = {  # DeepSeek-V3
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "aux_loss_alpha": 0.001, "ep_size": 1,
    "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 18, "intermediate_size": 40, "kv_lora_rank": 8,
    "model_type": "deepseek_v3", "moe_intermediate_size": 9, "moe_layer_freq": 1, "n_group": 4, "n_routed_experts": 12,
    "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 2, "num_experts_per_tok": 4,
    "num_hidden_layers": 5, "num_key_value_heads": 2, "num_nextn_predict_layers": 1, "q_lora_rank": 12,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
    "seq_aux": True, "tie_word_embeddings": False, "topk_group": 2, "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16", "v_head_dim": 8, "vocab_size": 129280,
}

KIMI_K2 = DEEPSEEK_V3 | {  # Kimi-K2-Instruct
    "first_k_dense_replace": 1, "model_type": "kimi_k2", "n_group": 1, "n_routed_experts": 13,
    "num_experts_per_tok": 5, "routed_scaling_factor": 2.827, "topk_group": 1, "vocab_size": 163840,
}

GLM4 = {  # GLM-4.5-Air
    "architectures": ["Glm4MoeForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
    "first_k_dense_replace": 1, "head_dim": 9, "hidden_act": "silu", "hidden_size": 18, "intermediate_size": 40,
    "model_type": "glm4_moe", "moe_intermediate_size": 8, "n_group": 1, "n_routed_experts": 12, "n_shared_experts": 1,
    "norm_topk_prob": True, "num_attention_heads": 2, "num_experts_per_tok": 4, "num_hidden_layers": 3,
    "num_key_value_heads": 1, "num_nextn_predict_layers": 1, "partial_rotary_factor": 0.5, "rope_scaling": None,
    "routed_scaling_factor": 1.0, "tie_word_embeddings": False, "topk_group": 1, "torch_dtype": "bfloat16",
    "use_qk_norm": False, "vocab_size": 151552,
}

GPT_OSS = {  # gpt-oss-20b, without the quantisation
    "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0, "experts_per_token": 4,
    "head_dim": 9, "hidden_act": "silu", "hidden_size": 18, "initial_context_length": 4096, "intermediate_size": 10,
    "layer_types": ["sliding_attention", "full_attention"] * 2, "model_type": "gpt_oss", "num_attention_heads": 2,
    "num_experts_per_tok": 4, "num_hidden_layers": 4, "num_key_value_heads": 1, "num_local_experts": 8,
    "output_router_logits": False, "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0,
    "tie_word_embeddings": False, "vocab_size": 201088,
}

LLAMA4_TEXT = {
    "attention_bias": False, "attention_chunk_size": 8192, "attn_temperature_tuning": True,
    "for_llm_compression": False, "head_dim": 9, "hidden_act": "silu", "hidden_size": 18, "interleave_moe_layer_step": 1, "intermediate_size": 10,
    "intermediate_size_mlp": 20, "model_type": "llama4_text", "no_rope_layers": [], "num_attention_heads": 2,
    "num_experts_per_tok": 1, "num_hidden_layers": 4, "num_key_value_heads": 1, "num_local_experts": 8,
    "output_router_logits": False, "rope_scaling": None, "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0,
    "torch_dtype": "bfloat16", "use_qk_norm": True, "vocab_size": 202048,
}

LLAMA4 = {  # Llama-4-Scout-17B-16E
    "architectures": ["Llama4ForConditionalGeneration"], "boi_token_index": 200080, "image_token_index": 200092,
    "model_type": "llama4", "text_config": LLAMA4_TEXT, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "vision_config": {"hidden_size": 22, "intermediate_size": 44, "model_type": "llama4_vision_model",
                      "num_attention_heads": 2, "num_hidden_layers": 2, "vision_output_dim": 22},
}

LLAMA4_MAVERICK = LLAMA4 | {"text_config": LLAMA4_TEXT | {"interleave_moe_layer_step": 2}}

PHIMOE = {  # Phi-3.5-MoE-instruct
    "architectures": ["PhiMoEForCausalLM"], "attention_bias": True, "hidden_act": "silu", "hidden_dropout": 0.0,
    "hidden_size": 18, "input_jitter_noise": 0.01, "intermediate_size": 10, "lm_head_bias": True,
    "model_type": "phimoe", "num_attention_heads": 2, "num_experts_per_tok": 2, "num_hidden_layers": 4,
    "num_key_value_heads": 1, "num_local_experts": 8, "output_router_logits": False, "router_aux_loss_coef": 0.0,
    "router_jitter_noise": 0.01, "sliding_window": 131072, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "vocab_size": 32064,
}

DBRX = {  # dbrx-base
    "architectures": ["DbrxForCausalLM"],
    "attn_config": {"clip_qkv": 8, "kv_n_heads": 1, "model_type": "", "rope_theta": 500000},
    "d_model": 18, "emb_pdrop": 0.0,
    "ffn_config": {"ffn_hidden_size": 10, "model_type": "", "moe_jitter_eps": 0.01, "moe_loss_weight": 0.05,
                   "moe_num_experts": 8, "moe_top_k": 4},
    "initializer_range": 0.02, "max_seq_len": 32768, "model_type": "dbrx", "n_heads": 2, "n_layers": 3,
    "output_router_logits": False, "resid_pdrop": 0.0, "router_aux_loss_coef": 0.05, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 100352,
}

JAMBA = {  # Jamba-v0.1
    "architectures": ["JambaForCausalLM"], "attn_layer_offset": 4, "attn_layer_period": 8, "expert_layer_offset": 1,
    "expert_layer_period": 2, "hidden_act": "silu", "hidden_size": 18, "intermediate_size": 10, "mamba_d_conv": 4,
    "mamba_d_state": 16, "mamba_expand": 2, "model_type": "jamba", "num_attention_heads": 2, "num_experts": 8,
    "num_experts_per_tok": 2, "num_hidden_layers": 8, "num_key_value_heads": 1, "num_logits_to_keep": 1,
    "output_router_logits": False, "router_aux_loss_coef": 0.001, "sliding_window": None, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "use_mamba_kernels": True, "vocab_size": 65536,
}

GRANITE = {  # granite-3.0-1b-a400m-base
    "architectures": ["GraniteMoeForCausalLM"], "attention_bias": False, "attention_multiplier": 0.015625,
    "embedding_multiplier": 12.0, "hidden_act": "silu", "hidden_size": 18, "intermediate_size": 9,
    "logits_scaling": 6.0, "model_type": "granitemoe", "num_attention_heads": 2, "num_experts_per_tok": 4,
    "num_hidden_layers": 4, "num_key_value_heads": 1, "num_local_experts": 9, "output_router_logits": False,
    "residual_multiplier": 0.22, "rope_scaling": None, "router_aux_loss_coef": 0.0, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "vocab_size": 49155,
}

ERNIE = {  # ERNIE-4.5-21B-A3B-PT
    "architectures": ["Ernie4_5_MoeForCausalLM"], "hidden_act": "silu", "hidden_size": 18, "intermediate_size": 40,
    "model_type": "ernie4_5_moe", "moe_capacity": [64, 64, 64], "moe_gate": "topk", "moe_intermediate_size": 9,
    "moe_k": 4, "moe_layer_end_index": 3, "moe_layer_interval": 1, "moe_layer_start_index": 1, "moe_num_experts": 9,
    "moe_num_shared_experts": 2, "moe_use_aux_free": True, "num_attention_heads": 2, "num_hidden_layers": 4,
    "num_key_value_heads": 1, "num_nextn_predict_layers": 1, "rms_norm_eps": 1e-05, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "use_bias": False, "use_cache": False, "vocab_size": 103424,
}

HUNYUAN = {  # Hunyuan-A13B-Instruct
    "architectures": ["HunYuanMoEV1ForCausalLM"], "attention_bias": False, "attention_head_dim": 9, "hidden_act": "silu",
    "hidden_size": 18, "intermediate_size": 10, "mlp_bias": False, "model_type": "hunyuan_v1_moe",
    "moe_drop_tokens": False, "moe_intermediate_size": [10] * 4, "moe_layer_num_skipped": 0,
    "moe_random_routing_dropped_token": False, "moe_topk": [4] * 4, "norm_type": "rms", "num_attention_heads": 2,
    "num_experts": 8, "num_hidden_layers": 4, "num_key_value_heads": 1, "num_shared_expert": [1] * 4,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cla": False, "use_mixed_mlp_moe": True,
    "use_qk_norm": True, "vocab_size": 128167,
}

SWITCH = {  # switch-base-8
    "add_router_probs": False, "architectures": ["SwitchTransformersForConditionalGeneration"], "d_ff": 10, "d_kv": 9,
    "d_model": 18, "decoder_sparse_step": 2, "decoder_start_token_id": 0, "dense_act_fn": "relu", "dropout_rate": 0.1,
    "encoder_sparse_step": 2, "expert_capacity": 2, "feed_forward_proj": "relu", "initializer_factor": 1.0,
    "is_encoder_decoder": True, "is_gated_act": False, "model_type": "switch_transformers", "num_decoder_layers": 4,
    "num_experts": 8, "num_heads": 2, "num_layers": 6, "num_selected_experts": 1, "num_sparse_decoder_layers": 2,
    "num_sparse_encoder_layers": 3, "router_aux_loss_coef": 0.001, "router_bias": False, "router_dtype": "float32",
    "router_ignore_padding_tokens": False, "router_jitter_noise": 0.01, "router_type": "tokens_masked",
    "router_z_loss_coef": 0.001, "torch_dtype": "float32", "vocab_size": 32128,
}

NLLB = {  # nllb-moe-54b
    "activation_dropout": 0.0, "activation_function": "relu", "architectures": ["NllbMoeForConditionalGeneration"],
    "batch_prioritized_routing": False, "d_model": 18, "decoder_attention_heads": 2, "decoder_ffn_dim": 11,
    "decoder_layers": 4, "decoder_sparse_step": 4, "dropout": 0.1, "encoder_attention_heads": 2, "encoder_ffn_dim": 10,
    "encoder_layers": 4, "encoder_sparse_step": 4, "expert_capacity": 64, "is_encoder_decoder": True,
    "max_position_embeddings": 1024, "model_type": "nllb-moe", "moe_eval_capacity_token_fraction": 1.0,
    "moe_token_dropout": 0.2, "normalize_router_prob_before_dropping": True, "num_experts": 8,
    "num_hidden_layers": 4, "output_router_logits": False, "router_aux_loss_coef": 0.001, "router_bias": False,
    "router_dtype": "float32", "router_ignore_padding_tokens": False, "router_z_loss_coef": 0.001,
    "scale_embedding": True, "second_expert_policy": "all", "torch_dtype": "float32", "vocab_size": 256206,
}

OPENMOE = {  # openmoe-8b, whose configuration class is Llama's
    "architectures": ["OpenMoeForCausalLM"], "attention_bias": False, "dropout_rate": 0.0, "enable_comm_overlap": False,
    "enable_hierarchical_alltoall": False, "enable_kernel": False, "enable_load_balance": False, "head_dim": 9,
    "hidden_act": "swiglu", "hidden_size": 18, "intermediate_size": 10, "label_smoothing": 0.001,
    "layer_norm_epsilon": 1e-06, "load_balance_beam_width": 8, "load_balance_group_swap_factor": 0.4,
    "load_balance_tolerance": 0.1, "mlp_gated": True, "model_type": "llama", "moe_layer_interval": 2,
    "num_attention_heads": 2, "num_experts": 8, "num_hidden_layers": 4, "num_key_value_heads": 2, "pretraining_tp": 1,
    "rope_scaling": None, "router_aux_loss_factor": 0.01, "router_capacity_factor_eval": 2.0,
    "router_capacity_factor_train": 1.25, "router_drop_tks": True, "router_min_capacity": 4, "router_noisy_policy": None,
    "router_topk": 2, "router_z_loss_factor": 0.0001, "tie_word_embeddings": False, "vocab_size": 256384,
    "z_loss_factor": 0.01,
}
