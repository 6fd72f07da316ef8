"""`dft scan`: how well the base model knows the data already, and which objective that suggests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dft_plugin.analysis.pretrained import (
    Dtype,
    ModelFiles,
    choose_device,
    load_frozen,
    read_model_files,
)
from dft_plugin.analysis.row_measurement import describe_rows, require_for_rows
from dft_plugin.encoding.datasets import Dataset, draw, read_datasets
from dft_plugin.encoding.row_formats import Row
from dft_plugin.errors import ConfigError, InputError
from dft_plugin.scan.store import ScanStore

if TYPE_CHECKING:
    from dft_plugin.analysis.row_scorer import RowScorer
    from dft_plugin.encoding.encoder import Encoder, Sample
    from dft_plugin.encoding.interface import Interface

NOTES = (
    "`total` and every total share count the tokens of the samples, at most --samples rows a dataset, not the mixture "
    "that will be trained.",
    "Responses are cut at --max-length at the end; a framework may cut elsewhere.",
)


@dataclass(frozen=True)
class ScanSettings:
    """Settings of `dft scan`; see its help.

    Attributes:
        model: Folder or hub id.
        data: Files.
        out: Folder of the result.
        samples: Rows of each dataset.
        max_length: Most tokens of a row.
        batch_size: Rows without images at a time.
        dtype: What the model computes in.
        device: Where.
        seed: Of the sample and of the resampling.
        interface: chat or completion; None for chat where that is certain.
    """

    model: str
    data: tuple[Path, ...]
    out: Path
    samples: int = 200
    max_length: int = 2048
    batch_size: int = 1
    dtype: Dtype = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    interface: Interface | None = None


def run_scan(settings: ScanSettings) -> dict[str, Any]:
    """Measure what is not measured yet, decide, write `scan.json` and `scan.png`.

    Returns:
        The content of `scan.json`.

    Raises:
        ConfigError: settings that cannot be carried out, or a folder of another scan.
        InputError: data or a model that cannot be measured with certainty.
        MissingPrerequisiteError: no such model or file, or a package is missing.
    """
    datasets = read_datasets(settings.data)
    with_images = require_for_rows("dft scan", datasets)
    from dft_plugin.encoding.chat_template import chat_template_of
    from dft_plugin.encoding.encoder import Encoder, choose_interface

    device = choose_device(settings.device)
    files = read_model_files(settings.model, with_images=with_images)
    interface = choose_interface(settings.interface, datasets, chat_template_of(files.tokenizer, files.processor))
    encoder = Encoder(files.tokenizer, files.processor, interface, settings.max_length)
    store = ScanStore(settings.out, _config(settings, datasets, files, interface, device))
    try:
        rows = [row for dataset in datasets for row in draw(dataset, settings.samples, settings.seed)]
        missing = [row for row in rows if row.key not in store.records]
        if missing:
            _measure(missing, encoder, files, settings, device, store)
        return store.write_result(_result(settings, datasets, rows, store))
    finally:
        store.close()


def _config(
    settings: ScanSettings, datasets: Sequence[Dataset], files: ModelFiles, interface: str, device: str
) -> dict[str, Any]:
    """Everything that decides the numbers."""
    return {
        "model": settings.model,
        "model_fingerprint": files.fingerprint,
        **describe_rows(settings, datasets, device, interface),
    }


def _measure(
    rows: Sequence[Row], encoder: Encoder, files: ModelFiles, settings: ScanSettings, device: str, store: ScanStore
) -> None:
    import torch
    import transformers
    from rich.console import Console
    from rich.progress import track

    from dft_plugin.analysis.row_scorer import RowScorer, batches
    from dft_plugin.analysis.target_classes import target_classes
    from dft_plugin.core.token_classes import EOS, TokenClasses
    from dft_plugin.encoding.images import image_token_of
    from dft_plugin.scan.tally import tally

    console = Console(stderr=True)
    if not console.is_terminal:
        transformers.utils.logging.disable_progress_bar()
    encoded = [encoder.encode(row) for row in rows if not row.images]  # a bad row is found before the model is loaded
    by_key = {sample.row.key: sample for sample in encoded}
    vocab_size = files.config.get_text_config().vocab_size
    token_classes = TokenClasses.of_tokenizer(files.tokenizer, vocab_size=vocab_size)
    eos = files.tokenizer.eos_token_id
    image_ids = [image_token_of(files.processor)[1]] if any(row.images for row in rows) else []
    model = RowScorer(load_frozen(files, settings.dtype, device), device)
    samples = (by_key[row.key] if row.key in by_key else encoder.encode(row) for row in rows)
    bar = track(samples, "dft scan", total=len(rows), console=console, disable=not console.is_terminal)
    for batch in batches(bar, settings.batch_size):
        nlls = model.nlls(batch) if batch[0].status == "ok" else [torch.zeros(0)]
        for sample, nll in zip(batch, nlls, strict=True):
            counted: dict[str, Any] = {"classes": {}, "histogram": [], "end_tokens": []}
            if sample.status == "ok":
                is_kept = torch.tensor(sample.labels)[1:] >= 0
                classes = target_classes(token_classes, sample.input_ids, sample.labels, image_ids)[1:]
                ends = sorted(set(torch.tensor(sample.labels)[1:][is_kept & (classes == EOS)].tolist()))
                words = ["eos" if end == eos else files.tokenizer.convert_ids_to_tokens(end) for end in ends]
                counted = {**tally(nll[is_kept], classes[is_kept]), "end_tokens": words}
            store.append(sample.row.key, {**_describe(sample, model), **counted})


def _describe(sample: Sample, model: RowScorer) -> dict[str, Any]:
    return {
        "dataset": sample.row.dataset,
        "id": sample.row.content_id,
        "repeat": sample.row.repeat,
        "where": sample.row.where,
        "status": sample.status,
        "is_truncated": sample.is_truncated,
        "num_input_tokens": len(sample.input_ids),
        "path": model.path,
        "path_reason": model.path_reason,
        "dtype": model.dtype,
    }


def _result(
    settings: ScanSettings, datasets: Sequence[Dataset], rows: Sequence[Row], store: ScanStore
) -> dict[str, Any]:
    import torch
    import transformers

    from dft_plugin import __version__
    from dft_plugin.scan.figure import draw_scan
    from dft_plugin.scan.forecast import forecast
    from dft_plugin.scan.tally import summarise, sums_of

    records = [store.records[row.key] for row in rows]
    by_dataset = {dataset.name: [r for r in records if r["dataset"] == dataset.name] for dataset in datasets}
    measured = {name: [r for r in found if r["status"] == "ok"] for name, found in by_dataset.items()}
    for name, found in measured.items():
        if not found:
            raise InputError(
                f"dataset {name!r}: no response of its {len(by_dataset[name])} samples is left within "
                f"--max-length {settings.max_length}; raise it."
            )
    paths = sorted({(record["path"], record["path_reason"], record["dtype"]) for record in records})
    if len(paths) > 1:
        raise ConfigError(f"{store.out / 'scan.jsonl'} holds records made in different ways: {paths}; use a new --out.")
    sums = {name: sums_of(found) for name, found in measured.items()}
    ends = {name: sorted({end for record in found for end in record["end_tokens"]}) for name, found in measured.items()}
    overall, each = forecast(sums, seed=settings.seed, end_tokens=ends)
    summaries = {name: summarise(found) for name, found in by_dataset.items()}
    draw_scan({name: summaries[name]["histogram"] for name in summaries}, each, store.out / "scan.png")
    (path, path_reason, dtype), *_ = paths
    return {
        "status": "done",
        "measured": {"path": path, "path_reason": path_reason, "dtype": dtype},
        "versions": {"dft_plugin": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "forecast": overall.record(),
        "total": summarise(records),
        "datasets": {
            dataset.name: {
                "num_rows": len(dataset.rows),
                **summaries[dataset.name],
                "forecast": each[dataset.name].record(),
            }
            for dataset in datasets
        },
        "notes": list(NOTES),
        "figure": str(store.out / "scan.png"),
    }
