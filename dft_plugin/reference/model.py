"""The frozen model of a reference, and the column it gives to each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dft_plugin.analysis.pretrained import Dtype, ModelFiles, load_frozen
from dft_plugin.analysis.target_logps import NotFiniteError, TargetScorer
from dft_plugin.errors import DftError, InputError
from dft_plugin.training.reference_column import EncodedSample, Reference, make_reference, tokenizer_fingerprint

if TYPE_CHECKING:
    from dft_plugin.encoding.framework_rows import FrameworkRows


class ReferenceModel:
    """A loaded model.

    Args:
        files: What to load.
        dtype: `auto` is the one its weights are stored in.
        device: cpu or cuda.
        rows: The data.
        fingerprint: Of the model's files.
    """

    def __init__(self, files: ModelFiles, dtype: Dtype, device: str, rows: FrameworkRows, fingerprint: str) -> None:
        self._rows = rows
        self._device = device
        self._words = {
            "model": fingerprint,
            "tokenizer": tokenizer_fingerprint(rows.tokenizer),
            "made_with": rows.made_with,
        }
        model = load_frozen(files, dtype, device)
        rows.use_model(model)
        self._scorer = TargetScorer(model)

    def reference(self, file: int, row: int) -> Reference:
        """The column of one row.

        Raises:
            InputError: its log-probabilities are not finite, or do not belong to its tokens.
        """
        try:
            found = self._rows.encode(file, row)
            if found.skipped:
                return Reference(**self._words, skipped=found.skipped)
            sample = EncodedSample(found.input_ids, found.labels, found.media)
            logps = self._logps(self._rows.batch(found), sample) if sample.num_trained else []
            return make_reference(sample, logps, **self._words)
        except DftError:
            raise
        except (ValueError, OSError) as error:  # an image that is cut, or is not there
            raise InputError(
                f"{self._rows.framework} or the model refuses the row, and would in training: {type(error).__name__}: "
                f"{error}"
            ) from error

    def _logps(self, batch: Any, sample: EncodedSample) -> list[float]:
        inputs = {key: value.to(self._device) if torch.is_tensor(value) else value for key, value in batch.items()}
        labels = inputs.pop("labels")
        kept = labels[0][labels[0] != -100]
        if kept.tolist() != [label for label in sample.labels if label != -100] or int(labels[0, 0]) != -100:
            raise InputError(
                "the framework's batch of the row has other trained tokens than the row, or trains its first."
            )
        try:
            logps = self._scorer(inputs, labels)[0]
        except NotFiniteError:
            raise InputError("the reference's probabilities are not finite; try --dtype float32.") from None
        return logps[labels[0, 1:].cpu() != -100].tolist()
