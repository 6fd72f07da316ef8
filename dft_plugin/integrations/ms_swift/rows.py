"""The data of an ms-swift configuration, tokenized row by row by ms-swift itself."""

from __future__ import annotations

import copy
import dataclasses
import json
import operator
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dft_plugin.encoding.framework_rows import DataFile, FrameworkRow, refuse_other_model
from dft_plugin.errors import ConfigError
from dft_plugin.integrations.ms_swift.data import kept_columns, made_with, media_of

_ROW = "dft_row"
_OTHER_MODEL = ("rope_scaling", "new_special_tokens", "max_model_len")
# Settings that neither change a row's tokens nor are wanted while they are made.
_LEFT_OUT = frozenset(
    {
        *("adapters", "packing", "packing_length", "packing_num_proc", "packing_strategy", "padding_free"),
        *("streaming", "interleave_prob", "split_dataset_ratio", "dataset_num_proc", "load_from_cache_file"),
        *("sequence_parallel_size", "attn_impl", "experts_impl", "torch_dtype", "device_map", "max_memory"),
        *("quant_method", "quant_bits", "tuner_backend", "tuner_type", "use_ray", "lazy_tokenize", "load_data_args"),
    }
)
# Parts that swift's templates look for in a multimodal model, and that transformers 5 keeps one level below.
_PARTS = ("language_model", "vision_tower", "multi_modal_projector", "visual", "vision_model")


class SwiftRows:
    """Implementation of `FrameworkRows`.

    Args:
        settings: The training configuration, as `swift sft FILE.yaml` reads it.
        scratch: A folder for what swift writes while it reads its arguments.

    Raises:
        ConfigError: a configuration whose rows cannot have a reference.
    """

    framework = "ms-swift"

    def __init__(self, settings: Mapping[str, Any], scratch: Path) -> None:
        from swift.arguments import SftArguments
        from swift.utils import parse_args

        _refuse(settings)
        _set_environment(settings.get("ENV") or {})
        self._args, _ = parse_args(SftArguments, _arguments(settings, scratch))
        self.made_with = made_with(self._args)
        self._template = self._args.get_template(self._args.get_model_processor(load_model=False)[1])
        self._template.set_mode("train")
        self.tokenizer = self._template.tokenizer
        self.is_multimodal = bool(self._args.model_meta.is_multimodal)
        names = [*self._args.dataset, *self._args.val_dataset]
        self._datasets: list[Any] = []
        files: dict[Path, DataFile] = {}
        for name in names:
            path = _file_of(name)
            if path in files:
                continue
            rows, num_rows = self._load(path)
            self._datasets.append(rows)
            files[path] = DataFile(path.stem, path, num_rows)
        self.files = tuple(files.values())
        self._places = [{row: place for place, row in enumerate(rows[_ROW])} for rows in self._datasets]
        for rows, places, file in zip(self._datasets, self._places, self.files, strict=True):
            if len(places) != len(rows):
                raise ConfigError(f"{file.path}: ms-swift makes several samples of one row, which has one reference.")

    def encode(self, file: int, row: int) -> FrameworkRow:
        """The row's tokens by swift's own template."""
        if row not in self._places[file]:
            return FrameworkRow(skipped="a row that ms-swift's preprocessor refuses")
        sample = self._datasets[file][self._places[file][row]]
        media = media_of(sample)
        try:
            encoded = self._template.encode(sample)
        except Exception as error:  # noqa: BLE001 - swift drops a sample whose encoding raises any
            return FrameworkRow(skipped=f"{type(error).__name__}: {error}")
        return FrameworkRow(encoded["input_ids"], encoded["labels"], media, encoded)

    def use_model(self, model: Any) -> None:
        """Hang swift's own preparation of inputs before the model's forward, as its trainers do."""
        for part in _PARTS if self.is_multimodal else ():
            if not hasattr(type(model), part) and hasattr(model.model, part):
                setattr(type(model), part, property(operator.attrgetter(f"model.{part}")))
        if self._template.use_model:
            self._template.model = model
        self._template.register_post_encode_hook([model])

    def batch(self, row: FrameworkRow) -> Mapping[str, Any]:
        """The template's batch of the row alone, without weights of the loss."""
        found = self._template.data_collator([dict(row.sample)])
        return {key: value for key, value in found.items() if key not in ("loss_scale", "channel", "text_position_ids")}

    def write_beside(self, out: Path) -> None:
        """Write nothing: swift names files by their paths."""

    def changes(self, out: Path) -> dict[str, Any]:
        """The same data, from the new files."""

        def moved(names: list[str]) -> list[str]:
            return [f"{out / _file_of(name).stem}.jsonl{name[len(str(_file_of(name))) :]}" for name in names]

        found = {"dataset": moved(self._args.dataset)}
        return {**found, **({"val_dataset": moved(self._args.val_dataset)} if self._args.val_dataset else {})}

    def _load(self, path: Path) -> tuple[Any, int]:
        """The rows of a file as swift's preprocessor leaves them, each with its number, and how many the file has."""
        from swift.dataset.dataset_syntax import DatasetSyntax

        syntax = DatasetSyntax.parse(str(path))
        meta = copy.copy(syntax.get_dataset_meta(self._args.use_hf))
        counted: list[int] = []
        meta.preprocess_func = _with_numbers(meta.preprocess_func, counted)
        names = ("hub_token", "strict", "download_mode", "columns", "remove_unused_columns")
        kwargs = {name: getattr(self._args, name) for name in (*names, "disable_auto_column_mapping")}
        loader = meta.loader(num_proc=1, load_from_cache_file=False, streaming=False, **kwargs)
        with kept_columns((_ROW,)):
            rows = loader.load(syntax, meta, use_hf=self._args.use_hf)
        return rows, counted[0]


def _with_numbers(preprocess: Callable[..., Any], counted: list[int]) -> Callable[..., Any]:
    def number_and_preprocess(dataset: Any, **kwargs: Any) -> Any:
        counted.append(len(dataset))
        return preprocess(dataset.add_column(_ROW, list(range(len(dataset)))), **kwargs)

    return number_and_preprocess


def _file_of(name: str) -> Path:
    """The file that a word of `dataset` names, `file#count` included."""
    path = name if Path(name).exists() else name.rsplit("#", 1)[0]
    if Path(path).suffix not in {".json", ".jsonl"} or not Path(path).is_file():
        raise ConfigError(
            f"dataset {name!r}; a .json or .jsonl file on this machine is accepted, so that its rows can be written "
            "with the reference. Save it as one, and name that."
        )
    return Path(path)


def _refuse(settings: Mapping[str, Any]) -> None:
    refuse_other_model(settings, _OTHER_MODEL)
    if settings.get("truncation_strategy") == "split":
        raise ConfigError("truncation_strategy=split makes several samples of one row; delete, left and right do not.")
    if settings.get("cached_dataset") or settings.get("cached_val_dataset"):
        raise ConfigError("cached_dataset is tokenized already; give the files it was made of.")


def _set_environment(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        os.environ.setdefault(name, str(value))


def _arguments(settings: Mapping[str, Any], scratch: Path) -> list[str]:
    """The settings that decide tokens as command line arguments; nothing of the training itself."""
    from swift.arguments.base_args import BaseArguments

    known = {field.name for field in dataclasses.fields(BaseArguments)} - _LEFT_OUT
    kept = {name: value for name, value in settings.items() if name in known}
    training = {
        "output_dir": str(scratch),
        "report_to": "none",
        "add_version": False,
        "torch_dtype": "float32",
        "use_cpu": True,
    }
    words: list[str] = []
    for name, value in {**kept, **training, "tuner_type": "full"}.items():
        values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        words += [f"--{name}", *(str(part) for part in values)]
    return words
