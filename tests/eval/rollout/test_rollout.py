"""From recorded answers to training data: what is chosen, what is left out, and that the same comes out again."""

import json
from pathlib import Path

import pytest
import yaml

from dft_eval.errors import BackendError, ChangedRunError, ConfigError
from dft_eval.rollout.config import load_config
from dft_eval.rollout.sample import sample_rollouts
from dft_eval.rollout.select import select_rollouts
from dft_eval.rollout.training_files import write_training_files
from dft_eval.run.shards import parse_shard
from dft_eval.tasks.math.grader import close_graders
from tests.eval.rollout.rollout_files import NUM_REPEATS, QUESTIONS, write_rollout


@pytest.fixture(autouse=True, scope="module")
def no_grader_stays():
    yield
    close_graders()


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    """(folder, manifest) of the small rollout."""
    folder = tmp_path_factory.mktemp("rollout")
    assert sample_rollouts(load_config(write_rollout(folder)))["answers"] == 12
    return folder, select_rollouts(folder / "run", folder / "data", num_workers=1)


def rows(folder, name):
    return [json.loads(line) for line in (folder / "data" / f"{name}.jsonl").read_text().splitlines()]


def said(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


RIGHT = [
    ("What is 2+3?", "It is 5."),
    ("What is 2+3?", "2+3=\\boxed{5}"),
    ("What is 7-3?", "\\boxed{4}"),
    ("What is 7-3?", "so 4"),
]
WRONG = [
    ("What is 2+3?", "six"),
    ("What is 2*3?", "\\boxed{5}"),
    ("What is 2*3?", "\\boxed{7}"),
    ("What is 2*3?", "nothing"),
    ("What is 7-3?", "\\boxed{3}"),
]


@pytest.mark.parametrize("framework", ["llamafactory", "ms_swift"])
def test_right_answers_are_trained_each_once(selected, framework):
    folder, _ = selected
    assert [row["messages"] for row in rows(folder, f"{framework}/rft")] == [said(*one) for one in RIGHT]
    labelled = [
        (row["messages"][0]["content"], row["messages"][1]["content"], row["label"])
        for row in rows(folder, f"{framework}/kto")
    ]
    assert sorted(labelled) == sorted([(*one, True) for one in RIGHT] + [(*one, False) for one in WRONG])


def test_pairs_have_a_right_and_a_wrong_answer_to_one_prompt(selected):
    folder, _ = selected
    pairs = [("What is 2+3?", "It is 5.", "six"), ("What is 7-3?", "\\boxed{4}", "\\boxed{3}")]
    ours = rows(folder, "llamafactory/dpo")
    assert [(r["messages"][0]["content"], r["chosen"]["content"], r["rejected"]["content"]) for r in ours] == pairs
    swift = rows(folder, "ms_swift/dpo")
    assert [(r["messages"], r["rejected_response"]) for r in swift] == [(said(q, a), b) for q, a, b in pairs]
    assert [row["solution"] for row in rows(folder, "ms_swift/grpo")] == [["5"], ["6"], ["4"]]


def test_the_manifest_accounts_for_every_answer(selected):
    folder, manifest = selected
    assert manifest == json.loads((folder / "data" / "manifest.json").read_text())
    assert manifest["answers"] == {
        **{"answers": 12, "right": 4, "wrong": 5, "truncated": 1},
        **{"empty": 1, "repeated": 1, "beyond_maximum": 0},
    }
    assert manifest["prompts_by_right_answers"] == {"0": 1, "3": 2} and manifest["pass_rate"] == pytest.approx(6 / 12)
    assert manifest["files"]["llamafactory/rft.jsonl"]["rows"] == 4
    assert "<svg" in (folder / "data" / "pass_rates.svg").read_text()


def test_the_same_rollout_gives_the_same_bytes(selected, tmp_path):
    folder, _ = selected
    select_rollouts(folder / "run", tmp_path, num_workers=1)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 10
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / "data" / file).read_bytes(), file


def test_a_file_without_rows_is_no_dataset(selected, tmp_path):
    """LLaMA-Factory ends in a traceback of its own at an empty file."""
    info = json.loads((selected[0] / "data/llamafactory/dataset_info.json").read_text())
    assert set(info) == {"rft", "dpo", "kto"}
    written = write_training_files(tmp_path, [])
    assert json.loads((tmp_path / "llamafactory/dataset_info.json").read_text()) == {}
    assert {found["rows"] for found in written.values()} == {0}


def test_at_most_so_many_answers_of_a_prompt(selected, tmp_path):
    folder, _ = selected
    manifest = select_rollouts(folder / "run", tmp_path, max_per_prompt=1, num_workers=1)
    assert manifest["files"]["llamafactory/rft.jsonl"]["rows"] == 2
    assert manifest["files"]["llamafactory/kto.jsonl"]["rows"] == 5 and manifest["answers"]["beyond_maximum"] == 4


def test_shards_merge_into_the_run(selected, tmp_path):
    _, manifest = selected
    config = load_config(write_rollout(tmp_path))
    for index in range(2):
        sample_rollouts(config, shard=parse_shard(f"{index}/2"))
        with pytest.raises(ConfigError, match=r"is one shard"):
            select_rollouts(tmp_path / "run" / "shards" / f"{index}-of-2", tmp_path / "data")
    assert sample_rollouts(config)["answers"] == len(QUESTIONS) * NUM_REPEATS
    merged = select_rollouts(tmp_path / "run", tmp_path / "data", num_workers=1)
    assert merged["files"] == manifest["files"]


def test_what_is_missing_or_changed_stops(tmp_path):
    file = write_rollout(tmp_path)
    with pytest.raises(ConfigError, match=r"is no rollout"):
        select_rollouts(tmp_path / "run", tmp_path / "data")
    sample_rollouts(load_config(file))
    generations = tmp_path / "run" / "generations.jsonl"
    generations.write_text("".join(generations.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(BackendError, match=r"lacks 1 of 12 answers"):
        select_rollouts(tmp_path / "run", tmp_path / "data")
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(content | {"rules": "short_answer"}))
    with pytest.raises(ChangedRunError, match=r"rules"):
        sample_rollouts(load_config(file))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sampling": {"temperature": 1.0}}, r"max_new_tokens is needed"),
        ({"rules": "code"}, r"rules"),
        ({"prompts": {"file": "x", "prompt": "q", "gold": "a", "template": "no place"}}, r"must have \{prompt\}"),
        (
            {"interface": "completion", "prompts": {"file": "x", "prompt": "q", "gold": "a", "system": "s"}},
            r"goes with",
        ),
        ({"promts": {}}, r"promts: Extra inputs"),
    ],
)
def test_settings_that_cannot_be_carried_out(tmp_path, changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load_config(write_rollout(tmp_path, **changes))


def test_the_example_is_a_configuration():
    config = load_config(Path(__file__).parents[3] / "yaml_examples" / "rollout" / "gsm8k.yaml")
    assert (config.rules, config.prompts.gold_form, config.sampling.num_repeats) == ("math", "hashes", 4)
