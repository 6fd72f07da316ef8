"""ms-swift's data pipeline, where the samples of a routed or sequence-level run are tagged.

swift keeps the columns it knows (`dataset`, `channel` among them) up to the template, and drops every other key
when it packs; so a sample's source travels in its labels from `template.encode` on (`core.label_tags`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from swift.utils import get_logger

from dft_plugin.core.label_tags import plain_labels
from dft_plugin.errors import ConflictError, DftError, OptionError
from dft_plugin.integrations.ms_swift.settings import requested_loss
from dft_plugin.loss_route import dataset_names
from dft_plugin.patching import Patches
from dft_plugin.training.reference_column import REF_COLUMN, EncodedSample, settings_in_words
from dft_plugin.training.sample_tags import TagPlan

_DATASET_COLUMN = "dataset"  # swift writes the name of each sample's dataset there


class UntaggableSampleError(BaseException):
    """A sample that cannot be tagged; no `Exception`, because swift drops samples whose encoding raises one."""


class TaggedEncode:
    """`template.encode` of one run: the same, with tagged labels.

    Args:
        encode: The template's own.
        plan: The run's tags.
        is_streamed: Whether samples come unchecked; else one without a weight is an evaluation's, and weighs one.
    """

    def __init__(self, encode: Callable[..., Any], plan: TagPlan, *, is_streamed: bool) -> None:
        self._encode = encode
        self._plan = plan
        self._missing_weight = None if is_streamed else 1.0

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The encoded sample, or its parts where swift splits it."""
        media = media_of(inputs) if isinstance(inputs, Mapping) else []  # before swift opens them
        encoded = self._encode(inputs, *args, **kwargs)
        for part in encoded if isinstance(encoded, list) else [encoded]:
            if part.get("labels") is not None:
                part["labels"] = self._tag(inputs, EncodedSample(part["input_ids"], part["labels"], media))
        return encoded

    def _tag(self, sample: Any, encoded: EncodedSample) -> list[int]:
        try:
            if not isinstance(sample, Mapping):
                raise ConflictError(
                    f"swift encodes a {type(sample).__name__}, whose source is unknown; see `dft doctor`."
                )
            names = dataset_names(sample[_DATASET_COLUMN]) if sample.get(_DATASET_COLUMN) else ()
            weight = sample.get(self._plan.weight_column)
            return self._plan.tag(
                encoded,
                self._plan.source(sample, names),
                sample.get(REF_COLUMN),
                self._missing_weight if weight is None else weight,
            )
        except DftError as error:
            # swift may encode in a process of its own, whose exceptions do not come through
            get_logger().error(f"dft: {error}")
            raise UntaggableSampleError(str(error)) from error


def extend_sft(module: ModuleType, patches: Patches) -> None:
    """Tag what the template encodes, after checking every sample's source."""

    def make_template(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def _prepare_template(self: Any) -> Any:
            result = original(self)
            config = requested_loss(self.args)
            plan = None
            if config is not None:
                plan = TagPlan.of(config, lambda: self.template.tokenizer, made_with(self.args))
            self.dft_tag_plan = plan
            if plan is not None:
                _refuse_untaggable(self.args, plan)
                self.template.encode = TaggedEncode(self.template.encode, plan, is_streamed=self.args.streaming)
                self.template.print_inputs = functools.partial(_print_plain, self.template.print_inputs)
            return result

        return _prepare_template

    def make_dataset(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def _get_dataset(self: Any) -> Any:
            if self.dft_tag_plan is None:
                return original(self)
            with kept_columns(self.dft_tag_plan.columns):
                datasets = original(self)
            for place, dataset in enumerate(datasets):
                if dataset is not None and hasattr(dataset, "unique"):  # a streamed one is checked sample by sample
                    _require_sources(self.dft_tag_plan, dataset, is_trained=place == 0)
            return datasets

        return _get_dataset

    patches.replace(module.SwiftSft, "_prepare_template", make_template, accepts=("self",))
    patches.replace(module.SwiftSft, "_get_dataset", make_dataset, accepts=("self",))


def _print_plain(original: Callable[[dict[str, Any]], None], inputs: dict[str, Any]) -> None:
    labels = inputs.get("labels")
    original(inputs if labels is None else {**inputs, "labels": plain_labels(labels)})


def media_of(sample: Mapping[str, Any]) -> list[Any]:
    """Images, videos and sounds of a row, in that order."""
    found = [sample.get(kind) or [] for kind in ("images", "videos", "audios")]
    return [item for items in found for item in (items if isinstance(items, list) else [items])]


_DEFAULTS = {
    **{"system": None, "loss_scale": "default", "agent_template": None, "use_chat_template": True},
    **{"enable_thinking": None, "preserve_thinking": None, "add_non_thinking_prefix": True},
    **{"max_pixels": None, "norm_bbox": None},
}


def made_with(args: Any) -> str:
    """Settings that decide the tokens of a row, as words."""
    names = ("template", "max_length", "truncation_strategy", *_DEFAULTS)
    return settings_in_words("ms-swift", {name: getattr(args, name) for name in names}, _DEFAULTS)


def _refuse_untaggable(args: Any, plan: TagPlan) -> None:
    if args.cached_dataset or args.cached_val_dataset:
        raise ConflictError(
            "cached_dataset was tokenized without the source of its samples, which this loss_config needs. Give the "
            "datasets themselves."
        )
    if plan.tokenizer and args.truncation_strategy == "split":
        raise ConflictError(
            "truncation_strategy=split makes several samples of one row, and the reference has one. Choose delete, "
            "left or right."
        )


@contextmanager
def kept_columns(columns: Iterable[str]) -> Iterator[None]:
    """While open, swift's loaders keep `columns` of the data."""
    from swift.dataset import RowPreprocessor

    added = [column for column in columns if column not in RowPreprocessor.standard_keys]
    RowPreprocessor.standard_keys.extend(added)
    try:
        yield
    finally:
        for column in added:
            RowPreprocessor.standard_keys.remove(column)


def _require_sources(plan: TagPlan, dataset: Any, *, is_trained: bool) -> None:
    """Check every source of a dataset before training.

    Raises:
        OptionError: a missing column, or a source without a rule.
        InputError: a reference of another tokenizer, or a weight that is none.
    """
    # an evaluation weighs every sample alike
    is_weighted = bool(plan.weight_column) and (is_trained or plan.weight_column in dataset.column_names)
    for column in plan.columns:
        if column not in dataset.column_names and (column != plan.weight_column or is_weighted):
            raise OptionError(
                f"the data has no column {column!r}, which loss_config needs; it has {', '.join(dataset.column_names)}."
            )
    if plan.tokenizer:
        plan.require_references(dataset[REF_COLUMN], f"the {'training' if is_trained else 'evaluation'} data")
    if is_weighted:
        for row, weight in enumerate(dataset[plan.weight_column]):
            plan.require_weight(weight, f"row {row} of the {'training' if is_trained else 'evaluation'} data")
    if plan.route is None:
        return
    if (source_column := plan.route.column_name) is None:
        for name in dataset.unique(_DATASET_COLUMN):
            plan.source({}, dataset_names(name))
    else:
        for value in dataset.unique(source_column):
            plan.source({source_column: value}, ())
