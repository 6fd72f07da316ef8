"""The keys of a run's YAML, in the words of each framework, by section."""

from __future__ import annotations

from typing import Any

from tests.examples.table import Run, Settings

Sections = dict[str, dict[str, Any]]
LORA = {"lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.0}  # rank and alpha are the paper's


def sections(run: Run) -> Sections:
    """Every key of the file, by section."""
    made = _llamafactory(run) if run.framework == "llamafactory" else _ms_swift(run)
    return {title: keys for title, keys in made.items() if keys}


def launch(run: Run) -> str:
    """The command line on eight GPUs."""
    if run.framework == "llamafactory":
        return f"FORCE_TORCHRUN=1 llamafactory-cli train {run.path}"
    return f"NPROC_PER_NODE=8 swift {'rlhf' if run.arm.preference else 'sft'} {run.path}"


def variant(run: Run, name: str, changed: Settings) -> str:
    """The command line of a variant of the file."""
    before, after = _sizes(run.settings), _sizes(changed.over(run.settings))
    keys = {key: value for key, value in after.items() if before[key] != value}
    keys["output_dir"] = f"{run.output_dir}_{name}"
    said = {key: f"{value:.1e}" if key == "learning_rate" else value for key, value in keys.items()}
    if run.framework == "llamafactory":
        words = [f"{key}={value}" for key, value in said.items()]
    else:
        words = [f"--{key} {value}" for key, value in said.items()]
    return f"{launch(run)} {' '.join(words)}"


def trained(run: Run) -> str:
    """Folder of the trained model, for the evaluation."""
    if run.row.tuner == "lora":
        return f"{run.output_dir}_merged"
    return run.output_dir if run.framework == "llamafactory" else f"{run.output_dir}/checkpoint-N"


def builds(run: Run) -> list[str]:
    """The command lines that make the run's data, where commands do."""
    names = [name for name in run.data if name in run.builds]
    lines = [f"dft data build {name} --format {run.framework} {run.builds[name]} --out data/{name}" for name in names]
    if run.arm.reference:
        lines += [f"dft reference {run.model.hub} {without_reference(run)} --out {run.data_dir}"]
    return [" ".join(line.split()) for line in lines]


def without_reference(run: Run) -> str:
    """The file of the same data, template and limit whose rows have no log-probabilities yet."""
    return run.path.replace(f"_{run.arm_name}.yaml", "_dft.yaml")


def merge(run: Run) -> str:
    """The command line that merges an adapter into its model."""
    if run.framework == "ms_swift":
        return f"swift export --adapters {run.output_dir}/checkpoint-N --merge_lora true --output_dir {trained(run)}"
    return (
        f"llamafactory-cli export model_name_or_path={run.model.hub} adapter_name_or_path={run.output_dir} "
        f"template={run.model.llamafactory['template']} export_dir={trained(run)}"
    )


def _sizes(settings: Settings) -> dict[str, Any]:
    rows, accumulation = settings.spread()
    return {
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
    }


def _loss(run: Run) -> dict[str, Any]:
    if run.arm.loss_type is None:
        return {}
    return {"loss_type": run.arm.loss_type} | ({"loss_config": run.arm.loss_config} if run.arm.loss_config else {})


def _train(run: Run) -> dict[str, Any]:
    return _sizes(run.settings) | {
        "lr_scheduler_type": "cosine",
        "warmup_ratio": run.settings.warmup_ratio,
        "weight_decay": run.settings.weight_decay,
        "adam_beta2": run.settings.adam_beta2,
        "bf16": True,
    }


def _output(run: Run, **more: Any) -> dict[str, Any]:
    return {"output_dir": run.output_dir, **more, "logging_steps": 10, "save_strategy": "epoch", "report_to": "none"}


def _sharding(run: Run) -> dict[str, Any]:
    if run.row.tuner == "lora":
        return {}
    return {"deepspeed": f"yaml_examples/deepspeed/{run.model.deepspeed}.json"}


def _part(keys: dict[str, Any], *names: str, without: bool = False) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if (key in names) != without}


def _llamafactory(run: Run) -> Sections:
    own, stage = run.model.llamafactory, {"stage": "sft"} | run.arm.llamafactory
    lora = LORA | {"lora_target": "all"} if run.row.tuner == "lora" else {}
    model = {"model_name_or_path": run.model.hub} | _part(own, "image_max_pixels")
    frozen = _part(own, "image_max_pixels", "media_dir", "template", "default_system", without=True)
    method = stage | {"do_train": True, "finetuning_type": run.row.tuner} | lora | frozen | _sharding(run)
    dataset = {
        "dataset_dir": run.data_dir,
        "dataset": ",".join(run.data),
        **_part(own, "media_dir", "template", "default_system"),
        "cutoff_len": run.settings.max_length,
        "preprocessing_num_workers": 16,
    }
    return {"loss": _loss(run), "model": model, "method": method, "dataset": dataset, "train": _train(run)} | {
        "output": _output(run)
    }


def _ms_swift(run: Run) -> Sections:
    own = run.model.ms_swift
    lora = LORA | {"target_modules": "all-linear"} if run.row.tuner == "lora" else {}
    model = {"model": run.model.hub, "template": own["template"], "use_hf": True, "torch_dtype": "bfloat16"}
    frozen = _part(own, "ENV", "max_pixels", "template", without=True)
    method = run.arm.ms_swift | {"tuner_type": run.row.tuner} | lora | frozen | _sharding(run)
    files = [f"{folder}/{name}.jsonl" for name, folder in run.data.items()]
    dataset = {
        "dataset": files[0] if len(files) == 1 else files,
        "max_length": run.settings.max_length,
        "truncation_strategy": _truncation(run),
        "split_dataset_ratio": 0,
        "dataset_num_proc": 16,
        **_part(own, "max_pixels"),
    }
    environment = _part(own, "ENV")
    made = {"loss": _loss(run), "model": model, "method": method, "dataset": dataset, "train": _train(run)}
    return {"environment": environment, **made} | {"output": _output(run, add_version=False)}


def _truncation(run: Run) -> str:
    """Rows that are too long: cut as LLaMA-Factory does; dropped where a cut could part an image from its tokens."""
    if run.arm.online:
        return "left"  # a prompt keeps its end
    return "delete" if "max_pixels" in run.model.ms_swift else "right"
