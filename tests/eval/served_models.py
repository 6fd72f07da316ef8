"""OpenAI-compatible servers that others made, each in a process of its own: LLaMA-Factory's and transformers'."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

_START_LIMIT_S = 400


@contextmanager
def serving(model: Path, template: str, log: Path) -> Iterator[str]:
    """`llamafactory-cli api` with a model, in float32 on the CPU; its base URL."""
    port = _free_port()
    settings = {"model_name_or_path": str(model), "template": template, "infer_backend": "huggingface"}
    arguments = [part for key, value in settings.items() for part in (f"--{key}", value)]
    command = [str(Path(sys.executable).with_name("llamafactory-cli")), "api", *arguments, "--infer_dtype", "float32"]
    environment = os.environ | {"API_HOST": "127.0.0.1", "API_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    base = f"http://127.0.0.1:{port}"
    with _running(command, environment, f"{base}/v1/models", log):
        yield f"{base}/v1"


@contextmanager
def serving_transformers(model: Path, log: Path) -> Iterator[str]:
    """`transformers serve` with a model, in float32 on the CPU; its base URL."""
    port = _free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    base = f"http://127.0.0.1:{port}"
    with _running(command, environment, f"{base}/health", log):  # its list of models looks for a cache online
        yield f"{base}/v1"


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


@contextmanager
def _running(command: list[str], environment: dict[str, str], ready_url: str, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait_for(ready_url, process, log)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text()}")
