"""`dft probs`: measure each checkpoint on the same tokens, once, and write them side by side."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dft_plugin.analysis.pretrained import Dtype, choose_device
from dft_plugin.analysis.probs.checkpoints import Checkpoint, OpenedCheckpoint, open_checkpoint
from dft_plugin.analysis.probs.store import SCHEMA_VERSION, ProbsStore
from dft_plugin.analysis.row_measurement import describe_rows, require_for_rows
from dft_plugin.encoding.datasets import Dataset, draw, read_datasets
from dft_plugin.errors import ConfigError, InputError

if TYPE_CHECKING:
    from dft_plugin.analysis.probs.measure import Plan
    from dft_plugin.analysis.probs.tally import ProbTally
    from dft_plugin.encoding.encoder import Encoder
    from dft_plugin.encoding.interface import Interface

logger = logging.getLogger(__name__)

NOTES = (
    "Intervals are 95% over rows for this checkpoint alone, not for a difference; one training run says nothing about "
    "other seeds.",
    "Changes by token id are sums over its occurrences: a token raised in one place and lowered in another shows less.",
)


@dataclass(frozen=True)
class ProbsSettings:
    """Settings of `dft probs`; see its help.

    Attributes:
        checkpoints: What is measured; changes are against the first.
        data: Files.
        out: Folder of the result.
        samples: Rows of each file.
        max_length: Most tokens of a row.
        batch_size: Rows without images at a time.
        dtype: What the models compute in.
        device: Where.
        seed: Of the sample.
        interface: chat or completion; None for chat where that is certain.
    """

    checkpoints: tuple[Checkpoint, ...]
    data: tuple[Path, ...]
    out: Path
    samples: int = 200
    max_length: int = 2048
    batch_size: int = 1
    dtype: Dtype = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    interface: Interface | None = None


def run_probs(settings: ProbsSettings) -> dict[str, Any]:
    """Measure the checkpoints that are not measured yet; write `probs.json` and `probs.png`.

    Returns:
        The content of `probs.json`.

    Raises:
        ConfigError: settings that cannot be carried out, or a folder of other settings.
        InputError: checkpoints that read other tokens, or numbers that are not certain.
        MissingPrerequisiteError: no such checkpoint or file, or a package is missing.
    """
    datasets = read_datasets(settings.data)
    with_images = require_for_rows("dft probs", datasets)
    from dft_plugin.analysis.probs.figure import draw_probs
    from dft_plugin.analysis.probs.measure import Plan
    from dft_plugin.analysis.probs.rows import check_same_tokens

    device = choose_device(settings.device)
    opened = [open_checkpoint(checkpoint, with_images=with_images) for checkpoint in settings.checkpoints]
    encoders, interface = _encoders(opened, datasets, settings)
    rows = [row for dataset in datasets for row in draw(dataset, settings.samples, settings.seed)]
    tokens_sha256 = check_same_tokens(encoders, rows)
    decisive = {**describe_rows(settings, datasets, device, interface), "tokens_sha256": tokens_sha256}
    store = ProbsStore(settings.out, decisive)
    plan = Plan(
        rows,
        encoders[opened[0].name],
        opened[0].files,
        settings.max_length,
        settings.batch_size,
        settings.dtype,
        device,
    )
    measured = [(one, *_measured(one, plan, store)) for one in opened]
    _refuse_other_dtypes([(one.name, record["described"]["dtype"]) for one, _, record in measured])
    result = _result(settings, datasets, decisive, measured)
    draw_probs(result["checkpoints"], settings.out / "probs.png")
    store.write_result(result)
    return result


def _encoders(
    opened: Sequence[OpenedCheckpoint], datasets: Sequence[Dataset], settings: ProbsSettings
) -> tuple[dict[str, Encoder], Interface]:
    """An encoder a checkpoint, all of the interface that fits the first."""
    from dft_plugin.encoding.chat_template import chat_template_of
    from dft_plugin.encoding.encoder import Encoder, choose_interface

    interface = settings.interface
    encoders = {}
    for one in opened:
        files = one.files
        try:
            interface = choose_interface(interface, datasets, chat_template_of(files.tokenizer, files.processor))
        except ConfigError as error:
            raise ConfigError(f"checkpoint {one.name!r}: {error}") from None
        encoders[one.name] = Encoder(files.tokenizer, files.processor, interface, settings.max_length)
    assert interface is not None
    return encoders, interface


def _measured(one: OpenedCheckpoint, plan: Plan, store: ProbsStore) -> tuple[ProbTally, dict[str, Any]]:
    """Measurements of before, else of now."""
    identity = {"weights_sha256": one.weights_sha256, "config": _config_of(one)}
    if (found := store.finished(one.name, identity)) is not None:
        logger.info("dft probs: %s was measured before", one.name)
        return found
    from dft_plugin.analysis.probs.measure import measure

    try:
        tally, described = measure(one, plan)
    except InputError as error:
        raise InputError(f"checkpoint {one.name!r}: {error}") from None
    record = {"identity": identity, "described": described}
    store.add(one.name, tally, record)
    return tally, record


def _config_of(one: OpenedCheckpoint) -> dict[str, Any]:
    """Settings that the model computes with besides its weights; not who wrote the file."""
    found = json.loads(json.dumps(one.files.config.to_dict(), default=str))
    return {key: value for key, value in found.items() if key not in {"transformers_version", "_name_or_path"}}


def _refuse_other_dtypes(dtypes: Sequence[tuple[str, str]]) -> None:
    (first, expected), *others = dtypes
    for name, found in others:
        if found != expected:
            raise ConfigError(
                f"--dtype auto: {first!r} is stored in {expected}, {name!r} in {found}; rounding would look like "
                "training. Give one --dtype for all, and a new --out."
            )


def _result(
    settings: ProbsSettings,
    datasets: Sequence[Dataset],
    decisive: dict[str, Any],
    measured: Sequence[tuple[OpenedCheckpoint, ProbTally, dict[str, Any]]],
) -> dict[str, Any]:
    import torch
    import transformers

    from dft_plugin import __version__
    from dft_plugin.analysis.probs.record import checkpoint_record, shift_record
    from dft_plugin.training.reference_column import tokenizer_fingerprint

    (first, before, _), *others = measured
    tokenizer = first.files.tokenizer
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "dft probs",
        "data": [
            {"path": str(one.path), "sha256": one.sha256, "num_rows": min(settings.samples, len(one.rows))}
            for one in datasets
        ],
        "num_tokens": int(before.totals[0]),
        "tokenizer_sha256": tokenizer_fingerprint(tokenizer),
        "settings": {key: value for key, value in decisive.items() if key != "data"},
        "versions": {"dft_plugin": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "checkpoints": [
            checkpoint_record(one.name, record["described"], tally, tokenizer) for one, tally, record in measured
        ],
        "shifts": [shift_record(one.name, tally, first.name, before, tokenizer) for one, tally, _ in others],
        "notes": list(NOTES),
        "figure": str(settings.out / "probs.png"),
    }
