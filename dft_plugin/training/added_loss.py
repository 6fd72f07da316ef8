"""Terms that a model adds to its cross-entropy, kept with their gradients whatever the objective.

Router losses, AdaLoRA's orthogonality term and the like are added inside the forward, and only where it is given
labels. So the forward is given them, as in plain training, and the cross-entropy that it computes through
`loss_function` is replaced by zero: what it then returns as its loss is exactly what it adds.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dft_plugin.errors import ConflictError, DftError, IntegrationError
from dft_plugin.patching import Patches
from dft_plugin.training.head_probe import untraced_forward
from dft_plugin.training.loss_head import LossHead
from dft_plugin.training.reference_model import model_inputs

logger = logging.getLogger(__name__)


class AddedLoss:
    """Terms that one model adds to its loss.

    Args:
        model: The model without wrappers, adapters included.

    Attributes:
        is_followed: Whether the model computes its cross-entropy where it can be replaced.
    """

    def __init__(self, model: Any) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's wrapper
        self._base = base
        self.is_followed = _computes_replaceable_loss(base)
        self._is_checked = False
        self._sum: Tensor | None = None
        self._num_steps = 0
        self._has_gradient = False
        self._is_warned = False

    @contextmanager
    def keeping(self, model: nn.Module, bare_model: nn.Module, inputs: Mapping[str, Any]) -> Iterator[list[Tensor]]:
        """Like `collecting`, for any model: where nothing can be kept, check once that there is nothing to keep.

        Args:
            model: The model as the trainer calls it, wrappers included.
            bare_model: The same without wrappers.
            inputs: What the trainer hands to the forward, plain labels included.
        """
        if self.is_followed:
            with self.collecting(model, inputs["labels"]) as added:
                yield added
            return
        if not self._is_checked and _takes_labels(self._base):
            self._refuse_unseen_terms(bare_model, inputs)
        self._is_checked = True
        yield []

    def count(self, added: Tensor) -> None:
        """Remember the share of one training loss for the logs, without waiting for the device."""
        self._has_gradient |= added.requires_grad
        self._sum = added.detach() if self._sum is None else self._sum + added.detach()

    def end_step(self) -> None:
        """Count an optimiser step."""
        self._num_steps += 1

    def pop(self, device: torch.device | str) -> float | None:
        """Return what was added to the loss of an optimiser step, on average since the last call; None for nothing.

        Every rank must call. Ranks are summed: the trainer multiplies by their number, then takes their mean.

        Args:
            device: Where the process group's backend communicates.
        """
        total = torch.zeros((), dtype=torch.float64) if self._sum is None else self._sum.double()
        num_steps = max(self._num_steps, 1)
        self._sum, self._num_steps = None, 0
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            total = total.to(device)
            torch.distributed.all_reduce(total)
        value = float(total) / num_steps
        if value and not self._has_gradient and not self._is_warned:
            self._is_warned = True
            logger.warning(
                "dft: what %s adds to its loss (aux_loss %.4g) has no gradient and trains nothing, as in plain "
                "training: reentrant gradient checkpointing cuts it off. Set use_reentrant_gc: false in LLaMA-Factory, "
                "--gradient_checkpointing_kwargs '{\"use_reentrant\": false}' in ms-swift.",
                type(self._base).__name__,
                value,
            )
        return value or None

    @contextmanager
    def collecting(self, model: nn.Module, labels: Tensor) -> Iterator[list[Tensor]]:
        """While open, a call of `model` is given `labels`, and the list gets what the model added, once.

        Args:
            model: The model as the trainer calls it, wrappers included.
            labels: Plain token ids, shape (B, T).

        Raises:
            IntegrationError: on leaving, the model returned a loss that is not its replaced cross-entropy.
            ConflictError: its loss function adds a term of its own, which cannot be told from the cross-entropy.
        """
        added: list[Tensor] = []
        num_replaced = 0

        def give_labels(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return args, {**kwargs, "labels": labels}

        def keep(_: nn.Module, args: tuple[Any, ...], outputs: Any) -> None:
            loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
            if loss is None:
                return
            if num_replaced != 1:
                raise IntegrationError(
                    f"{type(self._base).__name__} computed {num_replaced} cross-entropies of the labels where one was "
                    "expected, so what it adds to its loss cannot be kept. Remove loss_type."
                )
            added.append(loss)

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def loss_function(*args: Any, **kwargs: Any) -> Any:
                nonlocal num_replaced
                arguments = dict(zip(("logits", "labels", "vocab_size"), args, strict=False)) | kwargs
                logits, targets = arguments["logits"], arguments["labels"]
                is_ours = targets is labels or (targets.shape == labels.shape and torch.equal(targets, labels))
                if not is_ours:  # the loss of another head
                    return original(*args, **kwargs)
                if not self._is_checked:
                    _refuse_terms_within(original, self._base, arguments)
                    self._is_checked = True
                num_replaced += 1
                return torch.zeros((), device=logits.device)  # a new one: models add to it in place

            return loss_function

        with ExitStack() as stack:
            stack.enter_context(_loss_function_replaced(self._base, make))
            for handle in (
                model.register_forward_pre_hook(give_labels, with_kwargs=True),
                model.register_forward_hook(keep),
            ):
                stack.callback(handle.remove)
            yield added

    def obstacle(self, model: nn.Module, inputs: Mapping[str, Any], head: LossHead) -> str:
        """Say why the model's own loss cannot be made where `head` makes no logits; empty where it can.

        Found by one forward without gradients; every rank must call.

        Args:
            model: The model without wrappers.
            inputs: What the trainer hands to the forward, plain labels included.
            head: The head that the fused loss takes the place of.
        """
        if not self.is_followed or inputs.get("labels") is None:
            return ""
        try:
            with head.capturing_hidden(), self.collecting(model, inputs["labels"]):
                untraced_forward(model, model_inputs(inputs))
        except (DftError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever the model's own code raises on a scalar is the finding
            return f"the model's own loss needs its logits ({error!r:.200})"
        return ""

    def _refuse_unseen_terms(self, model: nn.Module, inputs: Mapping[str, Any]) -> None:
        """Check that a model whose cross-entropy cannot be replaced adds nothing to it, by one forward."""
        with _no_cross_entropy():
            outputs = untraced_forward(model, {**model_inputs(inputs), "labels": inputs["labels"]})
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        if loss is not None and float(loss) != 0:
            raise ConflictError(
                f"{type(self._base).__name__} adds {float(loss):.6g} to its cross-entropy within its own forward, "
                "where it cannot be kept beside another objective. Switch that term off, or remove loss_type."
            )


def _takes_labels(base: Any) -> bool:
    return "labels" in inspect.signature(inspect.unwrap(type(base).forward)).parameters


def _computes_replaceable_loss(base: Any) -> bool:
    names = inspect.unwrap(type(base).forward).__code__.co_names
    return hasattr(base, "loss_function") and _takes_labels(base) and "loss_function" in names


@contextmanager
def _loss_function_replaced(base: Any, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    name = "_loss_function"  # what the property `loss_function` of transformers' models reads and sets
    before = vars(base).get(name)
    base.loss_function = make(base.loss_function)
    try:
        yield
    finally:
        if before is None:
            delattr(base, name)
        else:
            base.loss_function = before


def _refuse_terms_within(original: Callable[..., Any], base: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse a loss function that adds to the cross-entropy itself, by a call on few made-up logits."""
    vocab_size = int(arguments["vocab_size"]) if "vocab_size" in arguments else base.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((1, 3, vocab_size), generator=generator)
    others = {key: value for key, value in arguments.items() if not isinstance(value, Tensor)}
    labels = torch.tensor([[0, 1, 1]])
    with torch.no_grad(), _no_cross_entropy():
        rest = original(**{**others, "logits": logits, "labels": labels})
    if float(rest) != 0:
        raise ConflictError(
            f"the loss function {getattr(original, '__qualname__', original)} of {type(base).__name__} adds a term of "
            "its own to the cross-entropy, which cannot be kept beside another objective. Remove loss_type."
        )


@contextmanager
def _no_cross_entropy() -> Iterator[None]:
    def zero(logits: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return torch.zeros((), device=logits.device)

    patches = Patches("torch")
    patches.replace(nn.functional, "cross_entropy", lambda _: zero)
    try:
        yield
    finally:
        patches.revert()
