"""Every architecture of this environment's transformers, tiny and random, through the loss; writes one JSON file.

python -m tests.sweep.run [--only MODEL_TYPE ...] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sweep import checks
from tests.sweep.architectures import FRAMEWORK, Architecture, architectures
from tests.sweep.tiny_configs import VOCAB_SIZE, shrunk_config

if TYPE_CHECKING:
    from torch import Tensor

MODEL_LIMIT_S = 40
RESULTS = Path(__file__).parents[2] / ".cache" / "sweep"  # ignored; the page made of them is kept


class NotTriedError(Exception):
    """A model that cannot be built or run here, with the reason."""


def build(row: Architecture) -> Any:
    """The tiny model in training mode, without dropout, and with probabilities far from uniform.

    Raises:
        NotTriedError: transformers cannot build it from sizes alone, or it does not run on text alone.
    """
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    auto = transformers.AutoModelForCausalLM if row.kind == "text" else transformers.AutoModelForImageTextToText
    try:
        config = shrunk_config(CONFIG_MAPPING[row.model_type], row.model_type)
        if getattr(config, "is_encoder_decoder", False):
            raise NotTriedError("an encoder-decoder, which has no next-token loss in the frameworks")
        torch.manual_seed(0)
        model = auto.from_config(config, attn_implementation="eager").float().train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        head = model.get_output_embeddings()
        if isinstance(head, torch.nn.Linear):
            torch.nn.init.normal_(head.weight, std=0.3)
        inputs = checks.batch(VOCAB_SIZE, row.model_type)
        with torch.no_grad():
            first, second = (model(**inputs) for _ in range(2))
        if first.logits.shape[:2] != inputs["labels"].shape:
            raise NotTriedError(f"its logits have shape {tuple(first.logits.shape)} for labels (2, 9)")
        if not first.logits.isfinite().all() or not torch.equal(first.logits, second.logits):
            raise NotTriedError("its forward is not finite, or not the same twice")
        if first.loss is None:
            raise NotTriedError("it computes no loss of its own")
    except (NotTriedError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise NotTriedError(f"{type(error).__name__}: {' '.join(str(error).split())[:110]}") from error
    return model


def checked(row: Architecture) -> dict[str, Any]:
    """The row of the table: `path`, `reason`, and each comparison as "" (equal), a difference, or None (not made)."""
    model = build(row)
    inputs = checks.batch(VOCAB_SIZE, row.model_type)
    loss, auto_sft = checks.ours(model, inputs, "sft", "auto")
    _, auto_dft = checks.ours(model, inputs, "dft", "auto")
    _, plain_sft = checks.ours(model, inputs, "sft", False)
    _, plain_dft = checks.ours(model, inputs, "dft", False)
    found = {
        "path": loss.path.name,
        "reason": loss.path.reason,
        "transform": loss.path.transform,
        "sft_equals_stock": checks.difference(auto_sft, checks.stock(model, inputs)),
        "dft_equals_native": checks.difference(auto_dft, checks.native_dft(model, inputs)),
        "fused_equals_logits": checks.difference(auto_sft, plain_sft) or checks.difference(auto_dft, plain_dft),
    }
    found["packed_equals_padded"] = _packed(model, inputs, auto_dft, plain_dft)
    return {**found, **_router_loss(model, inputs)}  # last: it changes the configuration


def _router_loss(model: Any, inputs: dict[str, Tensor]) -> dict[str, Any]:
    """`router_loss_kept`: `sft` against the stock loss with a router loss, which adds `router_loss`; None for no such.

    Where the stock model fails with it, `router_loss` is the message.
    """
    config = model.config.get_text_config()
    if not hasattr(config, "router_aux_loss_coef"):
        return {"router_loss_kept": None}
    switched = list({id(part): part for part in (config, model.config)}.values())
    for part in switched:
        part.output_router_logits = False
    without = checks.stock(model, inputs).loss
    for part in switched:
        part.output_router_logits, part.router_aux_loss_coef = True, 0.1
    if hasattr(model, "router_aux_loss_coef"):
        model.router_aux_loss_coef = 0.1
    try:
        stock = checks.stock(model, inputs)
    except Exception as error:  # noqa: BLE001 - some of transformers' own fail without a mask of the right kind
        return {"router_loss_kept": None, "router_loss": f"the stock model fails: {error!s:.60}"}
    kept = checks.difference(checks.ours(model, inputs, "sft", "auto")[1], stock)
    return {"router_loss_kept": kept, "router_loss": float(stock.loss - without)}


def _packed(model: Any, inputs: dict[str, Any], padded: checks.Step, plain: checks.Step) -> str | None:
    """None where the model's own logits depend on the packing, so that no loss could be equal."""
    row = checks.packed(inputs)
    try:
        _, reference = checks.ours(model, row, "dft", False)
    except Exception:  # noqa: BLE001 - a model that cannot be packed says so in many ways
        return None
    if checks.difference(reference, plain):
        return None
    return checks.difference(checks.ours(model, row, "dft", "auto")[1], padded)


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise NotTriedError(f"took more than {seconds} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def sweep(only: list[str]) -> dict[str, Any]:
    """All rows by model type, with the versions they were made with."""
    rows = {}
    for row in architectures():
        if only and row.model_type not in only:
            continue
        began = time.monotonic()
        result: dict[str, Any] = {"kind": row.kind, "is_named": row.is_named}
        try:
            with _limited(MODEL_LIMIT_S):
                result.update(checked(row))
        except NotTriedError as error:
            result.update(path="not tried", reason=str(error))
        except Exception as error:  # noqa: BLE001 - one architecture must not end the sweep; it is a failing row
            result.update(path="failed", reason=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        rows[row.model_type] = result
        sys.stderr.write(f"{row.model_type}: {result['path']} {time.monotonic() - began:.1f}s\n")
    return {"framework": FRAMEWORK, "transformers": version("transformers"), "torch": version("torch"), "rows": rows}


def main() -> None:
    import transformers

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="model types; all where none is given")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{FRAMEWORK.lower().replace('-', '_')}.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    found = sweep(arguments.only)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
