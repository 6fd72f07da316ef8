"""A long-running command in a sandbox of its own, reached through a socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from dft_eval.sandbox.choose import Sandbox
from dft_eval.sandbox.program import Command, Outcome


class Resident:
    """A running command.

    Args:
        sandbox: Where it runs.
        make_command: The command, from the number under which it inherits its end of the socket.
        kind: Of the socket.
    """

    def __init__(
        self, sandbox: Sandbox, make_command: Callable[[int], Command], kind: int = socket.SOCK_STREAM
    ) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._outcome: Outcome | None = None
        command = make_command(theirs.fileno())

        def live() -> None:
            with theirs:
                self._outcome = sandbox.run(command)

        # a daemon: nothing waits for it at exit, and the sandbox ends with the process that started it
        self._thread = threading.Thread(target=live, daemon=True, name="resident")
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Return True until it has ended."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End it and wait for its end; harmless when it has ended."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.socket.close()

    def described(self) -> str:
        """Describe its end, for people."""
        if self._outcome is None:
            return "still running, or its sandbox failed"
        last = self._outcome.stderr[-300:].decode(errors="replace")
        return f"{self._outcome.status} {self._outcome.returncode} {self._outcome.reason} {last}"
