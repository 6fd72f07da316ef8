"""Tags that each sample of the training data must carry to the loss, and the columns they are read from."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dft_plugin.config import LossConfig
from dft_plugin.core.label_tags import MAX_WEIGHT, route_key, tag_labels
from dft_plugin.errors import InputError
from dft_plugin.loss_route import Route

REF_COLUMN = "ref_logps"


@dataclass(frozen=True)
class TagPlan:
    """Plan of the tags of one run's samples; see `core.label_tags` for how tags travel.

    Attributes:
        route: The rules by data source; None where every sample trains the same objective.
        tokenizer: Fingerprint of the run's tokenizer where a frozen reference is read, else empty.
        weight_column: Column with each sample's weight; empty where every sample weighs one.
    """

    route: Route | None
    tokenizer: str
    weight_column: str = ""

    @classmethod
    def of(cls, config: LossConfig, get_tokenizer: Callable[[], Any]) -> TagPlan | None:
        """The plan of a run; None where its objective needs to know nothing of a token but its id.

        Args:
            config: The run's loss.
            get_tokenizer: Its transformers tokenizer; called where a reference is read.
        """
        needs = config.training_objective().needs
        if not needs & {"routes", "segments", "sequence_nll", "ref_logps"} and not config.needs_samples:
            return None
        tokenizer = tokenizer_fingerprint(get_tokenizer()) if "ref_logps" in needs else ""
        return cls(config.shared.route, tokenizer, config.shared.sample_weight or "")

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

    def tag(self, labels: Sequence[int], source: str, reference: Any, weight: Any = None) -> list[int]:
        """One tokenized sample's labels with its tags.

        Args:
            labels: Token ids, -100 where nothing is trained.
            source: From `source`.
            reference: Its column `ref_logps`: {tokenizer, labels_crc32, logps}; ignored where none is read.
            weight: Its weight; ignored where no column has one.

        Raises:
            InputError: the reference is missing, or belongs to other tokens; the weight is none.
        """
        logps = self._reference(labels, reference) if self.tokenizer else None
        found = self.require_weight(weight, "a sample") if self.weight_column else None
        return tag_labels(labels, route=route_key(source) if source else 0, ref_logps=logps, weight=found)

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

    def require_reference(self, reference: Any) -> Mapping[str, Any]:
        """A sample's column `ref_logps`, made with the run's tokenizer.

        Raises:
            InputError: it is missing, or of another tokenizer.
        """
        if isinstance(reference, str):
            reference = json.loads(reference)
        if not isinstance(reference, Mapping) or not {"tokenizer", "labels_crc32", "logps"} <= reference.keys():
            raise InputError(
                f"column {REF_COLUMN!r} of a sample holds {reference!r:.80}; the objective needs "
                "{tokenizer, labels_crc32, logps}: the log-probabilities of its trained tokens under the reference."
            )
        if reference["tokenizer"] != self.tokenizer:
            raise InputError(
                f"column {REF_COLUMN!r} has tokenizer {reference['tokenizer']}, the run uses {self.tokenizer}. "
                "Make the reference with the tokenizer of this model."
            )
        return reference

    def _reference(self, labels: Sequence[int], reference: Any) -> Sequence[float]:
        reference = self.require_reference(reference)
        if reference["labels_crc32"] != labels_crc32(labels):
            raise InputError(
                f"column {REF_COLUMN!r} belongs to other trained tokens than this sample has here: the template, the "
                "masking or the length limit differ. Make the reference with the settings of this run."
            )
        logps: Sequence[float] = reference["logps"]
        return logps


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return a hash of the vocabulary that tells one tokenizer's ids from another's, 16 hexadecimal digits."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()), separators=(",", ":"))
    return hashlib.sha256(vocabulary.encode()).hexdigest()[:16]


def labels_crc32(labels: Sequence[int], *, ignore_index: int = -100) -> int:
    """Checksum of a sample's trained token ids, in order."""
    kept = [str(label) for label in labels if label != ignore_index]
    return zlib.crc32(",".join(kept).encode())


def reference_column(labels: Sequence[int], logps: Sequence[float], tokenizer: Any) -> dict[str, Any]:
    """A sample's column `ref_logps`.

    Args:
        labels: Its tokenized labels, -100 where nothing is trained.
        logps: log p of each trained token under the reference, in order, in nats.
        tokenizer: The transformers tokenizer that made the labels.
    """
    return {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "labels_crc32": labels_crc32(labels),
        "logps": [float(logp) for logp in logps],
    }
