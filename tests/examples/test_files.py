"""The files of `yaml_examples/` are those of the table, and say what the paper says."""

import json
import re
import shlex
from pathlib import Path
from statistics import mean

import pytest
import yaml

from dft_eval.report.paper_results import paper_results
from dft_eval.rollout.training_files import conversations_entry
from dft_plugin.data.recipe import BUNDLED
from tests.examples import keys, make
from tests.examples.readme import with_table
from tests.examples.table import load, runs

TABLE = load()
RUNS = list(runs(TABLE))
EVALUATIONS = sorted((make.ROOT / "yaml_examples" / "eval").glob("[a-k m-z]*.yaml"))  # lm_eval's own file aside
LOSS = {"loss_type", "loss_config", "output_dir"}
# arm: the one it differs from in the loss lines alone
PAIRS = {"dft": "sft", "dft_sequence": "dft", "dft_geometric_mean": "dft", "rft": "dft"}


def test_files_are_current():
    expected = make.expected()
    assert make.present() == {path for path in expected if path.endswith(".yaml")}
    stale = [path for path, content in expected.items() if (make.ROOT / path).read_text() != content]
    assert not stale, "run `make examples`"


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="lacks"):
        with_table("# Examples\n", TABLE)


def find(run, arm_name):
    for each in RUNS:
        same = (each.framework, each.folder, each.row.model, each.row.tuner)
        if each.arm_name == arm_name and same == (run.framework, run.folder, run.row.model, run.row.tuner):
            return flat(each)
    return None


def flat(run):
    return yaml.safe_load((make.ROOT / run.path).read_text())


def test_pairs_differ_in_the_loss_lines_alone():
    pairs = [(run, find(run, PAIRS[run.arm_name])) for run in RUNS if run.arm_name in PAIRS]
    assert sum(other is not None for _, other in pairs) == 2 * (5 + 2 + 2 + 1 + 1 + 3 + 1 + 1)
    for run, other in pairs:
        if other is not None:
            mine = flat(run)
            differing = {key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key)}
            assert differing == LOSS & differing and "output_dir" in differing and "loss_type" in differing, run.path


def test_iw_sft_reads_a_column_more_and_is_else_the_dft_run():
    for run in RUNS:
        if run.arm_name == "iw_sft":
            mine, dft = flat(run), find(run, "dft")
            differing = {key for key in mine if mine[key] != dft[key]}
            column = "dataset_dir" if run.framework == "llamafactory" else "dataset"
            assert differing == {"loss_type", "output_dir", column}, run.path


def test_data_are_recipes_or_made_from_the_models_own_answers():
    recipes = {path.stem for path in BUNDLED.glob("*.yaml")}
    assert TABLE.builds.keys() <= recipes
    for run in RUNS:
        assert run.data.keys() <= TABLE.builds.keys() | {"rft", "dpo", "grpo"}, run.path


def test_the_mixed_run_finds_both_datasets():
    folder = make.ROOT / "yaml_examples/llamafactory/mixed"
    info = json.loads((folder / "dataset_info.json").read_text())
    for name, entry in info.items():
        assert (folder / entry["file_name"]).resolve() == make.ROOT / f"data/{name}/{name}.jsonl"
        assert entry == {"file_name": entry["file_name"], **entry_of_a_build(name)}


@pytest.mark.parametrize("run", [run for run in RUNS if run.arm.reference], ids=lambda run: run.path)
def test_a_reference_is_made_by_a_file_of_the_same_rows(run):
    """Same tokens: everything but the loss, the folder of the data and the output is the same."""
    [other] = [other for other in RUNS if other.path == keys.without_reference(run)]
    own, plain = (
        {key: value for part in keys.sections(each).values() for key, value in part.items()} for each in (run, other)
    )
    differing = {key for key in own.keys() | plain.keys() if own.get(key) != plain.get(key)}
    assert differing <= LOSS | {"dataset_dir", "dataset"}
    assert Path(str(own["dataset"])).name == Path(str(plain["dataset"])).name
    assert any(line.startswith("dft reference ") and other.path in line for line in keys.builds(run))


def entry_of_a_build(name):
    entry = conversations_entry(f"{name}.jsonl", {})
    return {key: value for key, value in entry.items() if key != "file_name"}


def test_no_two_files_write_to_one_folder():
    for framework in ("llamafactory", "ms_swift"):
        folders = [run.output_dir for run in RUNS if run.framework == framework]
        assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.path)
def test_headers_name_real_files_and_the_batch_is_what_they_say(run):
    comments = [line for line in (make.ROOT / run.path).read_text().splitlines() if line.startswith("#")]
    text = re.sub(r" \\\n#\s+", " ", "\n".join(comments))
    assert keys.launch(run) in text
    for word in re.findall(r"yaml_examples/[\w./-]+\w", text):
        assert (make.ROOT / word).exists(), word
    settings = flat(run)
    rows, accumulation = (settings[key] for key in ("per_device_train_batch_size", "gradient_accumulation_steps"))
    assert f"8 GPUs x {rows} rows x {accumulation} accumulated = batch {8 * rows * accumulation};" in text
    if path := settings.get("deepspeed"):
        assert json.loads((make.ROOT / path).read_text())["train_batch_size"] == "auto"
    if reward_model := settings.get("reward_model"):
        assert reward_model.removesuffix("/checkpoint-782") in {each.output_dir for each in RUNS}


def test_figure_3_has_a_launch_line_for_each_point():
    for run in RUNS:
        lines = [keys.variant(run, name, changed) for name, changed in run.variants.items()]
        assert bool(lines) == (
            (run.folder, run.row.model, run.row.tuner) == ("math", "qwen2.5-math-1.5b", "full")
            and run.arm_name in ("sft", "dft")
        )
        batches, rates = {256}, {5e-5}
        for line in lines:
            words = shlex.split(line.replace("--output_dir ", "output_dir=").replace("=", " = "))
            values = {
                name: float(words[at + 1 + (words[at + 1] == "=")])
                for at, word in enumerate(words[:-1])
                if (name := word.removeprefix("--"))
                in ("learning_rate", "gradient_accumulation_steps", "per_device_train_batch_size")
            }
            rates.add(values.get("learning_rate", 5e-5))
            batches.add(8 * values.get("per_device_train_batch_size", 8) * values.get("gradient_accumulation_steps", 4))
        if lines:
            assert (batches, rates) == ({32, 64, 128, 256}, {2e-4, 1e-4, 5e-5, 1e-5})


def test_figures_of_tables_1_3_and_4_are_those_of_the_report():
    tasks = {
        "Table 1": ("math500", "minerva_math", "olympiadbench", "aime24", "amc23"),
        "Table 4": ("mathverse", "mathvision", "wemath"),
        "section 4.5": ("nq_open",),
    }
    languages = [f"multipl_e/{name}" for name in ("python", "cpp", "java", "php", "ts", "cs", "sh", "js")]

    def figure(task, model, arm):
        found = [
            r.percent for r in paper_results(task) if not r.column and r.arm == arm and r.model in (model, "not stated")
        ]
        assert len(found) == 1
        return found[0]

    checked = 0
    for experiment in TABLE.experiments.values():
        for row in experiment.runs:
            model = TABLE.models[row.model].name
            for arm, score in row.scores.items():
                if row.source in ("Table 1", "section 4.5"):
                    figures = [figure(task, model, arm) for task in tasks[row.source]]
                    assert score == pytest.approx(mean(figures), abs=0.0051)
                elif row.source == "Table 4":
                    assert [float(part) for part in score.split("/")] == [
                        figure(task, model, arm) for task in tasks["Table 4"]
                    ]
                elif row.source == "Table 3":
                    ours = [float(part) for part in score.split("/")]
                    assert ours[:2] == [figure(task, model, arm) for task in ("humaneval", "humaneval_plus")]
                    assert ours[2] == pytest.approx(mean(figure(task, model, arm) for task in languages), abs=0.0051)
                else:
                    continue
                checked += 1
    assert checked == 15 + 9 + 3 + 3


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.stem)
def test_evaluations_are_read_and_ask_for_models_the_examples_train(path):
    from dft_eval.run.config import load_config  # here: this file is read where the evaluation is not installed

    config = load_config(path)
    trained = {run.output_dir for run in RUNS}
    saved = {model for model in (config.models or {}).values() if model.startswith("saves/")}
    assert saved <= trained, saved - trained
    if path.stem == "math":
        sampling = config.sampling
        assert (sampling.num_repeats, sampling.temperature, sampling.max_new_tokens) == (16, 1.0, 4096)
