"""MathVision's comparison of answers in a process of its own: VLMEvalKit's passes what a model wrote to `eval()`.

The rules are the same: equal as text, as arithmetic, or as LaTeX whose value is arithmetic. The process has no
keys in its environment and limits its own CPU time; what cannot be compared in that time is not equal.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path


class Equality:
    """Asks the comparing process; it is started when needed and replaced when it ends. May be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def are_equal(self, answer: object, gold: object) -> bool:
        """Compare by VLMEvalKit's rules.

        Raises:
            OSError: the process was ended by something else than its limits.
        """
        with self._lock:
            process = self._process = self._process or _start()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps([str(answer), str(gold)]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if line:
                return bool(json.loads(line))
            self.close()
            if process.returncode in (-signal.SIGPROF, -signal.SIGSEGV, -signal.SIGABRT):
                return False
            raise OSError(f"the process that compares answers ended with exit code {process.returncode}")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                stream.close()
            self._process.wait()
            self._process = None


def _start() -> subprocess.Popen[str]:
    command = [sys.executable, "-I", str(Path(__file__).with_name("equality_worker.py"))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={})
