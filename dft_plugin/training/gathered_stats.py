"""The token statistics of one run, gathered between two logs, with the names of their classes and routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dft_plugin.core.reduction import LossOutput
from dft_plugin.core.token_classes import CLASSES, TokenClasses
from dft_plugin.core.token_stats import TokenStats

DEFAULT_ROUTE = "default"


class Window(NamedTuple):
    """Statistics of one mode since its last log, over all ranks.

    Attributes:
        stats: The sums.
        route_names: Name of each route of `stats`.
        aux_loss: Share of the training loss that the model adds to the objective; None where it adds nothing.
    """

    stats: TokenStats
    route_names: tuple[str, ...] = ()
    aux_loss: float | None = None

    def record(self) -> dict[str, Any]:
        """For files and alarms: `means` (with `weight`), `classes` and `routes` by name, `weight_histogram`."""
        means, mean_weight = self.stats.means(), self.stats.mean_weight
        return {
            "tokens": self.stats.num_tokens,
            "means": means if mean_weight is None else {**means, "weight": mean_weight},
            "classes": {CLASSES[key]: row for key, row in self.stats.class_means().items()},
            "routes": {self.route_names[key]: row for key, row in self.stats.route_means().items()},
            "weight_histogram": self.stats.weight_histogram(),
        }

    def scalars(self) -> dict[str, float]:
        """For a framework's reporters: the token means, and by class and route `p/eos`, `nll/route_NAME` and so on."""
        scalars = dict(self.stats.means())
        for key, row in self.stats.class_means().items():
            scalars.update({f"{name}/{CLASSES[key]}": row[name] for name in ("p", "weight")})
        for key, row in self.stats.route_means().items():
            scalars.update({f"{name}/route_{self.route_names[key]}": row[name] for name in ("nll", "tokens")})
        if self.aux_loss is not None:
            scalars["aux_loss"] = self.aux_loss
        return scalars


class GatheredStats:
    """Adds statistics up, on their device, until they are logged.

    Args:
        classes: Classes of the run's vocabulary; None where there is no tokenizer.
        routes: Name of each route by the key that its tokens carry; tokens with another key are the route "default",
            which exists where `has_default`.
        has_default: Whether a rule takes every other source.
    """

    def __init__(
        self, classes: TokenClasses | None = None, routes: Mapping[int, str] | None = None, *, has_default: bool = False
    ) -> None:
        self._classes = classes
        self._route_keys = tuple(routes or {})
        self._route_names = (*(routes or {}).values(), *([DEFAULT_ROUTE] if routes and has_default else []))
        self._sums: dict[str, TokenStats] = {}

    def add(
        self,
        mode: str,
        output: LossOutput,
        labels: Tensor,
        *,
        input_ids: Tensor | None = None,
        placeholder_ids: Sequence[int] = (),
        routes: Tensor | None = None,
    ) -> None:
        """Count one loss call, without waiting for the device.

        Args:
            mode: "train" or "eval".
            output: The loss call.
            labels: Plain token ids as the call was given them, shape (..., T).
            input_ids: The inputs, same shape, for text beside images; ignored where the shape differs.
            placeholder_ids: Ids that stand for images, video or audio in `input_ids`.
            routes: Key of each label's data source, same shape; None where nothing is routed.
        """
        device = output.token_nll.device
        labels = labels.to(device)
        classes = None
        if self._classes is not None:
            is_aligned = input_ids is not None and input_ids.shape == labels.shape
            inputs = input_ids.to(device) if is_aligned and input_ids is not None else None
            classes = self._classes.classify(labels, inputs, placeholder_ids)
        indices = self._route_indices(routes.to(device)) if routes is not None and self._route_names else None
        stats = TokenStats.of(output, classes=classes, routes=indices, num_routes=len(self._route_names))
        self._sums[mode] = self._sums[mode] + stats if mode in self._sums else stats

    def pop(self, mode: str, *, device: torch.device | str = "cpu") -> Window:
        """Return the statistics of `mode` since the last call, over all ranks; every rank must call.

        Args:
            mode: "train" or "eval".
            device: Where the process group's backend communicates.
        """
        stats = self._sums.pop(mode, None) or TokenStats.zero(num_routes=len(self._route_names))
        sums = stats.sums
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            sums = sums.to(device)
            torch.distributed.all_reduce(sums)
        return Window(TokenStats(sums.cpu()), self._route_names)

    def discard(self, mode: str) -> None:
        """Forget what was gathered for `mode`."""
        self._sums.pop(mode, None)

    def _route_indices(self, routes: Tensor) -> Tensor:
        indices = torch.full_like(routes, len(self._route_keys))  # "default"; out of range where there is none
        for index, key in enumerate(self._route_keys):
            indices = indices.masked_fill(routes == key, index)
        return indices
