"""A real little benchmark: sums of two numbers, with answers that sabotage whoever judges them."""

import json
import os
import signal
import time
from pathlib import Path

from dft_eval.metrics import score_share
from dft_eval.records.schema import Sample, Score
from dft_eval.tasks.base import DataFile, Task

NUM_SAMPLES = 40
CONTENT = "".join(json.dumps({"id": f"sum/{a}+{a + 3}", "a": a, "b": a + 3}) + "\n" for a in range(NUM_SAMPLES))
SHA256 = "c1cf8784b604ffc8f5043f52f5569d1825f0746d27fabaa78ef0aaf1ec54d021"


class Arithmetic(Task):
    name = "arithmetic"
    domain = "test"
    data_files = (DataFile("arithmetic/sums.jsonl", "http://127.0.0.1:9/sums.jsonl", SHA256),)
    protocols = ("text", "messages")
    chat_protocols = ("messages",)
    delay_s = 0.0

    def _rows(self):
        return [json.loads(line) for line in (self.data_dir / self.data_files[0].path).read_text().splitlines()]

    def samples(self):
        return [Sample(row["id"], self._prompt(row), ("\n",), 6) for row in self._rows()]

    def _prompt(self, row):
        question = f"{row['a']}+{row['b']}="
        if self.protocol == "text":
            return question
        return ({"role": "system", "content": "Add."}, {"role": "user", "content": question})

    def score(self, answer):
        time.sleep(self.delay_s)
        text = answer.completion or ""
        if text == "!die":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "!hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(1000)
        if text == "!raise":
            raise OSError("no more processes")
        if text == "!unjudged":
            return Score(answer.sample_id, answer.repeat, None, "unjudged", None)
        a, b = map(int, answer.sample_id.removeprefix("sum/").split("+"))
        passed = text.strip() == str(a + b)
        status = "ok" if passed else "wrong" if text.strip() else "no_answer"
        return Score(answer.sample_id, answer.repeat, passed, status, float(passed), {"text": text[:50]})

    def summarise(self, scores):
        return {"accuracy": score_share([s.score for s in scores], [s.sample_id for s in scores])}

    def fingerprint(self):
        return {"adder": "1"}


class SlowArithmetic(Arithmetic):
    """So slow that a kill lands in the middle."""

    delay_s = 0.02


CATALOG = {"arithmetic": Arithmetic, "slow": SlowArithmetic}


def write_data(folder: Path) -> Path:
    path = folder / Arithmetic.data_files[0].path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONTENT)
    return folder


def write_samples(
    path: Path, completions: dict[int, str] | None = None, count: int = NUM_SAMPLES, repeats: int = 1
) -> Path:
    """Right answers but for every third, and but for `completions` by position."""
    lines = []
    for a in range(count):
        for repeat in range(repeats):
            text = (completions or {}).get(a, str(2 * a + 3 + (a % 3 == 0)))
            lines.append(json.dumps({"sample_id": f"sum/{a}+{a + 3}", "repeat": repeat, "completion": text}))
    path.write_text("\n".join(lines) + "\n")
    return path
