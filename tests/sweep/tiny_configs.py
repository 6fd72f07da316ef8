"""Any architecture's configuration, shrunk until a model of it is a few ten thousand parameters."""

from __future__ import annotations

from typing import Any

VOCAB_SIZE = 96
# Attributes by the names transformers' configurations use; only those a configuration has are set.
SIZES: dict[int, str] = {
    VOCAB_SIZE: "vocab_size unpadded_vocab_size vocab_size_per_layer_input",
    32: "hidden_size d_model n_embd dim n_embed embed_dim word_embed_proj_dim embedding_size lru_width projection_dim"
    " out_hidden_size output_dim hidden_size_per_layer_input mamba_d_ssm kv_hidden_size text_hidden_size"
    " language_hidden_size output_hidden_size",
    48: "intermediate_size ffn_dim d_ff ffn_hidden_size n_inner mlp_hidden_size dense_intermediate_size mlp_dim",
    2: "num_hidden_layers n_layer num_layers n_layers depth num_attention_heads n_head num_heads n_heads"
    " num_key_value_heads num_query_heads num_experts_per_tok num_experts_per_token moe_k moe_topk top_k"
    " encoder_layers decoder_layers encoder_attention_heads decoder_attention_heads full_attention_interval"
    " patch_size temporal_patch_size spatial_merge_size num_nextn_layers attn_layer_period num_ln_in_parallel_attn"
    " mamba_num_heads n_mamba_heads linear_num_key_heads linear_num_value_heads multi_query_group_num"
    " num_global_key_value_heads num_global_layers",
    1: "n_group topk_group first_k_dense_replace n_shared_experts num_shared_experts mamba_n_groups n_groups"
    " attn_layer_offset num_nextn_predict_layers expert_layer_offset mtp_num_hidden_layers",
    4: "num_experts num_local_experts n_routed_experts moe_num_experts mamba_n_heads zero_expert_num",
    8: "qk_rope_head_dim qk_nope_head_dim mamba_d_head mamba_head_dim mamba_d_state state_size ssm_state_size"
    " mamba_d_conv_unused index_head_dim mamba_dt_rank time_step_rank",
    16: "head_dim v_head_dim q_lora_rank kv_lora_rank moe_intermediate_size shared_expert_intermediate_size"
    " moe_shared_expert_intermediate_size expert_ffn_hidden_size global_head_dim linear_key_head_dim"
    " linear_value_head_dim attention_head_dim qk_head_dim sliding_window attention_window_size index_topk"
    " chunk_size attention_chunk_size laurel_rank altup_unused",
    128: "max_position_embeddings n_positions n_ctx max_seq_len seq_length max_sequence_length",
    28: "image_size img_size",
}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "decoder_start_token_id": 1}
# What the sizes above do not settle: the settings an architecture checks against each other.
OVERRIDES: dict[str, dict[str, Any]] = {
    "recurrent_gemma": {"block_types": ("recurrent", "attention"), "logits_soft_cap": 3.0},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "lm_head_multiplier": 0.3},
    "rwkv": {"attention_hidden_size": 32},
    # a cap or factor whose effect is far beyond rounding
    "gemma2": {"final_logit_softcapping": 3.0},
    "granite": {"logits_scaling": 7.0},
    "granitemoe": {"logits_scaling": 7.0},
    "cohere": {"logit_scale": 0.3},
    "nanochat": {"final_logit_softcapping": 3.0},
    # heads of latent attention: what is projected is the sum of the rotated and the plain part
    "deepseek_v2": {"head_dim": 8, "num_experts_per_tok": 2, "q_lora_rank": 16},
    "deepseek_v3": {"head_dim": 8},
    "youtu": {"head_dim": 8},
    "longcat_flash": {"head_dim": 8},
    "glm4_moe_lite": {"head_dim": 8},
    "glm_moe_dsa": {"head_dim": 8, "index_head_dim": 16},
    "ministral": {"head_dim": 16},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "gptj": {"rotary_dim": 8},
    "codegen": {"n_head": 4, "rotary_dim": 8},
    "gemma3n_text": {"layer_types": ["sliding_attention", "full_attention"], "num_kv_shared_layers": 0},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {"layers_block_type": ["mamba", "hybrid"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "attn_layer_indices": [1]},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba", "attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_moe_text": {"layer_types": ["linear_attention", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"]},
}
# Rotary dimensions of models that rotate by time, height and width; their sum is half the head.
_TIME_HEIGHT_WIDTH = ("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "glm4v", "glm46v", "glm_ocr", "paddleocr", "qwen3_5")
_MROPE = {"mrope_section": [2, 3, 3], "rope_type": "default", "rope_theta": 1e4}


def shrunk_config(cls: type, model_type: str) -> Any:
    """A configuration of `cls` with every size small."""
    sizes = {name: value for value, names in SIZES.items() for name in names.split()}
    kwargs = _small_values(cls, {**sizes, **TOKENS})
    kwargs.update(OVERRIDES.get(model_type, {}))
    config = cls(**kwargs)
    config._attn_implementation = "eager"
    return config


def _small_values(cls: type, sizes: dict[str, int]) -> dict[str, Any]:
    """Keyword arguments of `cls`, parts included, with every size it has set to a small one."""
    default = cls()
    known = default.to_dict()
    aliases = getattr(cls, "attribute_map", {})
    kwargs: dict[str, Any] = {}
    for name in [*known, *aliases]:
        value = known[name] if name in known else getattr(default, aliases[name], None)
        is_size = isinstance(value, int) and not isinstance(value, bool)
        if name in sizes and (is_size or (value is None and name in TOKENS)):
            kwargs[name] = sizes[name]
    for name in getattr(cls, "sub_configs", {}):
        part = getattr(default, name, None)
        if hasattr(part, "to_dict"):
            values = _small_values(type(part), sizes) | OVERRIDES.get(part.model_type, {})
            kwargs[name] = type(part)(**values)
    if "rope_parameters" in known and any(word in default.model_type for word in _TIME_HEIGHT_WIDTH):
        kwargs["rope_parameters"] = {**(known["rope_parameters"] or {}), **_MROPE}
    for name, value in known.items():
        if isinstance(value, float) and any(word in name for word in ("drop", "noise", "jitter")):
            kwargs[name] = 0.0  # the same forward twice must give the same loss
    # as the frameworks set it: a cache would hide from transformers that a row holds several samples
    kwargs.update({name: value for name, value in {"use_cache": False, "is_decoder": True}.items() if name in known})
    special = [n for n in known if n.endswith(("_token_id", "_token_index")) and n not in TOKENS]
    kwargs.update({n: VOCAB_SIZE - 1 - i for i, n in enumerate(special) if isinstance(known[n], int)})
    return kwargs
