"""Tiny random models that change their logits after the head, saved with the tokenizer of `tiny`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integrations import tiny

RECURRENT = {"lru_width": 32, "attention_window_size": 64, "block_types": ("recurrent", "attention")}
MAMBA = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}
# class, its settings (the cap and the factor move the loss far beyond rounding), what the run's record says
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "gemma2": ("Gemma2", {"final_logit_softcapping": 3.0, "head_dim": 16}, "final_logit_softcapping=3"),
    "recurrent_gemma": ("RecurrentGemma", {"logits_soft_cap": 3.0, **RECURRENT}, "logits_soft_cap=3"),
    "granite": ("Granite", {"logits_scaling": 7.0}, "logits_scaling=7"),
    "cohere": ("Cohere", {"logit_scale": 0.3}, "logit_scale=0.3"),
    "falcon_h1": ("FalconH1", {"lm_head_multiplier": 0.3, **MAMBA}, "lm_head_multiplier=0.3"),
}
# class and settings of models with experts, whose routers have a loss of their own
EXPERTS = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
MOE_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("Mixtral", {"num_local_experts": 4}),
    "qwen2_moe": ("Qwen2Moe", {**EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3_moe": ("Qwen3Moe", {**EXPERTS, "head_dim": 16}),
    "olmoe": ("Olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
}


def make_model(name: str, folder: Path) -> Path:
    """A random two-layer model of the family `name` in `folder`."""
    import torch
    import transformers

    tiny.make_text_model(folder)  # its tokenizer and special tokens
    base = transformers.AutoConfig.from_pretrained(folder)
    family, settings = (FAMILIES | MOE_FAMILIES)[name][:2]
    shared = {key: getattr(base, key) for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = getattr(transformers, f"{family}Config")(
        **{**shared, **sizes, "num_key_value_heads": 2, "initializer_range": 0.3, **settings}
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with torch.no_grad():  # some initialise the head so small that no cap would show
        model.get_output_embeddings().weight.normal_(std=0.5)
    model.save_pretrained(folder)
    return folder
