"""The data of a LLaMA-Factory configuration, tokenized row by row by LLaMA-Factory itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dft_plugin.encoding.framework_rows import DataFile, FrameworkRow, refuse_other_model
from dft_plugin.errors import ConfigError
from dft_plugin.integrations.llamafactory.data import made_with
from dft_plugin.run_record import write_json

_INFO = "dataset_info.json"
# Settings that change the model's own forward or vocabulary, which a frozen model as saved does not have.
_OTHER_MODEL = ("rope_scaling", "resize_vocab", "add_tokens", "add_special_tokens", "new_special_tokens_config")
# Settings of model and data that neither change a row's tokens nor are wanted while they are made.
_LEFT_OUT = frozenset(
    {
        *("adapter_name_or_path", "adapter_folder", "quantization_bit", "quantization_method", "quantization_type"),
        *("use_unsloth", "use_kt", "enable_liger_kernel", "flash_attn", "shift_attn", "mixture_of_depths"),
        *("streaming", "tokenized_path", "val_size", "preprocessing_num_workers", "mix_strategy", "interleave_probs"),
        *("eval_on_each_dataset",),
    }
)


class LlamaFactoryRows:
    """Implementation of `FrameworkRows`.

    Args:
        settings: The training configuration.
        scratch: A folder that nothing is written to.

    Raises:
        ConfigError: a configuration whose rows cannot have a reference.
    """

    framework = "llamafactory"

    def __init__(self, settings: Mapping[str, Any], scratch: Path) -> None:
        from llamafactory.data import get_template_and_fix_tokenizer
        from llamafactory.data.processor import SupervisedDatasetProcessor
        from llamafactory.hparams import get_train_args
        from llamafactory.model import load_tokenizer

        _refuse(settings)
        model_args, data_args, training_args, *_ = get_train_args(_kept(settings, scratch))
        self._arguments = model_args, data_args, training_args
        self.made_with = made_with(data_args, model_args)
        self.tokenizer = load_tokenizer(model_args)["tokenizer"]
        modules = load_tokenizer(model_args)  # another one: the template adds its own tokens to it
        self._template = get_template_and_fix_tokenizer(modules["tokenizer"], data_args)
        self._processor = SupervisedDatasetProcessor(template=self._template, data_args=data_args, **modules)
        self._modules = modules
        self.is_multimodal = modules["processor"] is not None
        names = dict.fromkeys([*(data_args.dataset or ()), *(data_args.eval_dataset or ())])
        self._aligned = {name: self._load(name) for name in names}
        self.files = tuple(
            DataFile(
                name,
                Path(data_args.dataset_dir) / self._info(name)["file_name"],
                len(aligned),
                is_whole=data_args.max_samples is None,
            )
            for name, aligned in self._aligned.items()
        )
        self._model: Any = None
        self._collate: Any = None

    def encode(self, file: int, row: int) -> FrameworkRow:
        """The row's tokens by LLaMA-Factory's own processor."""
        example = self._aligned[self.files[file].name][row]
        prompt, response = example["_prompt"], example["_response"]
        if len(prompt) % 2 != 1 or len(response) != 1:
            return FrameworkRow(skipped="an invalid example: no pairs of one prompt and one response")
        media = {kind: example[f"_{kind}"] or [] for kind in ("images", "videos", "audios")}
        input_ids, labels = self._processor._encode_data_example(
            prompt=prompt, response=response, system=example["_system"], tools=example["_tools"], **media
        )
        if self._arguments[1].packing and len(input_ids) > self._arguments[1].cutoff_len:
            return FrameworkRow(skipped=f"longer than cutoff_len, {len(input_ids)} tokens, which packing drops")
        sample = {"input_ids": input_ids, "attention_mask": [1] * len(input_ids), "labels": labels, **media}
        return FrameworkRow(input_ids, labels, [item for items in media.values() for item in items], sample)

    def use_model(self, model: Any) -> None:
        """Make the collator, which asks the model for the positions of image tokens."""
        from llamafactory.data.collator import MultiModalDataCollatorForSeq2Seq

        self._collate = MultiModalDataCollatorForSeq2Seq(
            template=self._template, model=model, label_pad_token_id=-100, **self._modules
        )

    def batch(self, row: FrameworkRow) -> Mapping[str, Any]:
        """The collator's batch of the row alone."""
        return dict(self._collate([dict(row.sample)]))

    def write_beside(self, out: Path) -> None:
        """Write `dataset_info.json` with the entries of the configuration's, for the new files."""
        info = {name: {**self._info(name), "file_name": f"{name}.jsonl"} for name in self._aligned}
        write_json(out / _INFO, info)

    def changes(self, out: Path) -> dict[str, Any]:
        """The folder of the data, and where the images stay."""
        data_args = self._arguments[1]
        entries = [self._info(name).get("columns", {}) for name in self._aligned]
        has_media = any(kind in columns for columns in entries for kind in ("images", "videos", "audios"))
        return {"dataset_dir": str(out), **({"media_dir": str(data_args.media_dir)} if has_media else {})}

    def _load(self, name: str) -> Any:
        from llamafactory.data.loader import _load_single_dataset
        from llamafactory.data.parser import get_dataset_list

        model_args, data_args, training_args = self._arguments
        if not isinstance(data_args.dataset_dir, str) or not (Path(data_args.dataset_dir) / _INFO).is_file():
            raise ConfigError(f"dataset_dir={data_args.dataset_dir!r}; a folder with {_INFO} is accepted.")
        (attributes,) = get_dataset_list([name], data_args.dataset_dir)
        path = Path(data_args.dataset_dir) / attributes.dataset_name
        if attributes.load_from != "file" or path.suffix not in {".json", ".jsonl"} or not path.is_file():
            raise ConfigError(
                f"dataset {name!r} is {attributes.load_from} {attributes.dataset_name!r}; a .json or .jsonl file on "
                "this machine is accepted, so that its rows can be written with the reference. Save it as one, and "
                f"name that in {_INFO}."
            )
        attributes.num_samples = None  # a sample is drawn when it is trained on; the file has every row
        return _load_single_dataset(attributes, model_args, data_args, training_args)

    def _info(self, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = json.loads((Path(self._arguments[1].dataset_dir) / _INFO).read_text("utf-8"))[name]
        return entry


def _refuse(settings: Mapping[str, Any]) -> None:
    if settings.get("stage", "sft") != "sft":
        raise ConfigError(f"stage={settings['stage']}: references are read in stage sft alone.")
    refuse_other_model(settings, _OTHER_MODEL)


def _kept(settings: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """The settings that decide tokens; nothing of the training itself."""
    from llamafactory.hparams.data_args import DataArguments
    from llamafactory.hparams.model_args import ModelArguments

    known = {field.name for cls in (DataArguments, ModelArguments) for field in dataclasses.fields(cls)} - _LEFT_OUT
    kept = {name: value for name, value in settings.items() if name in known}
    training = {"stage": "sft", "do_train": True, "output_dir": str(scratch), "report_to": "none", "use_cpu": True}
    return {**kept, **training, "finetuning_type": "full"}
