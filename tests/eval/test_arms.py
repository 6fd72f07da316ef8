"""Reports of arms over seeds: what belongs together, what is compared, what is refused."""

import json

import pytest

from dft_eval.errors import ConfigError, StoreError
from dft_eval.metrics import Difference, Estimate, seeded_difference
from dft_eval.metrics.differences import decide
from dft_eval.report.compare import build_comparison
from dft_eval.report.comparison import Compared
from dft_eval.report.document import render_html, render_json
from tests.eval.run_folders import scored, write_run

TASK, COLUMN = "mathvision", "accuracy"
BASE = [0.0] * 30 + [1.0] * 10
RUNS = {
    ("sft", 0): [0.0] * 12 + [1.0] * 28,
    ("sft", 1): [0.0] * 13 + [1.0] * 27,
    ("dft", 0): [0.0] * 11 + [1.0] * 29,
    ("dft", 1): [0.0] * 13 + [1.0] * 27,
}


def write_arm(out, arm, seed, **about):
    folder = out / arm if seed is None else out / arm / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "arm.json").write_text(json.dumps({"schema_version": 1, "arm": arm, "seed": seed, **about}))
    return folder


@pytest.fixture
def study(tmp_path):
    write_run(write_arm(tmp_path, "base", None), TASK, {COLUMN: BASE})
    for (arm, seed), values in RUNS.items():
        training = tmp_path / "train" / arm / str(seed)
        training.mkdir(parents=True)
        rows = [
            {"step": step, "mode": "train", "tokens": 100, "means": {"nll": 2.0 - step / 10, "one_minus_p": 0.4}}
            for step in (1, 2, 3)
        ]
        (training / "dft_monitor.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        about = {"training": f"../../train/{arm}/{seed}", "loss_type": arm, "wall_s": 10.0, "cpu_s": 20.0}
        write_run(write_arm(tmp_path, arm, seed, **about), TASK, {COLUMN: values})
    return tmp_path


def by_problem(values):
    return {f"{TASK}/{index}": value for index, value in enumerate(values)}


def test_seeds_of_an_arm_are_one_column_and_one_difference(study):
    report = build_comparison([study], baseline="base")
    scores, against_base, against_sft = scored(report).tables
    assert scores.columns == ("Benchmark", "base", "dft", "sft", "Paper")
    assert scores.rows[0][2].text == "70.0" and "seeds 67.5 to 72.5" in scores.rows[0][2].note
    assert against_base.columns == ("Difference", "dft - base", "sft - base")
    assert against_sft.columns == ("Difference", "dft - sft")
    [found] = [each for each in report.results["differences"] if (each["arm"], each["against"]) == ("dft", "sft")]
    expected = seeded_difference(
        {seed: by_problem(RUNS["sft", seed]) for seed in (0, 1)},
        {seed: by_problem(RUNS["dft", seed]) for seed in (0, 1)},
    )
    assert found["estimate"] == vars(expected.estimate) and found["detectable"] == expected.detectable
    assert {(run["arm"], run["seed"]) for run in report.results["runs"]} == {("base", None), *RUNS}
    assert report.headline.endswith("sft is better on mathvision. Against sft: 1 of 1 comparison undecided.")


def test_curves_and_cost_are_those_of_training(study):
    [training] = [
        section for section in build_comparison([study], baseline="base").sections if section.title == "Training"
    ]
    assert [row[0].text for row in training.tables[0].rows] == [
        "dft, seed 0",
        "dft, seed 1",
        "sft, seed 0",
        "sft, seed 1",
    ]
    assert [row[4].text for row in training.tables[0].rows] == ["300"] * 4
    assert [figure.title for figure in training.figures] == ["True NLL in training", "1 - mean(p) in training"]


def test_a_failed_arm_stays(study):
    write_arm(study, "route", 0, failed="train/route/seed0 ended with exit code 1\nTraceback")
    report = build_comparison([study], baseline="base")
    assert report.banners[0] == "FAILED: route, seed 0: train/route/seed0 ended with exit code 1"
    scores = scored(report).tables[0]
    assert scores.rows[0][scores.columns.index("route")].text == "failed"


def test_one_seed_is_said(study):
    for seed in (1,):
        (study / "dft" / f"seed{seed}" / "arm.json").unlink()
        for path in (study / "dft" / f"seed{seed}" / TASK).iterdir():
            path.unlink()
    report = build_comparison([study], baseline="base")
    assert any(banner.startswith("One training seed: dft.") for banner in report.banners)


def test_the_same_first_samples_are_compared_and_marked(tmp_path):
    for arm, values in (("first", BASE), ("second", RUNS["sft", 0])):
        write_run(tmp_path / arm, TASK, {COLUMN: values}, limit=40)
        path = tmp_path / arm / TASK / "metrics.json"
        metrics = json.loads(path.read_text())
        metrics |= {"is_complete": False, "is_subset": True, "incomplete_because": ["--limit 40 of 300 samples"]}
        metrics |= {"headline": None, "partial_metrics": metrics.pop("metrics")}
        path.write_text(json.dumps(metrics))
    report = build_comparison([tmp_path / "first", tmp_path / "second"])
    scores, differences = scored(report).tables
    assert "subset" in scores.rows[0][1].note and differences.rows[0][1].text == "+45.0 better"
    assert report.banners == (
        f"First samples alone, compared with each other and never to be quoted: {TASK} (--limit 40 of 300 samples).",
    )


def test_token_probabilities_are_shown(study):
    histogram = [0] * 1000
    histogram[10], histogram[990] = 40, 60
    summary = {"histogram": histogram, "mean_nll": 1.5, "mean_p": 0.6, "share_below_0.05": 0.4, "share_above_0.95": 0.6}
    checkpoints = [{"name": name, **summary} for name in ("base", "dft/seed0", "dft/seed1")]
    content = {"schema_version": 1, "kind": "dft probs", "num_tokens": 100, "checkpoints": checkpoints}
    (study / "probs.json").write_text(json.dumps(content))
    report = build_comparison([study], baseline="base", probs=study)
    [section] = [each for each in report.sections if each.title == "Token probabilities"]
    assert [[cell.text for cell in row] for row in section.tables[0].rows] == [
        ["base", "1.500", "60.0", "40.0", "60.0"],
        ["dft", "1.500", "60.0", "40.0", "60.0"],
    ]
    assert section.figures and "<svg" in render_html(report)


def test_what_cannot_be_read_or_compared_is_refused(study, tmp_path):
    with pytest.raises(ConfigError, match="--baseline nothing: no such arm; there are base, dft, sft"):
        build_comparison([study], baseline="nothing")
    with pytest.raises(ConfigError, match="cannot be read"):
        build_comparison([study], baseline="base", probs=study / "nowhere.json")
    write_run(write_arm(study / "again", "dft", 1), TASK, {COLUMN: BASE})
    with pytest.raises(ConfigError, match="are both dft with seed 1 on mathvision"):
        build_comparison([study], baseline="base")
    (study / "again" / "dft" / "seed1" / "arm.json").write_text('{"schema_version": 2}')
    with pytest.raises(StoreError, match=r"arm\.json cannot be read"):
        build_comparison([study], baseline="base")


def test_the_report_keeps_its_schema(study):
    jsonschema = pytest.importorskip("jsonschema")
    from dft_eval.report.document import SCHEMA

    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for report in (build_comparison([study], baseline="base"), build_comparison([study / "base"])):
        jsonschema.validate(json.loads(render_json(report)), schema)
    broken = json.loads(render_json(build_comparison([study], baseline="base")))
    broken["results"]["differences"][0].pop("verdict")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_an_adjusted_p_of_exactly_the_limit_decides_nothing():
    estimate = Estimate(0.1, 0.01, 0.19, 100, "Student t")
    assert decide(estimate, 0.05, 0.95) == "no decision" and decide(estimate, 0.0499, 0.95) == "better"
    difference = Difference(estimate, 0.01, "better", 0.1)
    assert Compared(difference, 5 * 0.01).verdict == "no decision" and Compared(difference, 0.0499).verdict == "better"


def test_the_page_is_the_same_to_the_byte(study):
    first, second = (render_html(build_comparison([study], baseline="base")) for _ in range(2))
    assert first == second
