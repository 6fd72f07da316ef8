"""`dft report` on arms over training seeds, as `arm.json` names them."""

import json

import pytest

from dft_eval.errors import ConfigError, StoreError
from dft_eval.metrics import Difference, Estimate, domain_difference, holm, seeded_difference
from dft_eval.metrics.differences import decide
from dft_eval.report.compare import build_comparison
from dft_eval.report.comparison import Compared
from tests.eval.run_folders import cells, right_of, scored, write_model

NUM = 60
PASSED = {("base", None): 12, ("sft", 0): 20, ("sft", 1): 22, ("dft", 0): 50, ("dft", 1): 53}


def shares(num_right):
    return right_of(num_right, NUM)


def write_arm(top, arm, seed, num_right, **about):
    return write_model(top, arm, seed, None if num_right is None else shares(num_right), **about)


def make_subset(folder, limit, num_samples):
    """Make a written run one over the first samples alone, as `dft eval run --limit` leaves it."""
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics |= {"is_complete": False, "is_subset": True, "partial_metrics": metrics.pop("metrics"), "headline": None}
    metrics["incomplete_because"] = [f"--limit {limit} of {num_samples} samples"]
    path.write_text(json.dumps(metrics))
    path = folder / "run.json"
    run = json.loads(path.read_text())
    run["settings"]["limit"] = limit
    path.write_text(json.dumps(run))


@pytest.fixture
def study(tmp_path):
    for (arm, seed), num_right in PASSED.items():
        write_arm(tmp_path, arm, seed, num_right)
    return tmp_path


def found(report):
    return {(each["arm"], each["against"]): each for each in report.results["differences"]}


def test_every_arm_is_compared_with_the_baseline_and_with_sft_over_the_seeds(study):
    report = build_comparison([study], baseline="base")
    differences = found(report)
    assert set(differences) == {("sft", "base"), ("dft", "base"), ("dft", "sft")}
    runs = {}
    for (arm, seed), num_right in PASSED.items():
        problems = map(str, range(NUM))
        runs.setdefault(arm, {})[seed] = dict(zip(problems, shares(num_right), strict=True))
    for (arm, against), each in differences.items():
        expected = seeded_difference(runs[against], runs[arm])
        assert each["estimate"] == vars(expected.estimate) and each["p_value"] == expected.p_value
        assert each["detectable"] == expected.detectable and each["task"] == "mathvision"
    assert differences["dft", "sft"]["estimate"]["value"] == pytest.approx((50 + 53 - 20 - 22) / 2 / NUM)
    assert "2 paired seeds" in differences["dft", "sft"]["estimate"]["method"]
    listed = {(run["arm"], run["seed"]) for run in report.results["runs"]}
    assert listed == set(PASSED) and report.results["arms"][0] == "base" and not report.banners
    assert scored(report).tables[0].columns == ("Benchmark", "score", "against base", "against sft")
    score = cells(report, "mathvision", "dft")["score"]
    assert score.text == "85.8" and "seeds 83.3 to 88.3" in score.note
    assert cells(report, "mathvision", "sft")["against sft"].text == ""


def test_what_no_difference_can_reach_is_said_as_that(tmp_path):
    for arm, seed, num_right in (("base", None, 12), ("dft", 0, 15), ("dft", 1, 55)):
        write_arm(tmp_path, arm, seed, num_right)
    report = build_comparison([tmp_path], baseline="base")
    assert found(report)["dft", "base"]["detectable"] > 1
    assert cells(report, "mathvision", "dft")["against base"].note.endswith("MDE above 100")


def test_the_correction_is_over_an_arms_benchmarks(tmp_path):
    for arm, num_right in (("base", 12), ("dft", 20)):
        write_arm(tmp_path, arm, None, num_right, tasks=("mathvision", "mathverse"))
    differences = build_comparison([tmp_path]).results["differences"]
    assert [each["holm_p_value"] for each in differences] == holm([each["p_value"] for each in differences])
    assert differences[0]["holm_p_value"] == 2 * differences[0]["p_value"]


def test_without_a_baseline_the_first_arm_is_it_and_an_unknown_one_is_refused(study):
    assert build_comparison([study / "sft", study / "base"]).results["arms"] == ["sft", "base"]
    with pytest.raises(ConfigError, match="--baseline best: no such arm; there are base, dft, sft"):
        build_comparison([study], baseline="best")


def test_one_training_seed_has_a_banner(tmp_path):
    write_arm(tmp_path, "base", None, 12)
    write_arm(tmp_path, "dft", 0, 50)
    assert [banner.partition(".")[0] for banner in build_comparison([tmp_path]).banners] == ["One training seed: dft"]


def test_an_arm_and_seed_twice_on_a_benchmark_is_refused(study):
    content = json.loads((study / "dft/seed1/arm.json").read_text())
    (study / "dft/seed1/arm.json").write_text(json.dumps(content | {"seed": 0}))
    with pytest.raises(ConfigError, match="are both dft with seed 0 on mathvision"):
        build_comparison([study])


@pytest.mark.parametrize("arm", ["sft", "dft"])
def test_runs_on_other_problems_are_refused(study, arm):
    """Whether in the arms that are compared or among the seeds of one."""
    path = study / arm / "seed1/mathvision/problems.json"
    content = json.loads(path.read_text())
    content["problems"] = {f"other {name}": value for name, value in content["problems"].items()}
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"{arm}.* on mathvision.*runs differ in {2 * NUM} problems"):
        build_comparison([study], baseline="base")


def test_an_arm_with_and_without_a_seed_is_refused(study):
    write_arm(study / "more", "dft", None, 30)
    with pytest.raises(ConfigError, match="dft on mathvision.*give one run or more, and None as the only one"):
        build_comparison([study], baseline="base")


def test_runs_of_the_same_limit_are_compared_under_a_banner(study):
    for folder in study.glob("*/*/mathvision"):
        make_subset(folder, NUM, 3040)
    report = build_comparison([study], baseline="base")
    assert found(report)["dft", "base"]["verdict"] == "better"
    assert any("--limit 60 of 3040 samples" in banner and "never to be quoted" in banner for banner in report.banners)
    assert "subset: --limit 60 of 3040 samples" in scored(report).tables[0].rows[0][0].note
    path = study / "dft/seed0/mathvision/run.json"
    run = json.loads(path.read_text())
    run["settings"]["limit"] = 61
    path.write_text(json.dumps(run))
    with pytest.raises(ConfigError, match="cannot be compared: limit 60 -> 61"):
        build_comparison([study], baseline="base")


def test_a_limited_run_that_lacks_answers_too_is_not_compared(study):
    for folder in study.glob("*/*/mathvision"):
        make_subset(folder, NUM, 3040)
    path = study / "dft/seed1/mathvision/metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"is_subset": False}))
    report = build_comparison([study], baseline="base")
    assert set(found(report)) == {("sft", "base")} and report.banners[0].startswith("PARTIAL: dft, seed 1")


def test_a_failed_arm_stands_in_the_report(study):
    write_arm(study, "broken", 0, None, failed="exit status 1: no such loss\nTraceback")
    report = build_comparison([study], baseline="base")
    assert report.banners[0] == "FAILED: broken, seed 0: exit status 1: no such loss"
    assert cells(report, "mathvision", "broken")["score"].text == "failed"
    assert not any("broken" in pair for pair in found(report))


def test_a_failed_seed_is_named_and_the_others_are_shown_without_a_verdict(study):
    """Which seeds fail is not chance: what is left of an arm is not the arm."""
    write_arm(study, "dft", 2, None, failed="killed")
    report = build_comparison([study], baseline="base")
    assert report.banners[0] == "FAILED: dft, seed 2: killed"
    dft = cells(report, "mathvision", "dft")
    assert dft["score"].text == "85.8" and "without seed 2, which failed" in dft["score"].note
    assert set(found(report)) == {("sft", "base")} and "a seed failed" in dft["against base"].note


def test_a_model_that_failed_on_one_benchmark_keeps_its_verdict_on_the_others(tmp_path):
    for arm, num_right in (("base", 12), ("dft", 50)):
        write_arm(tmp_path, arm, None, num_right, tasks=("mathvision", "mathverse"))
    path = tmp_path / "dft/all/arm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"failed": "eval/dft/vision: no judge"}))
    (tmp_path / "dft/all/mathverse/metrics.json").unlink()  # as a run that was cut off leaves it
    report = build_comparison([tmp_path], baseline="base")
    assert [(each["task"], each["verdict"]) for each in report.results["differences"]] == [("mathvision", "better")]
    assert report.results["domain_differences"] == [] and report.banners[0].startswith("FAILED: dft: eval/dft/vision")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"failed": None}))
    with pytest.raises(StoreError, match=r"metrics\.json cannot be read"):
        build_comparison([tmp_path], baseline="base")


def test_a_failed_arm_given_by_its_own_path_stands_in_the_report(study):
    write_arm(study, "broken", 0, None, failed="no such loss")
    report = build_comparison([study / name for name in ("base", "sft", "broken")])
    assert report.banners[0] == "FAILED: broken, seed 0: no such loss" and "broken" in report.results["arms"]


def test_the_mean_of_a_domain_is_compared_too_and_corrected_for(tmp_path):
    for arm, seed, num_right in (("base", None, 12), ("dft", 0, 20), ("dft", 1, 22), ("dft", 2, 21)):
        write_arm(tmp_path, arm, seed, num_right, tasks=("mathvision", "mathverse"))
    report = build_comparison([tmp_path], baseline="base")
    [mean] = report.results["domain_differences"]
    runs = {arm: {} for arm in ("base", "dft")}
    for arm, seed, num_right in (("base", None, 12), ("dft", 0, 20), ("dft", 1, 22), ("dft", 2, 21)):
        for task in ("mathvision", "mathverse"):
            problems = {f"{task}/{index}": value for index, value in enumerate(shares(num_right))}
            runs[arm].setdefault(task, {})[seed] = problems
    expected = domain_difference(runs["base"], runs["dft"])
    assert mean["estimate"] == vars(expected.estimate) and mean["p_value"] == expected.p_value
    each = [*report.results["differences"], mean]
    assert [one["holm_p_value"] for one in each] == holm([one["p_value"] for one in each])
    assert "the mean of vision" in report.headline
    summary = report.sections[0].tables[0]
    assert [[cell.text for cell in row] for row in summary.rows] == [
        ["vision", "", ""],
        ["base", "20.0", ""],
        ["dft", "35.0", "+15.0 better"],
    ]


def test_no_mean_of_a_domain_without_all_of_it(tmp_path):
    write_arm(tmp_path, "base", None, 12, tasks=("mathvision", "mathverse"))
    write_arm(tmp_path, "dft", None, 50, tasks=("mathvision",))
    report = build_comparison([tmp_path], baseline="base")
    assert report.results["domain_differences"] == []
    assert [each["mean"] is None for each in report.results["domains"]] == [False, True]
    assert [row[1].text for row in report.sections[0].tables[0].rows] == ["", "20.0", "-"]


def test_an_adjusted_p_of_exactly_the_limit_decides_nothing():
    estimate = Estimate(0.1, 0.01, 0.19, 100, "Student t")
    assert decide(estimate, 0.05, 0.95) == "no decision" and decide(estimate, 0.0499, 0.95) == "better"
    difference = Difference(estimate, 0.01, "better", 0.1)
    assert Compared(difference, 5 * 0.01).verdict == "no decision" and Compared(difference, 0.0499).verdict == "better"


def test_a_headline_names_two_arms_and_counts_the_rest(tmp_path):
    write_arm(tmp_path, "base", None, 12)
    for arm in ("a", "b", "c", "dft", "sft"):
        write_arm(tmp_path, arm, None, 50)
    headline = build_comparison([tmp_path], baseline="base").headline
    named = "sft is better on mathvision; dft is better on mathvision; 3 more decided."
    assert headline.startswith(f"Against base: {named} Against sft: ")


@pytest.mark.parametrize(
    "change", [{"schema_version": 2}, {"arm": ""}, {"seed": "0"}, {"seed": True}, {"failed": "", "arm": None}]
)
def test_what_is_not_an_arm_file_is_refused(study, change):
    path = study / "dft/seed0/arm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=r"arm\.json cannot be read"):
        build_comparison([study])
