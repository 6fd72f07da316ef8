"""The three benchmarks through the real VLMEvalKit: local weights and a server, judges that work and that fail."""

import base64
import json
import shutil

import pytest

from dft_eval.errors import BackendError, ChangedRunError
from tests.eval.served_models import serving
from tests.eval.vision.small_benchmarks import CATALOG, SmallMathVerse, SmallMathVision, SmallWeMath, pin, write_rows
from tests.eval.vision.stub_judge import KEY, running
from tests.integrations.tiny_vl import make_vl_model

pytestmark = pytest.mark.slow

LOCAL = {"backend": {"kind": "hf", "device": "cpu"}, "sampling": {"max_new_tokens": 6}}
TABLE_4 = {"overall", "vision only", "vision intensive", "vision dominant"}
NUM_ROWS = {"mathverse": 5, "mathvision": 3, "wemath": 7}
MODES = ("failing", "hanging", "garbage", "empty", "unreadable")
FAILURES = [(task, mode) for task in NUM_ROWS for mode in MODES]
FAILURES.remove(("mathvision", "unreadable"))  # there any text is an extracted answer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random Qwen2.5-VL."""
    return make_vl_model(tmp_path_factory.mktemp("vl") / "model")


def judged_by(server, **changes):
    settings = {"model": "stub", "base_url": server.url, "timeout_s": 20, "max_attempts": 2, "concurrency": 4}
    return {"protocol": "judge", "vision": {"judge": settings | changes}}


def replayed(tmp_path, text="So the answer is B.", **others):
    """Settings with recorded answers, the same text to every question but those of `others` (`row_3=...`)."""
    folder = tmp_path / "answers"
    folder.mkdir(exist_ok=True)
    for name, count in NUM_ROWS.items():
        records = [{"sample_id": str(row), "answer": others.get(f"row_{row}", text)} for row in range(1, count + 1)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return {"model": "recorded", "backend": {"kind": "replay", "samples": str(folder / "{task}.jsonl")}}


def records(folder, name):
    lines = (folder / name).read_text().splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda record: int(record["sample_id"]))


def test_local_weights_judged(evaluate, model, tmp_path):
    with running() as judge:
        found = evaluate(model=str(model), **LOCAL, **judged_by(judge))
        num_calls = len(judge.asked)
        assert num_calls > 0 and judge.keys == {f"Bearer {KEY}"}
        assert evaluate(model=str(model), **LOCAL, **judged_by(judge)) == found
        assert len(judge.asked) == num_calls
    assert {name: metrics["n_scored"] for name, metrics in found.items()} == NUM_ROWS
    assert all(metrics["is_complete"] and metrics["protocol"] == "judge" for metrics in found.values())
    assert set(found["mathverse"]["metrics"]) >= TABLE_4 and found["mathverse"]["headline"]["name"] == "overall"
    assert list(found["wemath"]["metrics"]) == ["strict", "loose", "S1", "S2", "S3"]
    assert list(found["mathvision"]["metrics"]) == ["accuracy"]
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert KEY.encode() not in path.read_bytes(), path


def test_a_server_judged_row_by_row(evaluate, tmp_path):
    """The server says B to everything."""
    with running() as server:
        backend = {"kind": "openai", "base_url": server.url, "concurrency": 3}
        found = evaluate(model="vl", backend=backend, sampling={"max_new_tokens": 9}, **judged_by(server))
        asked = [body for body in server.asked if body["model"] == "vl"]
    assert len(asked) == sum(NUM_ROWS.values()) and len({body["seed"] for body in asked}) == max(NUM_ROWS.values())
    for body in asked:
        drawn = {name: body[name] for name in ("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty")}
        assert drawn == {"max_tokens": 9, "temperature": 0, "top_p": 1, "top_k": -1, "repetition_penalty": 1}
        kinds = [part["type"] for part in body["messages"][-1]["content"]]
        assert kinds == ["image_url", "text"]
    right = {
        name: {row["sample_id"]: row["passed"] for row in records(tmp_path / "runs" / name, "scores.jsonl")}
        for name in NUM_ROWS
    }
    for kind in (SmallMathVerse, SmallMathVision, SmallWeMath):
        assert right[kind.name] == {row["index"]: row["answer"] == "B" for row in kind.small_rows}
    assert found["mathverse"]["headline"]["value"] == 1
    runs = {name: json.loads((tmp_path / "runs" / name / "run.json").read_text())["settings"] for name in NUM_ROWS}
    assert all(run["min_pixels"] is None and run["judge"]["model"] == "stub" for run in runs.values())
    environments = json.loads((tmp_path / "runs/wemath/run.json").read_text())["environments"]
    assert environments[-1]["vlmeval"]["ms-vlmeval"] == "0.0.20"


@pytest.mark.llamafactory
def test_a_real_server(evaluate, model, tmp_path):
    """LLaMA-Factory's, with the tiny model; its answers by rules."""
    pytest.importorskip("llamafactory")
    with serving(model, "qwen2_vl", tmp_path / "server.log") as url:
        backend = {"kind": "openai", "base_url": url, "concurrency": 2}
        found = evaluate(model="tiny", backend=backend, sampling={"max_new_tokens": 8})
    assert {name: metrics["n_scored"] for name, metrics in found.items()} == NUM_ROWS
    assert all(metrics["is_complete"] and metrics["protocol"] == "rule" for metrics in found.values())
    answers = records(tmp_path / "runs/wemath", "generations.jsonl")
    assert len({answer["completion"] for answer in answers}) > 1
    assert {answer["finish_reason"] for answer in answers} <= {"stop", "length"}


def test_another_checkpoint_under_the_same_name_is_asked_anew(evaluate, model, tmp_path):
    moved = shutil.copytree(model, tmp_path / "model")
    first = evaluate(model=str(moved), tasks=["mathvision"], **LOCAL, out=str(tmp_path / "a"))
    shutil.rmtree(moved)
    make_vl_model(moved, seed=1)
    with pytest.raises(ChangedRunError, match="model_hash"):
        evaluate(model=str(moved), tasks=["mathvision"], **LOCAL, out=str(tmp_path / "a"))
    second = evaluate(model=str(moved), tasks=["mathvision"], **LOCAL, out=str(tmp_path / "b"))
    assert first["mathvision"]["is_complete"] and second["mathvision"]["is_complete"]
    texts = [records(tmp_path / name / "mathvision", "generations.jsonl") for name in "ab"]
    assert all(old["completion"] != new["completion"] for old, new in zip(*texts, strict=True))


@pytest.mark.parametrize(("task", "mode"), FAILURES)
def test_a_judge_that_fails_fails_the_run(evaluate, tmp_path, mode, task):
    """And is asked again where a call failed, until it works; what it said well is kept."""
    answers = replayed(tmp_path, "It is half of the whole, answer is B.")
    with running(mode) as judge:
        settings = judged_by(judge, timeout_s=0.3, max_attempts=1) | answers
        if task != "mathverse":
            settings |= replayed(tmp_path, "Half of the whole, I think.")
        with pytest.raises(BackendError, match="judge|verdict"):
            evaluate(tasks=[task], **settings)
        folder = tmp_path / "runs" / task
        assert not (folder / "metrics.json").exists()
        assert all(score["passed"] is not None for score in records(folder, "scores.jsonl"))
        judge.mode = "ok"
        if mode == "unreadable":
            return
        found = evaluate(tasks=[task], **settings)
        assert found[task]["is_complete"] and found[task]["n_unjudged"] == 0


def test_a_few_answers_without_a_verdict_leave_the_run_partial(evaluate, tmp_path):
    with running("unreadable") as judge:
        answers = replayed(tmp_path, row_3="Half of the whole, I think.")
        found = evaluate(tasks=["wemath"], **judged_by(judge, max_unjudged=0.2), **answers)["wemath"]
    assert found["headline"] is None and found["n_unjudged"] == 1
    assert found["incomplete_because"] == ["1 answers could not be judged"]


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (base64.b64encode(b"no image at all, whatever one does with it, and long").decode(), "UnidentifiedImageError"),
        ("%" * 200, "Error"),
        (None, "pixels"),
    ],
)
def test_images_that_cannot_be_used_stop_the_run(evaluate, small_data, model, tmp_path, image, complaint):
    if image is None:
        from PIL import Image

        path = tmp_path / "huge.png"
        Image.new("1", (12_000, 12_000)).save(path)
        image = base64.b64encode(path.read_bytes()).decode()
    rows = [row | {"image": image} if row["index"] == "2" else row for row in SmallMathVision.small_rows]
    kind = type("Bad", (SmallMathVision,), {"data_files": pin(SmallMathVision, rows)})
    write_rows(small_data, kind, rows)
    with pytest.raises(BackendError, match=rf"1 images cannot be used: 2 \(.*{complaint}"):
        evaluate(model=str(model), tasks=["mathvision"], catalog=CATALOG | {"mathvision": kind}, **LOCAL)
    assert not records(tmp_path / "runs/mathvision", "generations.jsonl")


def test_what_a_model_writes_is_not_executed(evaluate, tmp_path):
    """VLMEvalKit's own rules pass it to `eval()`."""
    mark = tmp_path / "executed"
    text = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    with running() as judge:
        found = evaluate(tasks=["mathvision"], **judged_by(judge), **replayed(tmp_path, text))
    assert found["mathvision"]["is_complete"] and not mark.exists()


def test_texts_survive(evaluate, tmp_path):
    """An answer is judged as it was written: `=7` is no formula, `7.0` no number yet, `NA` not missing."""
    for place, text in enumerate(("=7", "NA", "", 'a\ttab "and\r\nlines"', "x" * 40_000, "7.0")):
        with running() as judge:
            out = str(tmp_path / f"runs{place}")
            settings = judged_by(judge) | replayed(tmp_path, text)
            found = evaluate(tasks=["mathvision"], out=out, **settings)
        assert found["mathvision"]["is_complete"]
        if text == "7.0":
            scores = records(tmp_path / "runs5/mathvision", "scores.jsonl")
            assert [score["passed"] for score in scores] == [False, True, False]
