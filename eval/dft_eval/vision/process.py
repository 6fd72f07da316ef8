"""VLMEvalKit's process: one a command, started when first needed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dft_eval.errors import BackendError, MissingPrerequisite

VLMEVAL_VERSION = "0.0.20"
_INSTALL = f"make vlmeval, or in an environment of its own: pip install ms-vlmeval=={VLMEVAL_VERSION}"
_LOG_BYTES = 3000
# The package is not installed in that interpreter; the part that runs there needs nothing but its name.
_START = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("dft_eval", {init!r}, submodule_search_locations=[{folder!r}])
module = sys.modules["dft_eval"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from dft_eval.vision.runner.main import main
main()
"""
_VERSIONS = """
import importlib.metadata, json
names = "ms-vlmeval", "torch", "transformers", "qwen-vl-utils", "pillow", "latex2sympy2-extended", "openai"
print(json.dumps({name: importlib.metadata.version(name) for name in names}))
"""
_DECIDED_HERE = (
    *("LOCAL_LLM", "LMUData", "LMDEPLOY_API_KEY", "LMDEPLOY_API_BASE", "OPENAI_API_BASE", "SKIP_ERR", "SPLIT_THINK"),
    *("PRED_FORMAT", "EVAL_FORMAT", "VERBOSE", "VLMEVAL_LOCAL_MEDIA", "VLMEVAL_MAX_IMAGE_SIZE"),
    *("VLMEVAL_MIN_IMAGE_EDGE", "FORCE_LOCAL", "RANK", "LOCAL_RANK", "WORLD_SIZE"),
)
"""Variables that would override the settings given to VLMEvalKit."""


def find_python(given: Path | None) -> Path:
    """The interpreter that has the pinned VLMEvalKit.

    Args:
        given: What the settings say; None looks at `$DFT_VLMEVAL_PYTHON` and at this interpreter.

    Raises:
        MissingPrerequisite: it has none, or another version.
    """
    named = os.environ.get("DFT_VLMEVAL_PYTHON")
    python = given or (Path(named) if named else None)
    if python is None:
        if importlib.util.find_spec("vlmeval") is None:
            raise MissingPrerequisite(
                f"no interpreter with VLMEvalKit is named by vision.python or DFT_VLMEVAL_PYTHON. Run: {_INSTALL}"
            )
        python = Path(sys.executable)
    found = describe_python(python)["ms-vlmeval"]
    if found != VLMEVAL_VERSION:
        raise MissingPrerequisite(
            f"{python} has ms-vlmeval {found}; {VLMEVAL_VERSION} is accepted, since scores differ. Run: {_INSTALL}"
        )
    return python


@cache
def describe_python(python: Path) -> Mapping[str, str]:
    """Versions of what answers and judges in an interpreter.

    Raises:
        MissingPrerequisite: VLMEvalKit or what it needs is not there.
    """
    try:
        done = subprocess.run([str(python), "-c", _VERSIONS], capture_output=True, text=True, timeout=120, check=True)
        versions: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise MissingPrerequisite(f"{python} has no ms-vlmeval=={VLMEVAL_VERSION}. Run: {_INSTALL}") from error
    return versions


class VlmevalProcess:
    """Runs jobs in VLMEvalKit's interpreter, one after the other.

    Args:
        python: As `find_python` takes it.

    What VLMEvalKit writes goes to a folder that is removed with the process: nothing of it is read by a later run.
    """

    def __init__(self, python: Path | None) -> None:
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Any = None
        self._folder = ""

    @property
    def is_running(self) -> bool:
        """True from its start until it ends."""
        return self._process is not None and self._process.poll() is None

    def run(self, job: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Do a job; yield its messages as they come. A job that is given up ends the process.

        Raises:
            BackendError: the job failed, or the process ended.
        """
        if not self.is_running:
            self._start()
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        is_over = False
        try:
            with contextlib.suppress(BrokenPipeError):  # it has ended: what it wrote says why
                self._process.stdin.write(json.dumps(job).encode() + b"\n")
                self._process.stdin.flush()
            for line in self._process.stdout:
                message = json.loads(line)
                if "done" in message:
                    is_over = True
                    return
                if "failed" in message:
                    is_over = True
                    raise BackendError(f"VLMEvalKit on {job.get('dataset')}: {message['failed']}")
                yield message
            code = self._process.wait()
            raise BackendError(f"VLMEvalKit's process ended with exit code {code}:\n{self._read_log()}")
        finally:
            if not is_over:
                self.close()

    def close(self) -> None:
        """End the process, and free what it held."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        self.close()
        folder = Path(__file__).resolve().parents[1]
        script = _START.format(init=str(folder / "__init__.py"), folder=str(folder))
        environment = {name: value for name, value in os.environ.items() if name not in _DECIDED_HERE}
        self._folder = tempfile.mkdtemp(prefix="dft-vlmeval-")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(find_python(self._python)), "-c", script, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            code, log = self._process.wait(), self._read_log()
            self.close()
            raise BackendError(f"VLMEvalKit cannot be started, exit code {code}:\n{log}")

    def _read_log(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_BYTES))
        text: str = self._log.read().decode("utf-8", "replace")
        return text.strip()
