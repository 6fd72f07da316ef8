"""A benchmark as VLMEvalKit builds it from our verified TSV: the same rows, with images that can be read."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

MAX_PIXELS = 100_000_000
"""Of an image as stored; a benchmark's have a thousandth of it."""


def build(folder: Path, job: Mapping[str, Any]) -> Any:
    """The dataset object, with exactly the rows of the job's `ids`, in their order.

    The parent has verified the file; VLMEvalKit's own check would download another in its place.

    Args:
        folder: VLMEvalKit's data folder.
        job: With `dataset`, `class`, `tsv` and `ids`.

    Raises:
        ValueError: VLMEvalKit reads other rows, or made a dataset of another class.
    """
    import vlmeval.dataset as datasets

    kind = getattr(datasets, job["class"])
    kind.DATASET_MD5 = {}
    link = folder / f"{job['dataset']}.tsv"
    link.unlink(missing_ok=True)
    link.symlink_to(job["tsv"])
    dataset = datasets.build_dataset(job["dataset"])
    if type(dataset) is not kind:
        raise ValueError(f"{job['dataset']} was built as {type(dataset).__name__}, not {job['class']}")
    found = [str(index) for index in dataset.data["index"]]
    if found != job["ids"]:
        absent = [sample_id for sample_id in job["ids"] if sample_id not in set(found)]
        raise ValueError(f"VLMEvalKit reads {len(found)} of {len(job['ids'])} rows; without {', '.join(absent[:5])}")
    return dataset


def select(dataset: Any, ids: Collection[str]) -> Any:
    """The table's rows of these ids."""
    return dataset.data[[str(index) in ids for index in dataset.data["index"]]]


def check_images(table: Any) -> None:
    """Every image of the rows can be decoded and has a size that makes sense.

    Raises:
        ValueError: one cannot; names the rows.
    """
    bad = []
    for index, images in zip(table["index"], table["image"], strict=True):
        for image in images if isinstance(images, list) else [images]:
            if complaint := _complain(image):
                bad.append(f"{index} ({complaint})")
    if bad:
        raise ValueError(f"{len(bad)} images cannot be used: {', '.join(bad[:5])}")


def _complain(image: str) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        content = base64.b64decode(image, validate=True)
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return f"{opened.width} x {opened.height} pixels"
            opened.load()
    except Image.DecompressionBombError as error:
        return str(error)
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
