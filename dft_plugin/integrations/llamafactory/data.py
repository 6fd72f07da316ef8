"""LLaMA-Factory's data pipeline, where the samples of a routed or sequence-level run are tagged.

Between `dataset_info.json` and the collator every unknown column is dropped; so the source of a sample is kept in
a column of ours only until its labels exist, and travels in them from there (`core.label_tags`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dft_plugin.core.label_tags import plain_labels
from dft_plugin.errors import ConflictError, IntegrationError, OptionError
from dft_plugin.patching import Patches
from dft_plugin.training.reference_column import REF_COLUMN, EncodedSample, settings_in_words
from dft_plugin.training.sample_tags import TagPlan

PLAN = "dft_tag_plan"
"""Attribute of the data arguments that holds the run's plan; absent or None where nothing is tagged."""
_SOURCE, _REFERENCE, _WEIGHT = "_dft_source", "_dft_reference", "_dft_weight"
_MEDIA = ("images", "videos", "audios")


def plan_of(data_args: Any) -> TagPlan | None:
    """The run's plan; absent on data arguments that our parser never saw."""
    plan: TagPlan | None = getattr(data_args, PLAN, None)
    return plan


def require_taggable(plan: TagPlan, data_args: Any, stage: str) -> None:
    """Check what can be checked before anything is loaded.

    Raises:
        ConflictError: a setting under which samples cannot be tagged.
        OptionError: a dataset without a rule.
    """
    if stage != "sft":
        raise ConflictError(
            f"this loss_config needs to know which sample each token belongs to, and stage={stage} trains one stream "
            "of text. Use stage: sft, or a loss_config without routes, sequences, references and samples."
        )
    if data_args.streaming and plan.columns:
        raise ConflictError(
            f"streaming=true: the columns {', '.join(plan.columns)} cannot be checked before training. "
            "Set streaming: false."
        )
    if plan.tokenizer and data_args.packing and not data_args.neat_packing:
        raise ConflictError(
            "packing=true without neat_packing lets each sample see the ones before it in its row, which the reference "
            "did not see. Set neat_packing: true."
        )
    if plan.route is not None and plan.route.column_name is None:
        for name in (*(data_args.dataset or ()), *(data_args.eval_dataset or ())):
            plan.source({}, [name])


_DATA_DEFAULTS = {
    **{"train_on_prompt": False, "mask_history": False, "tool_format": None, "default_system": None},
    **{"enable_thinking": True, "preserve_thinking": False},
}
_MODEL_DEFAULTS = {"image_max_pixels": 768 * 768, "image_min_pixels": 32 * 32, "split_special_tokens": False}


def made_with(data_args: Any, model_args: Any) -> str:
    """Settings that decide the tokens of a row, as words."""
    values = {name: getattr(data_args, name) for name in ("template", "cutoff_len", *_DATA_DEFAULTS)}
    values |= {name: getattr(model_args, name) for name in _MODEL_DEFAULTS}
    return settings_in_words("llamafactory", values, {**_DATA_DEFAULTS, **_MODEL_DEFAULTS})


def extend_loader(module: ModuleType, patches: Patches) -> None:
    """Remember the source of each sample while datasets are aligned."""

    def make_list(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_dataset_list(dataset_names: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(dataset_names, *args, **kwargs)
            for name, attributes in zip(dataset_names or (), found, strict=True):
                attributes.dft_name = name
            return found

        return get_dataset_list

    def make_align(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def align_dataset(dataset: Any, dataset_attr: Any, data_args: Any, *args: Any, **kwargs: Any) -> Any:
            plan = plan_of(data_args)
            aligned = original(dataset, dataset_attr, data_args, *args, **kwargs)
            if plan is None:
                return aligned
            name = dataset_attr.dft_name
            return _with_sources(plan, dataset, aligned, name, is_trained=name in (data_args.dataset or ()))

        return align_dataset

    patches.replace(module, "get_dataset_list", make_list, accepts=("dataset_names",))
    patches.replace(module, "align_dataset", make_align, accepts=("dataset", "dataset_attr", "data_args"))


def _with_sources(plan: TagPlan, raw: Any, aligned: Any, name: str, *, is_trained: bool) -> Any:
    columns = set(next(iter(raw)))
    # an evaluation weighs every sample alike
    is_weighted = bool(plan.weight_column) and (is_trained or plan.weight_column in columns)
    for column in plan.columns:
        if column not in columns and (column != plan.weight_column or is_weighted):
            raise OptionError(f"dataset {name!r} has no column {column!r}, which loss_config needs; it has {columns}.")
    route = plan.route.column_name if plan.route is not None else None
    if route is None:
        source = plan.source({}, [name])
        if not hasattr(aligned, "add_column") or not hasattr(aligned, "__len__"):  # streamed
            return aligned.map(lambda _: {_SOURCE: source})
        aligned = aligned.add_column(_SOURCE, [source] * len(aligned))
    else:
        aligned = aligned.add_column(_SOURCE, [plan.source({route: value}, ()) for value in raw[route]])
    if plan.tokenizer:
        values = raw[REF_COLUMN]
        plan.require_references(values, f"dataset {name!r}")
        texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
        aligned = aligned.add_column(_REFERENCE, texts)
    if plan.weight_column:
        values = raw[plan.weight_column] if is_weighted else [1.0] * len(aligned)
        rows = [plan.require_weight(value, f"row {row} of dataset {name!r}") for row, value in enumerate(values)]
        aligned = aligned.add_column(_WEIGHT, rows)
    return aligned


def extend_processors(module: ModuleType, patches: Patches) -> None:
    """Tag the labels of each sample as soon as it is tokenized, before it is packed."""

    def make_preprocess(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def preprocess_dataset(self: Any, examples: Any) -> Any:
            if plan_of(self.data_args) is None:
                return original(self, examples)
            examples = {key: examples[key] for key in examples}
            nothing = [None] * len(examples["_prompt"])
            carried = (examples[_SOURCE], examples.get(_REFERENCE) or nothing, examples.get(_WEIGHT) or nothing)
            # the original hands each prompt on as the very object it finds here
            self.dft_samples = {
                id(prompt): sample for prompt, *sample in zip(examples["_prompt"], *carried, strict=True)
            }
            try:
                return original(self, examples)
            finally:
                del self.dft_samples

        return preprocess_dataset

    def make_encode(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def _encode_data_example(self: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
            input_ids, labels = original(self, prompt, *args, **kwargs)
            plan = plan_of(self.data_args)
            if plan is None:
                return input_ids, labels
            if id(prompt) not in self.dft_samples:
                raise IntegrationError(
                    "llamafactory copies a sample before it is tokenized, so its source is lost. See `dft doctor`."
                )
            media = [item for kind in _MEDIA for item in kwargs.get(kind) or ()]
            return input_ids, plan.tag(EncodedSample(input_ids, labels, media), *self.dft_samples[id(prompt)])

        return _encode_data_example

    def make_print(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def print_data_example(self: Any, example: dict[str, Any]) -> Any:
            if plan_of(self.data_args) is not None:
                example = {**example, "labels": plain_labels(example["labels"])}
            return original(self, example)

        return print_data_example

    supervised = module.SupervisedDatasetProcessor
    patches.replace(supervised, "_encode_data_example", make_encode, accepts=("prompt",))
    patches.replace(supervised, "print_data_example", make_print, accepts=("example",))
    for cls in (supervised, module.PackedSupervisedDatasetProcessor):
        patches.replace(cls, "preprocess_dataset", make_preprocess, accepts=("examples",))
