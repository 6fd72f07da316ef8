"""What is shown for one tiny model: our losses against the model's and the framework's own, loss and every gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dft_plugin.config import LossConfig
from dft_plugin.training.trainer_loss import TrainerLoss
from tests.sweep.architectures import FRAMEWORK

RTOL, ATOL = 1e-4, 1e-6  # float32, summed in another order


# Inputs an architecture demands while it trains.
_MORE_INPUTS = {"paligemma": ("token_type_ids",)}


class Step(NamedTuple):
    """Loss and gradients of one forward and backward."""

    loss: Tensor
    grads: dict[str, Tensor]


def batch(vocab_size: int, model_type: str = "") -> dict[str, Tensor]:
    """Two samples of 9 and 6 tokens, right-padded, with masked prompts; special tokens stay out."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, vocab_size - 16, (2, 9), generator=generator)
    mask = torch.ones_like(ids)
    ids[1, 6:], mask[1, 6:] = 0, 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :3] = -100
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return inputs | {name: torch.zeros_like(ids) for name in _MORE_INPUTS.get(model_type, ())}


def packed(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same samples in one row without padding, as padding-free training hands them over."""
    lengths = inputs["attention_mask"].sum(1).tolist()
    rows = [(inputs["input_ids"][i, :n], inputs["labels"][i, :n]) for i, n in enumerate(lengths)]
    return {
        "input_ids": torch.cat([ids for ids, _ in rows])[None],
        "position_ids": torch.cat([torch.arange(n) for n in lengths])[None],
        "labels": torch.cat([labels for _, labels in rows])[None],
    }


def num_items(inputs: dict[str, Tensor]) -> int:
    """Predicted tokens of the batch."""
    return int((inputs["labels"][:, 1:] != -100).sum())


def step(model: Any, compute: Callable[[], Tensor]) -> Step:
    """`compute()` and its backward."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    loss = compute()
    loss.backward()
    return Step(loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})


def ours(model: Any, inputs: dict[str, Tensor], loss_type: str, fused: Any) -> tuple[TrainerLoss, Step]:
    """One step of `TrainerLoss` as both integrations make it."""
    loss = TrainerLoss(LossConfig.parse(loss_type, {"fused": fused}))
    loss.attach(model)
    count, plain = num_items(inputs), {key: value for key, value in inputs.items() if key != "labels"}

    def compute() -> Tensor:
        with loss.forward(model, inputs, num_items_in_batch=count):
            return loss(model(**plain), inputs["labels"], num_items_in_batch=count)

    return loss, step(model, compute)


def stock(model: Any, inputs: dict[str, Tensor]) -> Step:
    """The model's own loss of its labels: what both frameworks train where no loss of theirs is chosen."""
    return step(model, lambda: model(**inputs).loss)


def native_dft(model: Any, inputs: dict[str, Tensor]) -> Step:
    """The framework's own DFT function on the model's logits."""
    labels, count = inputs["labels"], num_items(inputs)
    plain = {key: value for key, value in inputs.items() if key != "labels"}
    if FRAMEWORK == "ms-swift":
        from swift.trainers.utils import per_token_loss_func

        return step(model, lambda: per_token_loss_func(model(**plain), labels, enable_dft_loss=True).sum() / count)
    from llamafactory.train.trainer_utils import dft_loss_func

    return step(model, lambda: dft_loss_func(model(**plain), labels, count))


def difference(found: Step, expected: Step) -> str:
    """Which of loss and gradients differ, with the largest; empty where none does."""
    if not torch.allclose(found.loss, expected.loss, rtol=RTOL, atol=ATOL):
        return f"loss {float(found.loss):.6g}, not {float(expected.loss):.6g}"
    scale = max((float(g.abs().max()) for g in expected.grads.values()), default=0.0)
    for name in found.grads.keys() | expected.grads.keys():
        zero = torch.zeros(())
        a, b = found.grads.get(name, zero), expected.grads.get(name, zero)
        if not torch.allclose(a, b, rtol=1e-3, atol=ATOL + 1e-5 * scale):
            return f"gradient of {name} by {float((a - b).abs().max()):.2g}"
    return ""
