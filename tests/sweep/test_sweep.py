"""Two architectures of each kind through the sweep; `make sweep` tries every one."""

import importlib.util

import pytest

from tests.sweep.architectures import architectures
from tests.sweep.run import checked

IS_SWIFT = importlib.util.find_spec("swift") is not None
pytestmark = [
    pytest.mark.swift if IS_SWIFT else pytest.mark.llamafactory,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]
KINDS = {
    "dense": ("llama", "qwen3"),
    "experts": ("qwen3_moe", "mixtral"),
    "capped": ("gemma2", "nanochat"),
    "scaled": ("granite", "cohere2"),
    "tied": ("gemma", "gpt2"),
    "biased": ("phi", "gptj"),
    "hybrid": ("falcon_h1", "recurrent_gemma"),
    "image-text": ("qwen2_vl", "llava"),
}
EXPECTED_TRANSFORMS = {"capped", "scaled", "hybrid"}


@pytest.fixture(scope="module")
def rows():
    return {row.model_type: row for row in architectures()}


@pytest.mark.parametrize(("kind", "model_type"), [(kind, name) for kind, names in KINDS.items() for name in names])
def test_every_comparison_is_equal(rows, kind, model_type):
    found = checked(rows[model_type])
    assert found["path"] == "fused", found["reason"]
    assert bool(found["transform"]) == (kind in EXPECTED_TRANSFORMS)
    for name in ("sft_equals_stock", "dft_equals_native", "fused_equals_logits"):
        assert found[name] == "", name
    assert not found["packed_equals_padded"]
    assert not found["router_loss_kept"]
    assert (found.get("router_loss", 0.0) > 0.05) == (kind == "experts")
