"""`on_missing`: a benchmark that cannot be run here stops the command, or is listed and left out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dft_eval.errors import MissingPrerequisite
from dft_eval.run.config import load_config
from dft_eval.run.evaluate import run_evaluation
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.selection import find_missing, select_tasks
from dft_eval.tasks.catalog import TASKS
from tests.eval.arithmetic import CATALOG, Arithmetic, write_samples

EXAMPLES = Path(__file__).parents[2] / "yaml_examples/eval"


class Elsewhere(Arithmetic):
    """Its data are nowhere."""

    name = "elsewhere"
    data_files = (Arithmetic.data_files[0].__class__("no/such.jsonl", "http://127.0.0.1:9/x", "0" * 64),)


def write_config(folder, **changes):
    content = {"model": "x", "interface": "completion", "out": str(folder / "out")} | changes
    content["backend"] = {"kind": "replay", "samples": str(folder / "s.jsonl")}
    (folder / "c.yaml").write_text(yaml.safe_dump(content))
    return folder / "c.yaml"


def test_a_benchmark_without_data_stops_the_run_or_is_left_out(tmp_path, arithmetic_data, caplog):
    write_samples(tmp_path / "s.jsonl")
    catalog = {"arithmetic": Arithmetic, "elsewhere": Elsewhere}
    tasks = ["arithmetic", "elsewhere"]
    with pytest.raises(MissingPrerequisite, match=r"elsewhere needs no/such\.jsonl"):
        run_evaluation(load_config(write_config(tmp_path, tasks=tasks)), catalog, LocalPool(num_workers=1))
    config = load_config(write_config(tmp_path, tasks=tasks, on_missing="skip"))
    results = run_evaluation(config, catalog, LocalPool(num_workers=1))
    assert [Path(path).name for path in results] == ["arithmetic"]
    assert "SKIPPED elsewhere: elsewhere needs no/such.jsonl" in caplog.text
    with pytest.raises(MissingPrerequisite, match="none of the benchmarks can be run here"):
        find_missing(load_config(write_config(tmp_path, tasks=["elsewhere"])), catalog)
    assert find_missing(load_config(write_config(tmp_path, tasks=["arithmetic"])), CATALOG) == {}


def test_the_command_lists_what_it_skipped(tmp_path, monkeypatch, data_dir):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/nq").symlink_to(data_dir / "nq")
    monkeypatch.setenv("DFT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "s.jsonl").write_text(json.dumps({"sample_id": "nq_open/0", "completion": " December 1972"}) + "\n")
    path = write_config(tmp_path, tasks=["nq_open", "aime24"], on_missing="skip", limit=1)
    command = [Path(sys.executable).with_name("dft"), "eval", "run", path, "--workers", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["skipped"]) == ["aime24"] and "dft eval fetch aime24" in result["skipped"]["aime24"]
    assert [run["task"] for run in result["runs"].values()] == ["nq_open"]
    assert "SKIPPED aime24" in done.stderr


@pytest.mark.parametrize("name", ["all", "facts", "math"])
def test_examples_are_read_and_their_protocols_and_prompts_fit(name, data_dir):
    path = EXAMPLES / f"{name}.yaml"
    config = load_config(path)
    assert f"dft eval run yaml_examples/eval/{name}.yaml" in path.read_text()
    for task in select_tasks(config.tasks, TASKS):
        kind = TASKS[task]
        protocol = config.protocol or kind.protocols[0]
        assert protocol in kind.protocols
        if kind.domain == "vision":  # VLMEvalKit asks by itself, and its data are not here
            continue
        kind(data_dir, protocol).check_settings(config.settings_of(kind))
    assert load_config(path, model="m").arms() == {config.out: "m"}
