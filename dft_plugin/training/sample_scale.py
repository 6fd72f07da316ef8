"""Factors of a token's loss that come from its sample: the weight of a data column, and the mean over the sample."""

from __future__ import annotations

import torch
from torch import Tensor

from dft_plugin.core.label_tags import TaggedLabels


def sample_scale(tagged: TaggedLabels, *, is_weighted: bool, is_sample_mean: bool, shift: bool) -> Tensor:
    """Factor of each token's loss, float32, shape (..., T), aligned with the labels; detached.

    The samples of a row lie in it whole, so each one's trained tokens are counted there, packed or not. With
    `is_sample_mean` the loss must be divided by the samples of the optimiser step, else by its tokens.

    Args:
        tagged: Labels with what they carried, shape (..., T).
        is_weighted: Whether the factor has the sample's weight.
        is_sample_mean: Whether it has one over the number of the sample's trained tokens.
        shift: Whether position t predicts label t + 1; the first label of a row then is not trained.
    """
    is_kept = tagged.labels != -100
    scale = torch.ones(is_kept.shape, dtype=torch.float32, device=is_kept.device)
    if is_weighted:
        scale = tagged.weights.where(is_kept, 0.0)
    if is_sample_mean:
        segments = tagged.segments.reshape(-1, is_kept.shape[-1])
        is_trained = is_kept.clone()
        if shift:
            is_trained[..., 0] = False
        counts = torch.zeros(segments.shape[0], segments.shape[1] + 1, device=is_kept.device)
        counts.scatter_add_(1, segments, is_trained.reshape(segments.shape).float())
        scale = scale / counts.gather(1, segments).clamp(min=1).reshape(is_kept.shape)
    return scale
