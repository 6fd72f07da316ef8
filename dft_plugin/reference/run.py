"""`dft reference`: a frozen model's log-probability of every trained token, as the column `ref_logps` of the data.

Each row is tokenized by the training framework itself and goes through the model alone, so that the numbers depend
neither on how the work was shared out nor on where it was interrupted.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dft_eval.records.files import sha256_of
from dft_plugin.analysis.pretrained import Dtype, ModelFiles, choose_device, read_model_files, require_packages
from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError
from dft_plugin.reference.store import Place, ReferenceStore
from dft_plugin.training.reference_column import Reference, tokenizer_fingerprint

if TYPE_CHECKING:
    from dft_eval.run.shards import Shard
    from dft_plugin.encoding.framework_rows import FrameworkRows

_MODEL_KEYS = {"model_name_or_path": "llamafactory", "model": "ms-swift"}
_MODULES = {"llamafactory": "llamafactory", "ms-swift": "swift"}


@dataclass(frozen=True)
class ReferenceSettings:
    """Settings of `dft reference`; see its help.

    Attributes:
        model: Folder or hub id of the frozen model.
        config: The training configuration.
        out: Folder of the result.
        shard: Which share of the rows; None for all.
        dtype: What the model computes in.
        device: Where.
    """

    model: str
    config: Path
    out: Path
    shard: Shard | None = None
    dtype: Dtype = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


def run_reference(settings: ReferenceSettings) -> dict[str, Any]:
    """Measure the rows that are not measured yet; write the data with the column once every row is.

    Returns:
        The content of `reference.json`.

    Raises:
        ConfigError: settings that cannot be carried out, or a folder of another reference.
        InputError: a row or a model whose numbers are not certain.
        MissingPrerequisiteError: no such model or file, or a package is missing.
    """
    training = _read_configuration(settings.config)
    framework = _framework_of(training, settings.config)
    require_packages("dft reference", {"torch": "torch", "transformers": "transformers"})
    import transformers

    with tempfile.TemporaryDirectory() as scratch:
        rows = _open_rows(framework, training, Path(scratch))
    transformers.utils.logging.set_verbosity_warning()  # LLaMA-Factory raises it
    files = read_model_files(settings.model, with_images=rows.is_multimodal)
    store = ReferenceStore(settings.out, _config(settings, files, rows), rows)
    missing = store.missing(settings.shard)
    if missing:
        with store.part(settings.shard) as part:
            for found in _measure(missing, files, settings, rows, store.model):
                part.append([found])
    return store.finish()


def _read_configuration(path: Path) -> dict[str, Any]:
    import yaml

    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(
            f"{path}: the training configuration is accepted, a .yaml file of LLaMA-Factory or ms-swift; it names the "
            "data, the template and where rows are cut."
        )
    if not path.is_file():
        raise MissingPrerequisiteError(f"training configuration {path} is not there; check the path.")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds a {type(found).__name__}; settings, one a line, are accepted.")
    return found


def _framework_of(training: Mapping[str, Any], path: Path) -> str:
    found = [framework for key, framework in _MODEL_KEYS.items() if training.get(key)]
    if len(found) != 1:
        raise ConfigError(
            f"{path} names the model {'twice' if found else 'nowhere'}: model_name_or_path is LLaMA-Factory's word, "
            "model is ms-swift's; one of the two is accepted."
        )
    if importlib.util.find_spec(_MODULES[found[0]]) is None:
        raise MissingPrerequisiteError(
            f"{path} is a configuration of {found[0]}, which this environment does not have. Run `dft reference` in "
            f"the environment that trains, or: pip install {found[0]}"
        )
    return found[0]


def _open_rows(framework: str, training: Mapping[str, Any], scratch: Path) -> FrameworkRows:
    import torch  # noqa: F401 - extends the framework's modules before they are imported

    if framework == "llamafactory":
        from dft_plugin.integrations.llamafactory.rows import LlamaFactoryRows

        return LlamaFactoryRows(training, scratch)
    from dft_plugin.integrations.ms_swift.rows import SwiftRows

    return SwiftRows(training, scratch)


def _config(settings: ReferenceSettings, files: ModelFiles, rows: FrameworkRows) -> dict[str, Any]:
    """Everything that decides the numbers."""
    from importlib.metadata import version

    from dft_eval.records.model_hash import hash_model

    tokenizer = tokenizer_fingerprint(rows.tokenizer)
    if (other := tokenizer_fingerprint(files.tokenizer)) != tokenizer:
        raise ConfigError(
            f"the reference {settings.model} has tokenizer {other}, the run's model has {tokenizer}: their token ids "
            "mean different texts. Take a reference with the run's own tokenizer."
        )
    return {
        "model": settings.model,
        "model_fingerprint": (hash_model(settings.model) or files.fingerprint)[:16],
        "dtype": settings.dtype,
        "framework": rows.framework,
        "framework_version": version(rows.framework),
        "tokenizer": tokenizer,
        "made_with": rows.made_with,
        "data": {file.name: {"sha256": sha256_of(file.path), "num_rows": file.num_rows} for file in rows.files},
    }


def _measure(
    places: list[Place], files: ModelFiles, settings: ReferenceSettings, rows: FrameworkRows, model_fingerprint: str
) -> Iterator[tuple[Place, Reference]]:
    import transformers
    from rich.console import Console
    from rich.progress import track

    from dft_plugin.reference.model import ReferenceModel

    console = Console(stderr=True)
    if not console.is_terminal:
        transformers.utils.logging.disable_progress_bar()
    model = ReferenceModel(files, settings.dtype, choose_device(settings.device), rows, model_fingerprint)
    bar = track(places, "dft reference", console=console, disable=not console.is_terminal)
    for place in bar:
        name = rows.files[place.file].name
        try:
            found = model.reference(place.file, place.row)
        except InputError as error:
            raise InputError(f"dataset {name!r}, row {place.row} (from 0): {error}") from None
        yield place, found
