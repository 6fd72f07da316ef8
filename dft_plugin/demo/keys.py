"""An arm of the demo, and how either framework says it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft_plugin.study.design import Framework

CUTOFF_TOKENS = 64


@dataclass(frozen=True)
class Arm:
    """One training run. Paths are relative to the demo's folder.

    Attributes:
        name: For example `seed0/dft`.
        framework: Whose command line trains it.
        loss_type: Objective.
        model: Folder of the model it starts from.
        data: JSONL file with `messages` records.
        template: Chat template, a name both frameworks know.
        num_steps: Optimiser steps.
        batch_size: Sequences a step.
        learning_rate: Peak, after a tenth of the steps; cosine to 0.
        adam_epsilon: Of the optimiser.
        seed: Of the framework.
        starts_from: Name of the arm whose model it starts from; None for a model that is already there.
        loss_config: Options of the objective, as JSON text; empty for none.
    """

    name: str
    framework: Framework
    loss_type: str
    model: str
    data: str
    template: str
    num_steps: int
    batch_size: int
    learning_rate: float
    adam_epsilon: float
    seed: int
    starts_from: str | None = None
    loss_config: str = ""

    @property
    def job_name(self) -> str:
        """Name of its job, and below the demo's folder where the framework writes to."""
        return f"train/{self.name}"

    @property
    def trained_model(self) -> str:
        """Folder of the trained model."""
        return self.job_name if self.framework == "llamafactory" else f"{self.job_name}/checkpoint-{self.num_steps}"

    @property
    def log(self) -> str:
        """Log of the framework."""
        return f"jobs/{self.job_name}.log"


def make_keys(arm: Arm, folder: Path) -> dict[str, Any]:
    """The framework's own keys for an arm of the demo in `folder`."""
    return _llamafactory_keys(arm, folder) if arm.framework == "llamafactory" else _swift_keys(arm, folder)


def _shared_keys(arm: Arm) -> dict[str, Any]:
    """Return the keys that both frameworks call by the same name."""
    return {
        "loss_type": arm.loss_type,
        "template": arm.template,
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


def _llamafactory_keys(arm: Arm, folder: Path) -> dict[str, Any]:
    data = folder / arm.data
    return {
        **_shared_keys(arm),
        "model_name_or_path": str(folder / arm.model),
        "output_dir": str(folder / arm.job_name),
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


def _swift_keys(arm: Arm, folder: Path) -> dict[str, Any]:
    return {
        **_shared_keys(arm),
        "model": str(folder / arm.model),
        "output_dir": str(folder / arm.job_name),
        "model_type": "qwen2",
        "tuner_type": "full",
        **({"loss_config": arm.loss_config} if arm.loss_config else {}),
        "dataset": str(folder / arm.data),
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
