"""Checkpoints by the names a reader sees: whole models, and LoRA adapters on their base."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft_eval.records.files import sha256_of
from dft_plugin.analysis.pretrained import Dtype, ModelFiles, load_frozen, read_model_files, require_packages
from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError

ADAPTER_CONFIG = "adapter_config.json"
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        name: What it is called in the result.
        path: Folder or hub id.
    """

    name: str
    path: str


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint whose files are read and whose weights are not loaded.

    Attributes:
        name: What it is called in the result.
        path: Folder or hub id, as given.
        files: Of the model; of the base, with the adapter's tokenizer, where it is an adapter.
        is_adapter: Whether `path` holds a LoRA adapter.
        weights_sha256: Of its weight files, of the base's too where it is an adapter.
    """

    name: str
    path: str
    files: ModelFiles
    is_adapter: bool
    weights_sha256: str

    def load(self, dtype: Dtype, device: str) -> Any:
        """The model in evaluation mode.

        Raises:
            InputError: weights that are not there, or an adapter that does not fit its base.
        """
        model = load_frozen(self.files, dtype, device)
        return _with_adapter(model, Path(self.path)).to(device).eval() if self.is_adapter else model


def parse_checkpoints(given: Sequence[str], names: Sequence[str]) -> list[Checkpoint]:
    """The checkpoints of a command line.

    Args:
        given: Each a path, or NAME=PATH.
        names: One for each, or none at all.

    Raises:
        ConfigError: names that are not one a checkpoint, not unique, or not names.
    """
    if names and len(names) != len(given):
        raise ConfigError(f"--names has {len(names)} names for {len(given)} checkpoints; one for each, in their order.")
    pairs = [(name, path) for name, path in zip(names, given, strict=True)] if names else [_split(one) for one in given]
    for name, path in pairs:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot name {path}: letters, digits, '_', '-' and '.' are accepted, parts joined by '/'. "
                "Write NAME=PATH."
            )
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ConfigError(f"two checkpoints are called {twice[0]!r}; tell them apart: NAME=PATH.")
    return [Checkpoint(name, path) for name, path in pairs]


def _split(text: str) -> tuple[str, str]:
    name, sign, path = text.partition("=")
    return (name, path) if sign and path and not Path(text).exists() else (Path(text).resolve().name, text)


def open_checkpoint(checkpoint: Checkpoint, *, with_images: bool) -> OpenedCheckpoint:
    """Read what is read before the weights.

    Raises:
        MissingPrerequisiteError: it is not there, or its base is not.
        ConfigError: it cannot be measured.
    """
    folder = Path(checkpoint.path)
    if not (folder / ADAPTER_CONFIG).is_file():
        files = read_model_files(checkpoint.path, with_images=with_images)
        return OpenedCheckpoint(checkpoint.name, checkpoint.path, files, False, _weights_hash([folder], files))
    if (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} has config.json and {ADAPTER_CONFIG}, so whether the whole model or the adapter on its base is "
            "meant is not known. Keep a folder for each."
        )
    base = _base_of(folder)
    require_packages(f"the adapter {folder}", {"peft": "peft"})
    try:
        files = read_model_files(base, with_images=with_images)
    except MissingPrerequisiteError as error:
        raise MissingPrerequisiteError(f"{folder} is an adapter of {base!r}: {error}") from None
    if not files.is_image_model and (folder / "tokenizer_config.json").is_file():
        from transformers import AutoTokenizer

        files = dataclasses.replace(files, tokenizer=AutoTokenizer.from_pretrained(folder))
    return OpenedCheckpoint(checkpoint.name, checkpoint.path, files, True, _weights_hash([Path(base), folder], files))


def _base_of(folder: Path) -> str:
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    kind, base = config.get("peft_type"), config.get("base_model_name_or_path")
    if kind != "LORA" or not base:
        raise ConfigError(
            f"{folder} holds an adapter (peft_type {kind!r}, base model {base!r}); LoRA with its base named is "
            "accepted. Merge it first: llamafactory-cli export, or swift export --merge_lora true."
        )
    if config.get("alora_invocation_tokens"):
        raise ConfigError(
            f"{folder} holds an activated LoRA (alora_invocation_tokens), which changes only what follows those tokens "
            "and cannot be merged; plain LoRA is accepted. Leave it out."
        )
    return str(base)


def _weights_hash(folders: Sequence[Path], files: ModelFiles) -> str:
    """Sha256 of the one weight file, or over the names and hashes of several; of the commit for a hub's model."""
    found = [
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix in _WEIGHTS and path.name != "training_args.bin"
    ]
    hashes = [f"{path.name} {sha256_of(path)}" for path in found]
    if len(hashes) == 1 and folders[0].is_dir():
        return hashes[0].split()[-1]
    lines = [*hashes, *([] if folders[0].is_dir() else [files.fingerprint])]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _with_adapter(model: Any, folder: Path) -> Any:
    """The base with the adapter's layers in their places, not merged, so that nothing is rounded."""
    from peft import PeftModel
    from peft.utils import get_peft_model_state_dict, load_peft_weights

    try:
        wrapped = PeftModel.from_pretrained(model, str(folder))
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"the adapter {folder} does not fit its base: {str(error)[:300]}; merge it into the model "
            "it was trained on."
        ) from None
    stored, wanted = load_peft_weights(str(folder), device="cpu").keys(), get_peft_model_state_dict(wrapped).keys()
    if odd := sorted(stored ^ wanted):
        raise InputError(f"the adapter {folder} and its configuration differ in {odd[:3]}; use the whole adapter.")
    return wrapped.get_base_model()
