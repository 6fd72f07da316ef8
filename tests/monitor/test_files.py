"""The monitor's rows, page and figure, and what a window becomes."""

import json
import logging

import pytest
import torch

from dft_plugin import logits_loss
from dft_plugin.core.token_classes import TokenClasses
from dft_plugin.monitor import files as monitor_files
from dft_plugin.monitor.files import MonitorRows, write_page
from dft_plugin.monitor.window_log import WindowLog
from dft_plugin.training.gathered_stats import GatheredStats

LOGGER = logging.getLogger("test_monitor")
RECORD = {"loss_type": "dft", "framework": "llamafactory", "framework_version": "0.9.5", "stage": "sft"}
ALARM = {
    "kind": "eos_starvation",
    "step": 20,
    "measured": {"p": 1e-4},
    "message": "mean p 0.0001 <of> all",
    "advice": "floor: 0.1",
}


def row(step, mode="train", **more):
    means = {"nll": 1.0 / step, "one_minus_p": 0.5, "objective": 0.1, "effective_tokens": 0.6, "low_weight_tokens": 0.1}
    return {
        "step": step,
        "epoch": step / 10,
        "mode": mode,
        "tokens": 7,
        "means": {**means, "weight": 0.4},
        "classes": {"eos": {"tokens": 3.0, "p": 0.1, "weight": 0.1, "nll": 2.3}},
        "routes": {},
        "weight_histogram": [1] * 20,
        "alarms": [],
        **more,
    }


def steps(path):
    return [(json.loads(line)["step"], json.loads(line)["mode"]) for line in path.read_text().splitlines()]


def test_rows_are_on_disk_at_once(tmp_path):
    rows = MonitorRows(tmp_path / "out", logger=LOGGER)
    rows.append(row(10))
    rows.append(row(10, "eval"))
    assert steps(tmp_path / "out" / "dft_monitor.jsonl") == [(10, "train"), (10, "eval")]
    assert json.loads(rows.path.read_text().splitlines()[0]) == row(10)


def test_a_resumed_run_repeats_no_step(tmp_path):
    before = MonitorRows(tmp_path, logger=LOGGER)
    for step in (10, 20, 30, 40):
        before.append(row(step))
    after = MonitorRows(tmp_path, resumed_step=20, logger=LOGGER)
    assert steps(after.path) == [(10, "train"), (20, "train")]
    for step in (30, 40):
        after.append(row(step))
    assert [step for step, _ in steps(after.path)] == [10, 20, 30, 40] and len(after.training) == 4


def test_a_new_run_begins_anew(tmp_path):
    MonitorRows(tmp_path, logger=LOGGER).append(row(10))
    assert MonitorRows(tmp_path, logger=LOGGER).path.read_text() == ""


def test_a_run_resumed_into_another_folder_takes_its_rows_along(tmp_path):
    MonitorRows(tmp_path / "v0", logger=LOGGER).append(row(10))
    after = MonitorRows(tmp_path / "v1", resumed_step=10, previous=tmp_path / "v0", logger=LOGGER)
    assert steps(after.path) == [(10, "train")] and steps(tmp_path / "v0" / "dft_monitor.jsonl") == [(10, "train")]


def test_a_cut_off_last_row_is_dropped_aloud(tmp_path, caplog):
    rows = MonitorRows(tmp_path, logger=LOGGER)
    rows.append(row(10))
    with rows.path.open("a") as file:
        file.write('{"step": 20, "mo')
    assert steps(MonitorRows(tmp_path, resumed_step=30, logger=LOGGER).path) == [(10, "train")]
    assert "line 2" in caplog.text


@pytest.mark.parametrize("has_routes", [False, True])
def test_page_holds_everything(tmp_path, has_routes):
    routes = {"facts": {"tokens": 4.0, "nll": 2.0, "weight": 1.0}} if has_routes else {}
    rows = [row(10, routes=routes), row(20, routes=routes, alarms=[ALARM]), row(20, "eval")]
    assert write_page(tmp_path, rows, RECORD) == ""
    page = (tmp_path / "dft_monitor.html").read_text()
    assert (tmp_path / "dft_monitor.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in page and "src=" in page and "http" not in page
    assert "eos_starvation" in page and "mean p 0.0001 &lt;of&gt; all" in page and "eval, step 20" in page


def test_page_of_a_run_without_windows(tmp_path):
    assert write_page(tmp_path, [], RECORD) == ""
    assert "None." in (tmp_path / "dft_monitor.html").read_text()


def test_without_matplotlib_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor_files.importlib.util, "find_spec", lambda name: None)
    problem = write_page(tmp_path, [row(10)], RECORD)
    assert "pip install matplotlib" in problem and "\n" not in problem
    assert "pip install matplotlib" in (tmp_path / "dft_monitor.html").read_text()
    assert not (tmp_path / "dft_monitor.png").exists()


def window():
    gathered = GatheredStats(TokenClasses(torch.tensor([0, 5])))
    labels = torch.tensor([[1, 0, 1]])
    gathered.add("train", logits_loss(torch.zeros(1, 3, 2), labels, objective="dft"), labels)
    return gathered.pop("train")


def begin(log, folder):
    log.begin(folder, resumed_step=0, previous=None, warmup_steps=0)


def test_a_window_becomes_scalars_and_a_row(tmp_path):
    log = WindowLog(LOGGER)
    assert log.log(1, "train", window(), epoch=None)["p/eos"] == pytest.approx(0.5)  # another rank: scalars only
    begin(log, tmp_path)
    scalars = log.log(5, "train", window(), epoch=0.5)
    (written,) = [json.loads(line) for line in (tmp_path / "dft_monitor.jsonl").read_text().splitlines()]
    assert (written["step"], written["epoch"], written["mode"], written["alarms"]) == (5, 0.5, "train", [])
    assert written["means"]["nll"] == scalars["nll"] and written["classes"]["eos"]["tokens"] == 1
    assert log.log(6, "train", GatheredStats().pop("train"), epoch=None) == {}
    log.end(RECORD)
    assert (tmp_path / "dft_monitor.html").exists()


def test_a_full_disk_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    log = WindowLog(LOGGER)
    begin(log, tmp_path)

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(MonitorRows, "append", full)
    assert log.log(5, "train", window(), epoch=None) and log.log(6, "train", window(), epoch=None)
    assert caplog.text.count("No space left") == 1
    monkeypatch.setattr("dft_plugin.monitor.window_log.write_page", full)
    log.end(RECORD)
    assert "could not be written" in caplog.text
