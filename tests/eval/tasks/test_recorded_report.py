"""`dft report` on what Qwen2.5-Coder-1.5B wrote for HumanEval, beside copies that lost a known number of answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats

from tests.eval.tasks.test_replay import FOLDER

DFT = str(Path(sys.executable).with_name("dft"))
NUM_PROBLEMS = 164
NUM_LOST = {"lost_3": 3, "lost_20": 20}
WRONG = "def {name}(*arguments):\n    return 'lost'\n"


def write_arm(path, recorded, num_lost):
    """The recorded programs; of those that EvalPlus recorded as passing, every third of the first ones returns junk."""
    passing = [sample for sample, (entry,) in recorded.items() if entry["base_status"] == "pass"]
    lost = set(passing[::3][:num_lost])
    assert len(lost) == num_lost
    with path.open("w") as file:
        for sample, (entry,) in recorded.items():
            program = entry["solution"]
            if sample in lost:
                name = program.rsplit("\ndef ", 1)[-1].split("(")[0]
                program = f"{program}\n\n{WRONG.format(name=name)}"
            file.write(json.dumps({"sample_id": sample, "program": program}) + "\n")


@pytest.mark.slow
def test_a_known_loss_of_recorded_answers_is_found(open_code_task, data_dir, tmp_path):
    open_code_task("humaneval")
    recorded = json.loads((data_dir / FOLDER / "evalplus/generated_eval_results.json").read_text())["eval"]
    assert len(recorded) == NUM_PROBLEMS
    for arm, num_lost in {"recorded": 0, **NUM_LOST}.items():
        write_arm(tmp_path / f"{arm}.jsonl", recorded, num_lost)
        samples, out = (str(tmp_path / name) for name in (f"{arm}.jsonl", f"{arm}/humaneval"))
        subprocess.run([DFT, "eval", "score", "--task", "humaneval", "--samples", samples, "--out", out], check=True)
    folders = [str(tmp_path / arm) for arm in ("recorded", *NUM_LOST)]
    subprocess.run([DFT, "report", *folders, "--out", str(tmp_path / "report")], check=True)
    results = json.loads((tmp_path / "report/report.json").read_text())["results"]
    found = {difference["model"]: difference for difference in results["differences"]}
    assert found.keys() == NUM_LOST.keys()
    for arm, num_lost in NUM_LOST.items():
        difference = found[arm]
        assert difference["task"] == "humaneval"
        assert difference["estimate"]["value"] == pytest.approx(-num_lost / NUM_PROBLEMS)
        assert difference["estimate"]["low"] <= -num_lost / NUM_PROBLEMS <= difference["estimate"]["high"]
        mcnemar = stats.binomtest(num_lost, num_lost).pvalue
        assert difference["p_value"] == pytest.approx(mcnemar, abs=2e-4)  # by 9,999 random flips where many differ
        assert difference["verdict"] == ("worse" if num_lost == 20 else "no decision")
