"""A frozen model and the NLL it gives to every target of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dft_plugin.analysis.pretrained import dtype_name
from dft_plugin.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from dft_plugin.encoding.encoder import Sample


class RowScorer:
    """Takes the NLL of the targets of rows.

    Args:
        model: On its device, in evaluation mode.
        device: cpu or cuda.

    Attributes:
        dtype: What the model computes in.
    """

    def __init__(self, model: Any, device: str) -> None:
        from dft_plugin.analysis.target_logps import TargetScorer

        self._device = device
        self.dtype = dtype_name(model)
        self._scorer = TargetScorer(model)

    @property
    def path(self) -> str:
        """`fused`, or `logits` where the fused loss would not be exact."""
        return self._scorer.path

    @property
    def path_reason(self) -> str:
        """Reason for the path `logits`; empty where it is not."""
        return self._scorer.path_reason

    def nlls(self, samples: Sequence[Sample]) -> list[Tensor]:
        """-log p of the targets of each sample, in nats.

        Args:
            samples: Together in one forward; one alone where it has images.

        Returns:
            For each sample float64, shape (T - 1,), on the CPU: entry t belongs to label t + 1; 0 where ignored.

        Raises:
            InputError: a value that is not finite.
        """
        from dft_plugin.analysis.target_logps import NotFiniteError

        longest = max(len(sample.input_ids) for sample in samples)
        inputs = {
            "input_ids": self._padded([sample.input_ids for sample in samples], longest, fill=0),
            "attention_mask": self._padded([[1] * len(sample.input_ids) for sample in samples], longest, fill=0),
        }
        labels = self._padded([sample.labels for sample in samples], longest, fill=-100)
        for key, value in samples[0].tensors.items():
            inputs.setdefault(key, value.to(self._device))
        try:
            nlls = 0 - self._scorer(inputs, labels)
        except NotFiniteError as error:
            row = samples[error.row].row
            raise InputError(
                f"dataset {row.dataset!r}, {row.where}: the model's probabilities are not finite in {self.dtype}; try "
                "--dtype float32."
            ) from None
        return [row[: len(sample.input_ids) - 1] for sample, row in zip(samples, nlls, strict=True)]

    def _padded(self, rows: Sequence[Sequence[int]], length: int, *, fill: int) -> Tensor:
        import torch

        return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], device=self._device)


def batches(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Up to `size` samples that can go together; one with images, or one that is not measured, goes alone."""
    batch: list[Sample] = []
    for sample in samples:
        is_alone = bool(sample.row.images) or sample.status != "ok"
        if batch and (is_alone or len(batch) == size):
            yield batch
            batch = []
        if is_alone:
            yield [sample]
        else:
            batch.append(sample)
    if batch:
        yield batch
