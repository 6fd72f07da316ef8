"""What a report shows besides scores and differences: training, probabilities, sweeps, the paper's claims."""

import json

import jsonschema
import pytest

from dft_eval.metrics import Difference, Estimate
from dft_eval.report.charts import roles
from dft_eval.report.compare import build_comparison
from dft_eval.report.comparison import Compared
from dft_eval.report.paper_claims import judge_claim
from dft_eval.report.rendering import SCHEMA, render_html, render_json, render_markdown
from tests.eval.run_folders import cells, right_of, write_model

NUM = 40
PASSED = {("base", None): 10, ("sft", 0): 28, ("sft", 1): 27, ("dft", 0): 29, ("dft", 1): 27}


def monitor_row(step, mode):
    return {"step": step, "mode": mode, "tokens": 100, "means": {"nll": 2.0 - step / 10, "one_minus_p": 0.4}}


@pytest.fixture
def study(tmp_path):
    for (arm, seed), num_right in PASSED.items():
        about = {"evaluation_wall_s": 5.0, "evaluation_cpu_s": 9.0}
        if seed is not None:
            training = tmp_path / "train" / arm / str(seed)
            training.mkdir(parents=True)
            rows = [monitor_row(step, mode) for step in (1, 2, 3) for mode in ("train", "eval")]
            (training / "dft_monitor.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            about |= {"training": f"../../train/{arm}/{seed}", "loss_type": arm, "wall_s": 10.0, "cpu_s": 20.0}
        write_model(tmp_path, arm, seed, right_of(num_right, NUM), tasks=("mathvision", "mathverse"), **about)
    return tmp_path


def section(report, title):
    [found] = [each for each in report.sections if each.title == title]
    return found


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_seconds_of_a_last_call_are_not_shown_as_all(study):
    path = study / "sft" / "seed0" / "arm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"is_resumed": False, "evaluation_is_resumed": True}))
    cost = section(build_comparison([study], baseline="base"), "Training").tables[0]
    assert texts(cost)[1] == ["sft, seed 0", "sft", "10 s", "300", "at least 5 s"]
    assert "its last call's time" in cost.note


def test_curves_and_cost_are_those_of_training_and_evaluation(study):
    training = section(build_comparison([study], baseline="base"), "Training")
    assert texts(training.tables[0]) == [
        ["base", "-", "-", "-", "5 s"],
        *([f"{arm}, seed {seed}", arm, "10 s", "300", "5 s"] for arm in ("sft", "dft") for seed in (0, 1)),
    ]
    assert [figure.title for figure in training.figures] == [
        "True NLL in training",
        "True NLL on held-out data",
        "1 - mean(p) in training",
        "1 - mean(p) on held-out data",
    ]


def test_each_evaluation_set_has_its_curves(study):
    rows = [monitor_row(step, mode) for step in (1, 2) for mode in ("train", "eval_maths", "eval_code")]
    for log in study.rglob("dft_monitor.jsonl"):
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = section(build_comparison([study], baseline="base"), "Training")
    assert [figure.title for figure in training.figures][:3] == [
        "True NLL in training",
        "True NLL on held-out data: code",
        "True NLL on held-out data: maths",
    ]


def test_token_probabilities_are_shown(study):
    histogram = [0] * 1000
    histogram[10], histogram[990] = 40, 60
    summary = {"histogram": histogram, "mean_nll": 1.5, "mean_p": 0.6, "share_below_0.05": 0.4, "share_above_0.95": 0.6}
    checkpoints = [{"name": name, **summary} for name in ("base", "dft/seed0", "dft/seed1")]
    content = {"schema_version": 1, "kind": "dft probs", "num_tokens": 100, "checkpoints": checkpoints}
    (study / "probs.json").write_text(json.dumps(content))
    report = build_comparison([study], baseline="base", probs=study)
    found = section(report, "Token probabilities")
    assert texts(found.tables[0]) == [[arm, "1.500", "60.0", "40.0", "60.0"] for arm in ("base", "dft")]
    [figure] = found.figures
    assert figure.svg != figure.narrow_svg and all(
        svg in render_html(report) for svg in (figure.svg, figure.narrow_svg)
    )


def test_the_report_keeps_its_schema(study):
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for report in (build_comparison([study], baseline="base"), build_comparison([study / "base"])):
        jsonschema.validate(json.loads(render_json(report)), schema)
    broken = json.loads(render_json(build_comparison([study], baseline="base")))
    broken["results"]["differences"][0].pop("verdict")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_the_page_is_the_same_to_the_byte(study):
    first, second = (render_html(build_comparison([study], baseline="base")) for _ in range(2))
    assert first == second


def test_eight_arms_look_different_and_a_ninth_is_left_to_the_tables(tmp_path):
    assert len(set(roles(["base", *"abcde", "sft", "dft"]).values())) == 8
    assert roles(["base", "a", "sft"])["sft"] == roles(["other", "sft", "dft"])["sft"]
    for arm in ("base", *"abcdefgh"):
        write_model(tmp_path, arm, None, right_of(12 if arm == "base" else 30, NUM))
    report = build_comparison([tmp_path], baseline="base")
    assert "Not drawn: h." in section(report, "Summary").figures[0].caption
    assert cells(report, "mathvision", "h")["against base"].text == "+45.0 better"


@pytest.fixture
def sweep(tmp_path):
    write_model(tmp_path, "base", None, right_of(10, NUM))
    for arm, rates in (("sft", {1e-5: 15, 5e-5: 25, 2e-4: 12}), ("dft", {1e-5: 12, 5e-5: 22, 2e-4: 30})):
        for rate, num_right in rates.items():
            grid = {"arm": arm, "values": {"learning_rate": rate}}
            write_model(tmp_path, f"{arm}+learning_rate={rate:g}", 0, right_of(num_right, NUM), grid=grid)
    return tmp_path


def test_sft_stands_at_its_own_best_learning_rate(sweep):
    report = build_comparison([sweep], baseline="base")
    best = "sft+learning_rate=5e-05"
    assert {each["against"] for each in report.results["differences"]} == {"base", best}
    found = section(report, "Sweep")
    assert best in found.paragraphs[0] and [figure.title for figure in found.figures] == ["By learning_rate"]
    shown = {(row[0].text, row[1].text): (row[2].text, row[0].note) for row in found.tables[0].rows}
    assert shown["sft", "5e-05"] == ("62.5", "best of its grid") and shown["dft", "0.0002"][1] == "best of its grid"
    assert shown["sft", "0.0002"] == ("30.0", "")
    assert [each["values"] for each in report.results["sweep"] if each["grid_of"] == "sft"] == [
        {"learning_rate": rate} for rate in (1e-5, 5e-5, 2e-4)
    ]
    assert not any("one learning rate" in limit for limit in report.limits)
    jsonschema.validate(json.loads(render_json(report)), json.loads(SCHEMA.read_text()))


def measured(value, low, high, p_value):
    verdict = "no decision" if p_value >= 0.05 else ("better" if value > 0 else "worse")
    return Compared(Difference(Estimate(value, low, high, 100, "t"), p_value, verdict, 0.1), p_value)


@pytest.mark.parametrize(
    ("points", "difference", "verdict"),
    [
        (5.0, measured(0.04, 0.01, 0.07, 0.01), "reproduced"),
        (5.0, measured(0.20, 0.11, 0.29, 0.01), "reproduced"),  # a larger one, the same way
        (-5.0, measured(-0.04, -0.07, -0.01, 0.01), "reproduced"),
        (5.0, measured(-0.04, -0.07, -0.01, 0.01), "not reproduced"),
        (-5.0, measured(0.04, 0.01, 0.07, 0.01), "not reproduced"),
        (0.0, measured(0.04, 0.01, 0.07, 0.01), "not reproduced"),
        (20.0, measured(0.02, -0.04, 0.08, 0.5), "not reproduced"),
        (5.0, measured(0.02, -0.04, 0.08, 0.5), "untestable"),
        (5.0, measured(0.02, None, None, 1.0), "untestable"),
    ],
)
def test_what_is_said_of_a_claim(points, difference, verdict):
    assert judge_claim(points, difference).verdict == verdict


def test_claims_are_about_the_papers_models_alone(tmp_path):
    for arm, num_right in (("base", 4), ("sft", 12), ("dft", 30)):
        for model, top in (("Qwen/Qwen2.5-VL-3B", "named"), ("Qwen/Qwen2.5-VL-7B", "other")):
            folder = write_model(tmp_path / top, arm, None, right_of(num_right, NUM))
            path = folder / "mathvision/run.json"
            run = json.loads(path.read_text())
            run["settings"]["model"] = model
            path.write_text(json.dumps(run))
    report = build_comparison([tmp_path / "named"], baseline="base")
    claims = {(each["arm"], each["against"]): each for each in report.results["claims"]}
    assert set(claims) == {("dft", "sft"), ("dft", "base"), ("sft", "base")}
    assert claims["dft", "sft"]["paper_points"] == pytest.approx(22.30 - 21.02)
    assert claims["dft", "sft"]["verdict"] == "reproduced" and claims["sft", "base"]["verdict"] == "not reproduced"
    assert "| mathvision Qwen2.5-VL-3B, Table 4 |" in render_markdown(report)
    [other] = build_comparison([tmp_path / "other"], baseline="base").results["claims"]
    assert other["verdict"] == "untestable" and other["reason"] == "no model of the paper is measured here"
