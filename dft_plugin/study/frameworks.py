"""The two frameworks as a study sees them: their commands, the keys it sets, where the trained model lies."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from dft_eval.records.files import sha256_of
from dft_plugin.errors import MissingPrerequisiteError

Settings = Mapping[str, Any]


class Trainer(ABC):
    """A framework's command line."""

    title: ClassVar[str]
    model_key: ClassVar[str]

    @abstractmethod
    def train_command(self, file: Path, settings: Settings, launcher: Sequence[str]) -> list[str]:
        """The command that trains by a configuration file."""

    @abstractmethod
    def merge_command(self, settings: Settings, model: str, merged: Path) -> list[str]:
        """The command that writes adapters into the weights they were trained on."""

    @abstractmethod
    def fixed_keys(self, output: Path) -> dict[str, Any]:
        """Keys a study sets besides the model and the seed."""

    @abstractmethod
    def trained_model(self, output: Path) -> Path:
        """The folder of the trained model; a pattern while there is none."""

    @abstractmethod
    def is_adapter(self, settings: Settings) -> bool:
        """True where training leaves adapters, which have to be merged."""

    @abstractmethod
    def data_files(self, settings: Settings) -> list[Path]:
        """The local files it trains on."""

    def data_sha256(self, settings: Settings) -> dict[str, str]:
        """Hashes of the local files it trains on; names on a hub are left to the framework."""
        return {str(path): sha256_of(path) for path in sorted(set(self.data_files(settings))) if path.is_file()}


class LlamaFactory(Trainer):
    """`llamafactory-cli` of this environment."""

    title: ClassVar[str] = "LLaMA-Factory"
    model_key: ClassVar[str] = "model_name_or_path"

    def train_command(self, file: Path, settings: Settings, launcher: Sequence[str]) -> list[str]:
        """`llamafactory-cli train FILE`; its training module under another launcher."""
        if launcher:
            return [*_beside(Path(sys.executable), launcher), "-m", "llamafactory.launcher", str(file)]
        return [str(find_llamafactory()), "train", str(file)]

    def merge_command(self, settings: Settings, model: str, merged: Path) -> list[str]:
        """`llamafactory-cli export`."""
        keys = {
            "model_name_or_path": settings["model_name_or_path"],
            "adapter_name_or_path": model,
            "template": settings.get("template", "default"),
            "trust_remote_code": settings.get("trust_remote_code", False),
            "export_dir": merged,
        }
        return [str(find_llamafactory()), "export", *(f"{key}={value}" for key, value in keys.items())]

    def fixed_keys(self, output: Path) -> dict[str, Any]:
        """The output folder."""
        return {"output_dir": str(output)}

    def trained_model(self, output: Path) -> Path:
        """The output folder itself."""
        return output

    def is_adapter(self, settings: Settings) -> bool:
        """LoRA unless another way is named."""
        return settings.get("finetuning_type", "lora") in ("lora", "oft")

    def data_files(self, settings: Settings) -> list[Path]:
        """The files behind the names of `dataset` and `eval_dataset` in `dataset_info.json`."""
        folder = Path(settings.get("dataset_dir", "data"))
        register = folder / "dataset_info.json"
        if not register.is_file():
            return []
        known = json.loads(register.read_text(encoding="utf-8"))
        entries = [known[name] for name in _names(settings, "dataset", "eval_dataset") if name in known]
        paths = [folder / entry["file_name"] for entry in entries if "file_name" in entry]
        return [register, *(file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path]))]


class MsSwift(Trainer):
    """`swift` of ms-swift's own environment.

    Args:
        python: Its interpreter; None looks for `.venv-swift` beside this environment.
    """

    title: ClassVar[str] = "ms-swift"
    model_key: ClassVar[str] = "model"

    def __init__(self, python: Path | None) -> None:
        self._python = python

    @property
    def _command(self) -> Path:
        found = find_swift(self._python)
        if found is None:
            raise MissingPrerequisiteError(
                "an arm needs ms-swift, and there is no .venv-swift beside this environment; run `make setup`, or name "
                "the interpreter of an environment with it: swift_python."
            )
        return found

    def train_command(self, file: Path, settings: Settings, launcher: Sequence[str]) -> list[str]:
        """`swift sft FILE`; its training module, with the keys as flags, under another launcher."""
        if not launcher:
            return [str(self._command), "sft", str(file)]
        flags = [part for key, value in settings.items() for part in (f"--{key}", *_flag_values(value))]
        return [*_beside(self._command, launcher), "-m", "swift.cli.sft", *flags]

    def merge_command(self, settings: Settings, model: str, merged: Path) -> list[str]:
        """`swift export --merge_lora true`."""
        return [str(self._command), "export", "--adapters", model, "--merge_lora", "true", "--output_dir", str(merged)]

    def fixed_keys(self, output: Path) -> dict[str, Any]:
        """The output folder, without a folder for each attempt below it."""
        return {"output_dir": str(output), "add_version": False}

    def trained_model(self, output: Path) -> Path:
        """The last checkpoint."""
        return max(output.glob("checkpoint-[0-9]*"), key=_step_of, default=output / "checkpoint-N")

    def is_adapter(self, settings: Settings) -> bool:
        """LoRA unless another way is named."""
        return str(settings.get("tuner_type", settings.get("train_type", "lora"))) != "full"

    def data_files(self, settings: Settings) -> list[Path]:
        """The files among `dataset` and `val_dataset`, without their `#number` of rows."""
        return [Path(name.partition("#")[0]) for name in _names(settings, "dataset", "val_dataset")]


def last_checkpoint(output: Path) -> Path | None:
    """The last checkpoint that training can go on from; the trainer's state is the last that is written into one."""
    whole = [
        path
        for path in output.glob("checkpoint-[0-9]*")
        if (path / "trainer_state.json").is_file()
        and (list(path.glob("optimizer*")) or list(path.glob("global_step*")))
    ]
    return max(whole, key=_step_of, default=None)


def find_llamafactory() -> Path:
    """`llamafactory-cli` of this environment.

    Raises:
        MissingPrerequisiteError: it is not installed here.
    """
    command = Path(sys.executable).parent / "llamafactory-cli"
    if not command.exists():
        raise MissingPrerequisiteError(
            f"no llamafactory-cli beside {sys.executable}; run `pip install 'dft-plugin[llamafactory]'` there."
        )
    return command


def find_swift(python: Path | None) -> Path | None:
    """The `swift` command of ms-swift's own environment.

    Args:
        python: Interpreter of that environment; None looks for `.venv-swift` beside this environment.

    Returns:
        None where nothing was asked for and nothing found.

    Raises:
        MissingPrerequisiteError: `python` was given, and there is no `swift` beside it.
    """
    interpreter = python or Path(sys.prefix).parent / ".venv-swift" / "bin" / "python"
    command = interpreter.absolute().parent / "swift"
    if command.exists():
        return command
    if python is None:
        return None
    raise MissingPrerequisiteError(
        f"no swift command beside {python}; install `ms-swift` and `dft-plugin` in that environment (`make setup`)."
    )


def _beside(program: Path, launcher: Sequence[str]) -> list[str]:
    """The launcher of the environment that `program` belongs to, where it has one of that name."""
    found = program.absolute().parent / launcher[0]
    return [str(found) if found.exists() else launcher[0], *launcher[1:]]


def _names(settings: Settings, *keys: str) -> list[str]:
    values = [settings[key] for key in keys if settings.get(key)]
    texts = [text for value in values for text in (value if isinstance(value, list) else str(value).split(","))]
    return [text.strip() for text in texts]


def _flag_values(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(each) for each in value]
    return [json.dumps(value) if isinstance(value, dict) else str(value)]


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
