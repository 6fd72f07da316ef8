"""`dft report` on arms over training seeds, as `arm.json` names them."""

import json

import pytest

from dft_eval.errors import ConfigError, StoreError
from dft_eval.metrics import holm, seeded_difference
from dft_eval.report.compare import build_comparison
from tests.eval.run_folders import scored, write_run

NUM = 60
PASSED = {("base", None): 12, ("sft", 0): 20, ("sft", 1): 22, ("dft", 0): 50, ("dft", 1): 53}


def shares(num_right, count=NUM):
    return [float(index < num_right) for index in range(count)]


def write_arm(top, arm, seed, num_right, *, failed=None, tasks=("mathvision",), **about):
    """Runs of one model with its `arm.json`; `num_right` None leaves the file alone."""
    folder = top / arm / ("all" if seed is None else f"seed{seed}")
    folder.mkdir(parents=True)
    content = {"schema_version": 1, "arm": arm, "seed": seed, "failed": failed, **about}
    (folder / "arm.json").write_text(json.dumps(content))
    if num_right is not None:
        for task in tasks:
            name = {"mathvision": "accuracy", "mathverse": "overall"}[task]
            write_run(folder, task, {name: shares(num_right)})
    return folder


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
    table = scored(report).tables[0]
    assert table.columns == ("Benchmark", "base", "dft", "sft", "Paper")
    assert table.rows[0][2].text == "85.8" and "seeds 83.3 to 88.3" in table.rows[0][2].note


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
    assert all("subset" in cell.note for cell in scored(report).tables[0].rows[0][1:-1])
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
    table = scored(report).tables[0]
    assert table.rows[0][table.columns.index("broken")].text == "failed"
    assert not any("broken" in pair for pair in found(report))


def test_a_failed_seed_is_named_and_the_others_are_shown(study):
    write_arm(study, "dft", 2, None, failed="killed")
    report = build_comparison([study], baseline="base")
    assert report.banners[0] == "FAILED: dft, seed 2: killed"
    table = scored(report).tables[0]
    assert table.rows[0][table.columns.index("dft")].text == "85.8"


@pytest.mark.parametrize(
    "change", [{"schema_version": 2}, {"arm": ""}, {"seed": "0"}, {"seed": True}, {"failed": "", "arm": None}]
)
def test_what_is_not_an_arm_file_is_refused(study, change):
    path = study / "dft/seed0/arm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=r"arm\.json cannot be read"):
        build_comparison([study])
