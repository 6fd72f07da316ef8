"""A server in place of a judge: answers well, or fails in one of the ways judges fail."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

KEY = "sk-very-secret"


class Gate:
    """Lets so many calls through and holds the others until it is opened.

    Args:
        num_calls: How many pass; None holds none.
    """

    def __init__(self, num_calls: int | None = None) -> None:
        self._permits = None if num_calls is None else threading.Semaphore(num_calls)

    def pass_through(self) -> None:
        if self._permits is not None:
            self._permits.acquire()

    def open(self) -> None:
        if self._permits is not None:
            self._permits.release(1_000_000)


class StubJudge(http.server.ThreadingHTTPServer):
    """Modes: `ok`, `failing` (status 500), `hanging`, `garbage` (no chat completion), `empty`, `unreadable` (prose).

    Attributes:
        gate: What a call passes before it is answered.
        asked: Bodies of the calls, in order.
        keys: Authorization headers seen.
    """

    daemon_threads = True

    def __init__(self, mode: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode, self.gate, self.asked, self.keys = mode, Gate(), [], set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def running(mode: str = "ok") -> Iterator[StubJudge]:
    with StubJudge(mode) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.add(self.headers.get("Authorization"))
        mode = self.server.mode
        self.server.gate.pass_through()
        if mode == "hanging":
            time.sleep(30)
        text = {"empty": "", "unreadable": "I would rather not say."}.get(mode, _judge(body["messages"][-1]["content"]))
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        content = b"<html>busy</html>" if mode == "garbage" else json.dumps(reply).encode()
        self.send_response(500 if mode == "failing" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(ConnectionError):  # whoever asked has given up
            self.wfile.write(content)

    def log_message(self, *arguments) -> None:
        pass


def _judge(prompt: str | list) -> str:
    """Scores 1 where the extracted answer is the standard one; extracts the word after the last `answer is`."""
    if not isinstance(prompt, str):  # a question with its image: the model itself is asked
        return "The answer is B."
    if "[Standard Answer]" in prompt.rsplit("[Question]", 1)[-1]:
        last = prompt.rsplit("[Question]", 1)[-1]
        standard = re.search(r"\[Standard Answer\]: (.*)", last)[1].strip()
        return "1" if f"[Model_answer] : {standard}\n" in last else "0"
    said = re.findall(r"answer is (\S+?)[.'\s]", prompt.rsplit("odel respon", 1)[-1])
    return said[-1] if said else "Z"
