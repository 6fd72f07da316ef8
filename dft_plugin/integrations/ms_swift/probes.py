"""Probes of the installed ms-swift, one for each feature we use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from dft_plugin.errors import IntegrationError
from dft_plugin.frameworks import Probe
from dft_plugin.integrations.ms_swift.settings import FRAMEWORK_FLAGS
from dft_plugin.patching import require_parameters


def probe_features() -> list[Probe]:
    """One result per feature of ms-swift that the integration relies on."""
    return [_run(name, check) for name, check in _CHECKS.items()]


def _run(name: str, check: Callable[[], str]) -> Probe:
    try:
        return Probe(name, True, check())
    except (ImportError, AttributeError, TypeError, IntegrationError) as error:
        return Probe(name, False, f"{type(error).__name__}: {error}")


def _takes(function: Callable[..., Any], names: Iterable[str], label: str) -> str:
    require_parameters(function, names, label=label)
    return f"{label}{inspect.signature(function)}"


def _loss_map() -> str:
    from swift.loss import BaseLoss, loss_map

    _takes(BaseLoss, ("args", "trainer"), "BaseLoss")
    _takes(BaseLoss.__call__, ("outputs", "labels", "num_items_in_batch", "loss_scale"), "BaseLoss.__call__")
    return f"{len(loss_map)} losses"


def _callbacks_map() -> str:
    from swift.callbacks import callbacks_map

    return f"{len(callbacks_map)} callbacks"


def _arguments() -> str:
    from swift.arguments import SftArguments

    require_parameters(SftArguments, ("loss_type", *FRAMEWORK_FLAGS), label="SftArguments")
    return ", ".join(("loss_type", *FRAMEWORK_FLAGS))


def _trainer_factory() -> str:
    from swift.trainers import TrainerFactory

    return _takes(TrainerFactory.get_training_args, ("args",), "get_training_args")


def _trainer() -> str:
    from swift.trainers import Seq2SeqTrainer

    _takes(Seq2SeqTrainer.create_loss_and_eval_metric, ("args",), "create_loss_and_eval_metric")
    _takes(Seq2SeqTrainer.log, ("logs",), "log")
    names = ("model", "inputs", "return_outputs", "num_items_in_batch")
    return _takes(Seq2SeqTrainer.compute_loss, names, "compute_loss")


def _template() -> str:
    from swift.template import Template

    return _takes(Template.compute_sft_loss, ("model", "inputs", "num_items_in_batch"), "compute_sft_loss")


def _sequence_parallel() -> str:
    from swift.sequence_parallel import sequence_parallel

    for name in ("sp_group", "rp_group"):
        inspect.getattr_static(sequence_parallel, name)
    return "sp_group, rp_group"


_CHECKS: dict[str, Callable[[], str]] = {
    "losses are looked up in loss_map": _loss_map,
    "callbacks are looked up in callbacks_map": _callbacks_map,
    "command line arguments": _arguments,
    "training arguments are made by TrainerFactory": _trainer_factory,
    "trainer hands labels and token counts to the loss": _trainer,
    "template computes the forward": _template,
    "sequence parallel groups": _sequence_parallel,
}
