"""`dft eval run` without a command line: configuration, generation, resuming, what is refused."""

import json
from pathlib import Path

import pytest
import yaml

from dft_eval.backends.base import SamplingParams
from dft_eval.errors import BackendError, ChangedRunError, ConfigError, MissingPrerequisite
from dft_eval.records.model_hash import hash_model
from dft_eval.records.provenance import hash_prompts
from dft_eval.run.config import load_config
from dft_eval.run.evaluate import run_evaluation
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.shards import Shard
from dft_eval.tasks.base import Missing
from tests.eval.arithmetic import CATALOG, NUM_SAMPLES, Arithmetic, write_samples
from tests.integrations.tiny import make_text_model

EXAMPLE = Path(__file__).parents[2] / "yaml_examples/eval/code.yaml"
POOL = LocalPool(num_workers=1)

pytestmark = pytest.mark.usefixtures("arithmetic_data")


def write_config(folder, **changes):
    content = {
        "model": "recorded",
        "tasks": ["arithmetic"],
        "interface": "completion",
        "backend": {"kind": "replay", "samples": str(folder / "s.jsonl")},
        "out": str(folder / "runs"),
    }
    content |= changes
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def evaluate(path, *, shard=None, catalog=CATALOG, **options):
    return run_evaluation(load_config(path, **options), catalog, POOL, shard=shard)


def test_replayed_answers_give_a_run_folder(tmp_path):
    write_samples(tmp_path / "s.jsonl")
    (metrics,) = evaluate(write_config(tmp_path)).values()
    folder = tmp_path / "runs/arithmetic"
    assert metrics["is_complete"] and metrics == json.loads((folder / "metrics.json").read_text())
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == [
        "generations.jsonl",
        "metrics.json",
        "problems.json",
        "run.json",
        "scores.jsonl",
    ]
    run = json.loads((folder / "run.json").read_text())["settings"]
    assert run["temperature"] == 0.0 and run["top_k"] == -1 and run["seed"] == 0 and run["backend"]["kind"] == "replay"
    assert run["prompt_sha256"] == hash_prompts(Arithmetic(tmp_path / "data", "text").samples())


def test_a_limit_is_marked_as_partial(tmp_path):
    write_samples(tmp_path / "s.jsonl")
    (metrics,) = evaluate(write_config(tmp_path), limit=10).values()
    assert metrics["n"] == 10 and metrics["n_missing"] == 0 and metrics["headline"] is None
    assert metrics["incomplete_because"] == ["--limit 10 of 40 samples"]
    assert "metrics" not in metrics and metrics["partial_metrics"]["accuracy"]["num_items"] == 10
    with pytest.raises(ChangedRunError, match="limit 10 -> null; prompt_sha256"):
        evaluate(write_config(tmp_path))


def test_a_failing_backend_keeps_what_it_gave_and_resumes(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl")
    whole = samples.read_text()
    samples.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    big = {"arithmetic": type("Many", (Arithmetic,), {})}
    with pytest.raises(BackendError, match="holds no answer to"):
        evaluate(write_config(tmp_path), catalog=big)
    samples.write_text(whole)
    (metrics,) = evaluate(write_config(tmp_path)).values()
    assert metrics["is_complete"]


def test_changed_sampling_is_refused(tmp_path):
    write_samples(tmp_path / "s.jsonl")
    evaluate(write_config(tmp_path))
    with pytest.raises(ChangedRunError, match=r"run\.json differs in: temperature 0\.0 -> 0\.7; use a new --out"):
        evaluate(write_config(tmp_path, sampling={"temperature": 0.7}))


def test_shards_merge_to_the_whole(tmp_path):
    write_samples(tmp_path / "s.jsonl")
    (whole,) = evaluate(write_config(tmp_path)).values()
    path = write_config(tmp_path, out=str(tmp_path / "sharded"))
    for index in range(2):
        (part,) = evaluate(path, shard=Shard(index, 2)).values()
        assert part["n_missing"] == NUM_SAMPLES // 2
    (tmp_path / "s.jsonl").unlink()  # nothing is left to ask for
    (merged,) = evaluate(path).values()
    assert merged == whole


def test_several_models_get_a_folder_each(tmp_path):
    write_samples(tmp_path / "s.jsonl")
    path = write_config(tmp_path, model=None, models={"base": "a", "dft": "b"})
    assert sorted(evaluate(path)) == [str(tmp_path / f"runs/{name}/arithmetic") for name in ("base", "dft")]
    one = evaluate(path, model="c", out=tmp_path / "one")
    assert list(one) == [str(tmp_path / "one/arithmetic")]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"temprature": 1}, "temprature: Extra inputs"),
        ({"sampling": {"temperature": -1}}, "sampling.temperature"),
        ({"sampling": {"temperature": float("nan")}}, "sampling.temperature"),
        ({"sampling": {"top_k": 0}}, "top_k=0; -1"),
        ({"sampling": {"num_repeats": 4}}, "num_repeats=4 at temperature 0"),
        ({"interface": None}, "interface: Field required"),
        ({"interface": "guess"}, "interface"),
        ({"backend": {"kind": "telepathy"}}, "backend"),
        ({"backend": {"kind": "openai", "base_url": "http://me:secret@host/v1"}}, "api_key_env"),
        ({"backend": {"kind": "openai", "base_url": "host:8000"}}, "http or https"),
        ({"backend": {"kind": "hf", "device": "cpu", "temperature": 1}}, "Extra inputs"),
        ({"model": None}, "either `model` or `models`"),
        ({"models": {"a": "b"}}, "either `model` or `models`"),
        ({"model": None, "models": {"../a": "b"}}, "models"),
        ({"tasks": []}, "tasks"),
        ({"limit": 0}, "limit"),
    ],
)
def test_bad_configurations_are_refused(tmp_path, changes, complaint):
    with pytest.raises(ConfigError) as caught:
        load_config(write_config(tmp_path, **changes))
    assert complaint in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "- a", "a: [", "\0"])
def test_unreadable_configurations_are_refused(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.yaml")


def test_unknown_tasks_and_protocols_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="task 'arithmetik' is unknown; did you mean arithmetic; all"):
        evaluate(write_config(tmp_path), tasks=["arithmetik"])
    with pytest.raises(ConfigError, match="protocol 'x' of arithmetic; accepted: text, messages"):
        evaluate(write_config(tmp_path, protocol="x"))


def test_prompts_are_never_turned_into_another_form(tmp_path):
    with pytest.raises(ConfigError, match="asks in the form of chat"):
        evaluate(write_config(tmp_path, protocol="messages"))
    with pytest.raises(ConfigError, match="Set `interface: completion`"):
        evaluate(write_config(tmp_path, interface="chat", protocol="text"))


class Chatty(Arithmetic):
    name = "chatty/sums"
    domain = "talk"


MIXED = {**CATALOG, "chatty/sums": Chatty}


@pytest.mark.parametrize("key", ["chatty/sums", "chatty/*", "talk"])
def test_interface_and_protocol_are_chosen_by_benchmark_pattern_or_domain(tmp_path, key):
    write_samples(tmp_path / "s.jsonl")
    path = write_config(tmp_path, tasks=["arithmetic", "chatty/*"], interface={"*": "completion", key: "chat"})
    runs = {metrics["task"]: metrics["protocol"] for metrics in evaluate(path, catalog=MIXED).values()}
    assert runs == {"arithmetic": "text", "chatty/sums": "messages"}  # the first protocol that fits the interface
    settings = json.loads((tmp_path / "runs/chatty/sums/run.json").read_text())["settings"]
    assert settings["interface"] == "chat"
    path = write_config(tmp_path, tasks=["chatty/*"], interface="chat", protocol={key: "text"})
    with pytest.raises(ConfigError, match="Set `interface: completion`, or choose `protocol: messages`"):
        evaluate(path, catalog=MIXED)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"interface": {"test": "completion", "tset": "chat"}}, "'tset' is neither a benchmark nor a domain; did you"),
        ({"protocol": {"arithmetics": "text"}}, "protocol: 'arithmetics' is neither .* did you mean arithmetic"),
        ({"interface": {"slow": "chat"}}, r"interface: says nothing about arithmetic \(test\); it has slow"),
    ],
)
def test_choices_that_reach_nothing_are_refused(tmp_path, changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        evaluate(write_config(tmp_path, **changes))


def test_a_model_that_is_not_there_stops_at_once(tmp_path):
    path = write_config(tmp_path, model=None, models={"base": "a/b", "dft": "saves/code/dft"})
    path.write_text(path.read_text().replace("kind: replay", "kind: hf\n  device: cpu").replace("  samples:", "  #"))
    with pytest.raises(ConfigError, match="model 'saves/code/dft': no such folder"):
        evaluate(path)


def test_the_example_is_a_configuration():
    config = load_config(EXAMPLE)
    assert len(config.arms()) == 9 and config.sampling == SamplingParams()
    assert load_config(EXAMPLE, model="x", tasks=["humaneval"]).arms() == {config.out: "x"}


def test_a_missing_tool_stops_before_anything_is_generated(tmp_path):
    lacking = type("Lacking", (Arithmetic,), {"missing": lambda self: [Missing("php", "apt-get install php-cli")]})
    with pytest.raises(MissingPrerequisite, match="php: apt-get install php-cli"):
        evaluate(write_config(tmp_path), catalog={"arithmetic": lacking})
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_tiny_model_end_to_end(tmp_path):
    pytest.importorskip("torch")
    model = make_text_model(tmp_path / "model")
    path = write_config(tmp_path, model=str(model), backend={"kind": "hf", "device": "cpu", "batch_size": 7})
    (metrics,) = evaluate(path).values()
    assert metrics["n_scored"] == NUM_SAMPLES and metrics["is_complete"]
    generations = tmp_path / "runs/arithmetic/generations.jsonl"
    before = generations.read_bytes()
    # half of it, cut in the middle of a line: the rest is made again, with the same texts
    generations.write_bytes(before[: len(before) // 2])
    (tmp_path / "runs/arithmetic/scores.jsonl").unlink()
    assert list(evaluate(path).values()) == [metrics]
    assert sorted(generations.read_bytes().splitlines()) == sorted(before.splitlines())


def test_a_model_hash_sees_every_file(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(20 << 20))
    before = hash_model(str(tmp_path))
    assert before == hash_model(str(tmp_path)) and hash_model("Qwen/Qwen2.5-3B") is None
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert hash_model(str(tmp_path)) != before


def test_a_model_trained_again_has_the_same_hash(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = hash_model(str(tmp_path))
    (tmp_path / "train_results.json").write_text('{"train_runtime": 63.1}')
    assert hash_model(str(tmp_path)) == before
    (tmp_path / "generation_config.json").write_text("{}")
    assert hash_model(str(tmp_path)) != before
