"""The frameworks' own command lines for an arm: `llamafactory-cli train` and `swift sft`.

Every arm leaves behind what is needed to run it again alone: `train.yaml` or `train.sh`, with paths
relative to the study's folder.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

from dft_plugin.errors import MissingPrerequisiteError
from dft_plugin.study.arms import Arm

CUTOFF_TOKENS = 64


def write_command(arm: Arm, folder: Path, swift: Path | None) -> list[str]:
    """Write the arm's rerunnable file; return the command that runs it in `folder`.

    Raises:
        MissingPrerequisiteError: the framework's command is not there.
    """
    (folder / arm.name).mkdir(parents=True, exist_ok=True)
    if arm.framework == "llamafactory":
        text = yaml.safe_dump(_llamafactory_settings(arm), sort_keys=False)
        (folder / arm.name / "train.yaml").write_text(text, encoding="utf-8")
        return [str(find_llamafactory()), "train", f"{arm.name}/train.yaml"]
    if swift is None:
        raise MissingPrerequisiteError(f"{arm.name} needs ms-swift; pass --swift-python PATH of its environment.")
    settings = {key: str(value) for key, value in _swift_settings(arm).items()}
    lines = [f"--{key} {shlex.quote(value)}" for key, value in settings.items()]
    text = " \\\n  ".join(["swift sft", *lines]) + "\n"
    (folder / arm.name / "train.sh").write_text(text, encoding="utf-8")
    return [str(swift), "sft", *(part for key, value in settings.items() for part in (f"--{key}", value))]


def find_llamafactory() -> Path:
    """`llamafactory-cli` of this environment.

    Raises:
        MissingPrerequisiteError: it is not installed here.
    """
    command = Path(sys.executable).parent / "llamafactory-cli"
    if not command.exists():
        raise MissingPrerequisiteError(
            f"no llamafactory-cli beside {sys.executable}; run `pip install 'dft-plugin[llamafactory]'` there."
        )
    return command


def find_swift(python: Path | None) -> Path | None:
    """The `swift` command of ms-swift's own environment.

    Args:
        python: Interpreter of that environment; None looks for `.venv-swift` beside this environment.

    Returns:
        None where nothing was asked for and nothing found.

    Raises:
        MissingPrerequisiteError: `python` was given, and there is no `swift` beside it.
    """
    interpreter = python or Path(sys.prefix).parent / ".venv-swift" / "bin" / "python"
    command = interpreter.absolute().parent / "swift"
    if command.exists():
        return command
    if python is None:
        return None
    raise MissingPrerequisiteError(
        f"no swift command beside {python}; install `ms-swift` and `dft-plugin` in that environment (`make setup`)."
    )


def _shared_settings(arm: Arm) -> dict[str, Any]:
    """Return the settings that both frameworks call by the same name."""
    return {
        "loss_type": arm.loss_type,
        "template": arm.template,
        "output_dir": arm.output,
        "per_device_train_batch_size": arm.batch_size,
        "gradient_accumulation_steps": 1,
        "max_steps": arm.num_steps,
        "learning_rate": arm.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": arm.num_steps // 10,
        "weight_decay": 0.0,
        "optim": "adamw_torch",
        "adam_beta2": 0.999,
        "adam_epsilon": arm.adam_epsilon,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "report_to": "none",
        "seed": arm.seed,
    }


def _llamafactory_settings(arm: Arm) -> dict[str, Any]:
    data = Path(arm.data)
    return {
        **_shared_settings(arm),
        "model_name_or_path": arm.model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        **({"loss_config": json.loads(arm.loss_config)} if arm.loss_config else {}),
        "dataset": data.stem,
        "dataset_dir": str(data.parent),
        "cutoff_len": CUTOFF_TOKENS,
        "overwrite_cache": True,
        "disable_shuffling": True,
        "disable_gradient_checkpointing": True,
        "save_strategy": "no",
        "use_cpu": True,
    }


def _swift_settings(arm: Arm) -> dict[str, Any]:
    return {
        **_shared_settings(arm),
        "model": arm.model,
        "model_type": "qwen2",
        "tuner_type": "full",
        **({"loss_config": arm.loss_config} if arm.loss_config else {}),
        "dataset": arm.data,
        "max_length": CUTOFF_TOKENS,
        "split_dataset_ratio": 0,
        "dataset_shuffle": "false",
        "train_dataloader_shuffle": "false",
        "load_from_cache_file": "false",
        "dataloader_num_workers": 0,
        "check_model": "false",
        "torch_dtype": "float32",
        "attn_impl": "sdpa",
        "use_cpu": "true",
        "add_version": "false",
        "gradient_checkpointing": "false",
        "save_strategy": "steps",
        "save_steps": arm.num_steps,
        "save_only_model": "true",
    }
