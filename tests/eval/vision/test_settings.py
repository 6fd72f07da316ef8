"""What a vision configuration may say, and what is refused before anything is loaded."""

import json
from pathlib import Path

import pytest

from dft_eval.errors import ConfigError, MissingPrerequisite
from dft_eval.run.config import EvalConfig, load_config
from dft_eval.run.evaluate import run_evaluation
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.score_run import ScoreRequest, score_file
from dft_eval.run.selection import find_missing
from dft_eval.vision.process import find_python
from tests.eval.vision.small_benchmarks import CATALOG

EXAMPLES = Path(__file__).parents[3] / "yaml_examples/eval"
JUDGE = {"model": "stub", "base_url": "http://127.0.0.1:9/v1"}


def configure(tmp_path, **changes):
    content = {
        "model": "vl",
        "tasks": ["mathverse"],
        "interface": "chat",
        "backend": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"},
        "out": str(tmp_path / "runs"),
    }
    return EvalConfig.model_validate(content | changes)


def test_the_example_is_table_4():
    config = load_config(EXAMPLES / "vision.yaml")
    assert config.tasks == ["mathverse", "mathvision", "wemath"] and config.protocol == "judge"
    assert (config.vision.min_pixels, config.vision.max_pixels) == (1003520, 12845056)
    assert config.vision.judge is not None and list(config.arms()) == [config.out / name for name in config.models]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"protocol": "judge"}, ConfigError, "protocol judge needs a judge"),
        ({"backend": {"kind": "vllm"}}, MissingPrerequisite, "run `vllm serve` and use backend openai"),
        ({"sampling": {"temperature": 1.0, "num_repeats": 4}}, MissingPrerequisite, "num_repeats is 4"),
        ({"vision": {"python": "/no/such/python"}}, MissingPrerequisite, "/no/such/python has no ms-vlmeval==0.0.20"),
    ],
)
def test_what_cannot_be_asked_is_refused(small_data, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        run_evaluation(configure(tmp_path, **changes), CATALOG, LocalPool(num_workers=1))
    assert not (tmp_path / "runs").exists()


def test_a_model_without_eyes_is_left_out(small_data, tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text/config.json").write_text(json.dumps({"architectures": ["Qwen2ForCausalLM"]}))
    config = configure(tmp_path, model=str(tmp_path / "text"), backend={"kind": "hf", "device": "cpu"})
    with pytest.raises(MissingPrerequisite, match="is no vision-language model"):
        find_missing(config, CATALOG)


@pytest.mark.parametrize(
    "vision",
    [
        {"judge": JUDGE | {"base_url": "http://user:secret@host/v1"}},
        {"judge": JUDGE | {"max_unjudged": 1}},
        {"judge": JUDGE | {"key": "sk-1"}},
        {"min_pixels": 100, "max_pixels": 10},
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, vision):
    with pytest.raises(ValueError, match="vision"):
        configure(tmp_path, vision=vision)


def test_more_calls_than_allowed_are_refused_before_the_first(small_data, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh\necho '{"ms-vlmeval": "0.0.20"}'\n""")
    python.chmod(0o755)
    monkeypatch.setenv("DFT_VLMEVAL_PYTHON", str(python))
    samples = tmp_path / "s.jsonl"
    samples.write_text("".join(json.dumps({"sample_id": str(row), "answer": "B"}) + "\n" for row in range(1, 6)))
    backend = {"kind": "replay", "samples": str(samples)}
    vision = {"judge": JUDGE | {"max_calls": 9}}
    with pytest.raises(ConfigError, match=r"at most 10 calls of stub \(mathverse 10\); max_calls is 9"):
        run_evaluation(
            configure(tmp_path, backend=backend, protocol="judge", vision=vision), CATALOG, LocalPool(num_workers=1)
        )


def test_answers_made_elsewhere_are_scored_by_rules_or_by_a_judge(small_data, tmp_path):
    samples = tmp_path / "s.jsonl"
    samples.write_text(
        "".join(json.dumps({"sample_id": str(row), "answer": "\\boxed{B}"}) + "\n" for row in range(1, 6))
    )
    found = score_file(ScoreRequest("mathverse", samples, tmp_path / "a"), CATALOG, LocalPool(num_workers=1))
    assert found["protocol"] == "rule" and found["headline"]["value"] == 1.0
    with pytest.raises(ConfigError, match=r"dft eval score: --config FILE\.yaml"):
        score_file(ScoreRequest("mathverse", samples, tmp_path / "b", "judge"), CATALOG, LocalPool(num_workers=1))


def test_another_version_is_refused(tmp_path):
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh\necho '{"ms-vlmeval": "0.0.19"}'\n""")
    python.chmod(0o755)
    with pytest.raises(MissingPrerequisite, match=r"has ms-vlmeval 0\.0\.19; 0\.0\.20 is accepted"):
        find_python(python)
