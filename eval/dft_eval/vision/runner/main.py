"""The process beside VLMEvalKit: jobs come as JSON lines on stdin, what they give goes back as JSON lines on stdout.

`vlmeval` prints, reads a `.env` beside its package, switches the verification of TLS certificates off for the whole
process and takes some twenty seconds to import. All of that stays in here; its output goes to stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import ssl
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dft_eval.vision.runner import Emit

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve jobs until stdin ends; the first argument is the folder for VLMEvalKit's files."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    emit = _make_emit(os.dup(1))
    os.dup2(2, 1)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    folder = Path(sys.argv[1])
    _import_vlmeval(folder)
    from dft_eval.vision.runner.evaluate import evaluate
    from dft_eval.vision.runner.infer import Inference

    inference = Inference(folder)
    kinds: Mapping[str, Callable[[Mapping[str, Any], Emit], None]] = {
        "infer": inference.run,
        "forget_model": inference.forget_model,
        "evaluate": partial(evaluate, folder),
    }
    emit({"ready": True})
    for line in jobs:
        job = json.loads(line)
        try:
            kinds[job["job"]](job, emit)
        except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
            traceback.print_exc()
            emit({"failed": f"{type(error).__name__}: {error}" if str(error) else repr(error)})
        else:
            emit({"done": True})


def _make_emit(descriptor: int) -> Emit:
    lock = threading.Lock()

    def emit(message: Mapping[str, Any]) -> None:
        content = json.dumps(message).encode() + b"\n"
        with lock:
            while content:
                content = content[os.write(descriptor, content) :]

    return emit


def _import_vlmeval(folder: Path) -> None:
    """Import it, and take back what it does to the process."""
    before = dict(os.environ)
    import vlmeval.dataset
    import vlmeval.inference  # noqa: F401

    os.environ.clear()
    os.environ.update(before)  # no `.env` decides anything
    os.environ["LMUData"] = str(folder)  # noqa: SIM112 - its name
    os.environ["PRED_FORMAT"] = "tsv"  # in a spreadsheet `=5` is a formula, and 32,767 characters are the limit
    ssl._create_default_https_context = ssl.create_default_context


if __name__ == "__main__":
    main()
