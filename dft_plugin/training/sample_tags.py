"""Tags that each sample of the training data must carry to the loss, and the columns they are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dft_plugin.config import LossConfig
from dft_plugin.core.label_tags import MAX_WEIGHT, route_key, tag_labels
from dft_plugin.errors import InputError
from dft_plugin.loss_route import Route
from dft_plugin.training.reference_column import REF_COLUMN, EncodedSample, Reference, tokenizer_fingerprint


def needs_tags(config: LossConfig) -> bool:
    """Return True where the loss must know more of a token than its id and its batch."""
    needs = config.training_objective().needs
    return bool(needs & {"routes", "segments", "sequence_nll", "ref_logps"}) or config.needs_samples


@dataclass(frozen=True)
class TagPlan:
    """Plan of the tags of one run's samples; see `core.label_tags` for how tags travel.

    Attributes:
        route: The rules by data source; None where every sample trains the same objective.
        tokenizer: Fingerprint of the run's tokenizer where a frozen reference is read, else empty.
        weight_column: Column with each sample's weight; empty where every sample weighs one.
        made_with: What decides the tokens of the run, as words for a person; see `reference_column`.
    """

    route: Route | None
    tokenizer: str
    weight_column: str = ""
    made_with: str = ""

    @classmethod
    def of(cls, config: LossConfig, get_tokenizer: Callable[[], Any], made_with: str) -> TagPlan | None:
        """The plan of a run; None where its objective needs to know nothing of a token but its id.

        Args:
            config: The run's loss.
            get_tokenizer: Its transformers tokenizer; called where a reference is read.
            made_with: What decides its tokens.
        """
        if not needs_tags(config):
            return None
        is_referenced = "ref_logps" in config.training_objective().needs
        tokenizer = tokenizer_fingerprint(get_tokenizer()) if is_referenced else ""
        return cls(config.shared.route, tokenizer, config.shared.sample_weight or "", made_with)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that must reach the tokenization."""
        route = self.route.column_name if self.route is not None else None
        reference = [REF_COLUMN] if self.tokenizer else []
        weight = [self.weight_column] if self.weight_column else []
        return (*([route] if route else []), *reference, *weight)

    def source(self, sample: Mapping[str, Any], dataset_names: Sequence[str]) -> str:
        """Name of a sample's data source, as the rules call it; empty where there are none.

        Args:
            sample: Its columns.
            dataset_names: The words a rule may call its dataset.

        Raises:
            OptionError: no rule for it.
        """
        if self.route is None:
            return ""
        column = self.route.column_name
        return self.route.match(dataset_names if column is None else [sample.get(column)])

    def tag(self, sample: EncodedSample, source: str, reference: Any, weight: Any = None) -> list[int]:
        """One tokenized sample's labels with its tags.

        Args:
            sample: Its tokens.
            source: From `source`.
            reference: Its column `ref_logps`; ignored where none is read.
            weight: Its weight; ignored where no column has one.

        Raises:
            InputError: the reference is missing, or belongs to other tokens; the weight is none.
        """
        logps = self._read(reference).logps_of(sample, self.made_with) if self.tokenizer else None
        found = self.require_weight(weight, "a sample") if self.weight_column else None
        return tag_labels(sample.labels, route=route_key(source) if source else 0, ref_logps=logps, weight=found)

    def require_weight(self, weight: Any, where: str) -> float:
        """A sample's weight.

        Args:
            weight: The value of its column.
            where: What to call the sample in the message.

        Raises:
            InputError: no finite number that is at least 0.
        """
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight <= MAX_WEIGHT:
            raise InputError(
                f"{where} has {self.weight_column}={weight!r}, and sample_weight accepts finite numbers from 0 to "
                f"{MAX_WEIGHT:g}. Correct the row, or remove it."
            )
        return float(weight)

    def require_references(self, values: Iterable[Any], where: str) -> None:
        """Check the column `ref_logps` of a whole dataset, as far as its tokens need not be known.

        Args:
            values: One for each row.
            where: What to call the dataset in the message.

        Raises:
            InputError: a row has none, or one of another tokenizer; they are of two models.
        """
        models = dict.fromkeys(self._read(value).model for value in values)
        if len(models) > 1:
            raise InputError(
                f"column {REF_COLUMN!r} of {where} has the log-probabilities of {len(models)} models "
                f"({', '.join(models)}); one reference for all rows is accepted. Make it again for the whole dataset."
            )

    def _read(self, value: Any) -> Reference:
        reference = Reference.read(value)
        if reference.tokenizer != self.tokenizer:
            raise InputError(
                f"column {REF_COLUMN!r} has tokenizer {reference.tokenizer}, the run uses {self.tokenizer}. "
                "Make the reference with the tokenizer of this model."
            )
        return reference
