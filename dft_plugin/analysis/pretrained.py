"""A pretrained model of the Hugging Face layout: its files read first, its weights loaded whole or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError

Dtype = Literal["auto", "bfloat16", "float32"]
_MODEL_FILES = (".json", ".jinja", ".safetensors", ".bin", ".model", ".txt")


def require_packages(verb: str, packages: Mapping[str, str]) -> None:
    """Stop before anything is measured where a package is missing.

    Args:
        verb: The command that needs them.
        packages: Names on the package index by the modules they install.

    Raises:
        MissingPrerequisiteError: with the line that installs it.
    """
    missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingPrerequisiteError(f"{verb} needs {', '.join(missing)}: pip install {' '.join(missing)}")


def choose_device(asked: Literal["auto", "cpu", "cuda"]) -> str:
    """`cuda` where it was asked for or is there, else `cpu`."""
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise MissingPrerequisiteError("--device cuda: torch finds no GPU; check nvidia-smi, or use --device cpu.")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class ModelFiles:
    """Files that are read before the weights.

    Attributes:
        name: Folder or hub id, as given.
        fingerprint: Changes when the model's files do.
        is_image_model: Whether it is loaded as an image-text model.
        tokenizer: Its tokenizer.
        processor: Its processor, for image models.
        config: Its configuration.
    """

    name: str
    fingerprint: str
    is_image_model: bool
    tokenizer: Any
    processor: Any
    config: Any


def read_model_files(name: str, *, with_images: bool) -> ModelFiles:
    """Configuration, tokenizer and processor.

    Raises:
        MissingPrerequisiteError: no such model.
        ConfigError: not a causal language model, or images for a text-only model.
    """
    from transformers import AutoConfig, AutoTokenizer
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )

    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise MissingPrerequisiteError(
            f"{name} has no config.json; the folder of a whole model is needed. Merge an adapter into its model first."
        )
    try:
        config = AutoConfig.from_pretrained(name)
        is_text, is_image = (
            type(config) in mapping for mapping in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
        )
        if not (is_text or is_image):
            raise ConfigError(f"{name}: {type(config).__name__} is neither a causal language nor an image-text model.")
        if with_images and not is_image:
            raise ConfigError(f"the data has images, and {name} ({type(config).__name__}) takes none.")
        is_image_model = with_images or not is_text
        processor = _load_processor(name) if is_image_model else None
        tokenizer = processor.tokenizer if processor is not None else AutoTokenizer.from_pretrained(name)
    except OSError as error:
        reason = str(error).split("\n", 1)[0]
        raise MissingPrerequisiteError(
            f"model {name!r} is neither a folder with a model nor could it be fetched ({reason}); check the path, or: "
            f"hf download {name} --local-dir MODEL"
        ) from None
    return ModelFiles(name, _fingerprint(folder, config), is_image_model, tokenizer, processor, config)


def _load_processor(name: str) -> Any:
    from transformers import AutoProcessor  # its import takes seconds

    return AutoProcessor.from_pretrained(name)


def _fingerprint(folder: Path, config: Any) -> str:
    """Hash of names, sizes and times of a folder's model files; of the hub's revision where it is not a folder."""
    if not folder.is_dir():
        return str(config._commit_hash)
    files = sorted(path for path in folder.iterdir() if path.suffix in _MODEL_FILES)
    listed = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def load_frozen(files: ModelFiles, dtype: Dtype, device: str) -> Any:
    """The model, in evaluation mode.

    Args:
        files: What to load.
        dtype: `auto` is the one its weights are stored in.
        device: cpu or cuda.

    Raises:
        InputError: the checkpoint lacks weights.
        MissingPrerequisiteError: it has none at all.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    cls = AutoModelForImageTextToText if files.is_image_model else AutoModelForCausalLM
    asked = dtype if dtype == "auto" else getattr(torch, dtype)
    try:
        model, info = cls.from_pretrained(files.name, dtype=asked, output_loading_info=True)
    except OSError as error:
        reason = str(error).split("\n", 1)[0]
        raise MissingPrerequisiteError(
            f"{files.name} has a configuration, and its weights could not be read ({reason}). Use a whole checkpoint."
        ) from None
    if info["missing_keys"]:
        raise InputError(
            f"{files.name} lacks weights of {type(model).__name__}: {sorted(info['missing_keys'])[:5]}; they would "
            "be random numbers. Use the whole checkpoint."
        )
    return model.to(device).eval()


def dtype_name(model: Any) -> str:
    """Return the dtype the model computes in, as `--dtype` says it."""
    return str(model.dtype).removeprefix("torch.")
