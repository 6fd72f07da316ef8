"""GSM8K, and the task derived from it."""

import pytest

from dft_eval.backends.base import Request, SamplingParams
from dft_eval.backends.hf import HfSettings
from dft_eval.backends.hf_reading import share_passes
from dft_eval.backends.openai_server import OpenAISettings
from dft_eval.errors import ConfigError
from dft_eval.records.schema import Answer, Sample
from dft_eval.tasks.base import TaskSettings
from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.math.grader import close_graders
from tests.integrations.tiny import make_text_model, samples


@pytest.fixture(autouse=True, scope="module")
def no_grader_stays():
    yield
    close_graders()


def test_every_gold_solution_passes_and_another_number_does_not(data_dir):
    task = TASKS["gsm8k"](data_dir, "8-shot")
    assert len(task.golds) == len(task.samples()) == 1319
    for sample_id, row in zip(task.golds, task.data_files[0].records(data_dir), strict=True):
        assert task.score(Answer(sample_id, completion=" " + row["answer"])).passed
        wrong = row["answer"].rpartition("####")[0] + f"#### {task.golds[sample_id]}1"
        assert not task.score(Answer(sample_id, completion=wrong)).passed
    assert "<<" not in task.shots and task.shots.count("Question:") == task.shots.count("\n#### ") == 8


@pytest.mark.parametrize(
    ("text", "finish_reason", "status"),
    [
        (" She makes 18.\n#### 18", "stop", "ok"),
        (" #### $18", "stop", "ok"),
        (" #### 18.00", "stop", "ok"),
        (" She makes 9*2 = 18.", "stop", "ok"),
        (" #### 18<|im_end|>#### 4", "stop", "ok"),
        (" #### 17\nso 18", "stop", "wrong"),
        (" #### 1,8", "stop", "ok"),
        (" none", "stop", "no_answer"),
        (" It is 99. 018", "stop", "no_answer"),
        (" It is 018", "stop", "ok"),
        (" Of 5, 018", "stop", "no_answer"),
        (" 4 + 5. 18.0", "stop", "ok"),
        (" 16 - 3", "length", "truncated"),
    ],
)
def test_the_number_behind_the_mark_counts_else_the_last(text, finish_reason, status, data_dir):
    task = TASKS["gsm8k"](data_dir, "8-shot")
    assert task.score(Answer("gsm8k/0", completion=text, finish_reason=finish_reason)).status == status


def test_a_chat_answer_is_read_as_elsewhere_in_mathematics(data_dir):
    task = TASKS["gsm8k"](data_dir, "0-shot-chat")
    assert task.samples()[0].prompt[0]["content"].endswith("put your final answer within \\boxed{}.")
    assert task.score(Answer("gsm8k/0", completion="so \\boxed{18}")).status == "ok"
    assert task.score(Answer("gsm8k/0", completion="18 - 1 = \\boxed{17}")).status == "wrong"


def test_a_step_gives_everything_before_the_equals_sign(data_dir):
    task = TASKS["gsm8k_steps"](data_dir, "given-steps")
    first, second = task.samples()[:2]
    assert len(task.samples()) == 4240 and first.unit == second.unit
    assert first.prompt.endswith("16 - 3 - 4 =")
    assert (first.continuation, second.continuation) == (" 9", "18")
    assert second.prompt.endswith("= $") and "<<" not in second.prompt
    assert task.score(Answer(first.sample_id, completion=" 9")).passed
    assert not task.score(Answer(first.sample_id, completion=" 8")).passed
    assert task.score(Answer(first.sample_id, completion="")).status == "no_answer"
    assert "derived" in next(iter(task.summarise([task.score(Answer(first.sample_id, completion=" 9"))])))
    settings = TaskSettings(OpenAISettings(kind="openai", base_url="http://x/v1"), "completion", SamplingParams())
    with pytest.raises(ConfigError, match="kind: hf"):
        task.check_settings(settings)


def test_given_continuations_are_read_in_one_pass_whatever_is_beside_them(tmp_path):
    """Against a forward pass of each alone; the model's own next token is right, another is not."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_text_model(tmp_path / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    wanted, expected = [], {}
    for i, row in enumerate(samples(24)):
        prompt = tokenizer(row["question"])["input_ids"]
        with torch.inference_mode():
            own = tokenizer.decode(model(torch.tensor([prompt])).logits[0, -1].argmax())
        for kind, text in (("own", own), ("other", " then 12")):
            whole = tokenizer(row["question"] + text)["input_ids"]
            if not text or whole[: len(prompt)] != prompt or (kind == "own" and len(whole) != len(prompt) + 1):
                continue  # read as other tokens than the model would write
            with torch.inference_mode():
                likeliest = model(torch.tensor([whole])).logits[0, len(prompt) - 1 : -1].argmax(dim=-1)
            sample = Sample(f"{kind}/{i}", row["question"], (), 1, continuation=text)
            wanted.append(Request(sample, 0, 0, 1))
            expected[sample.sample_id] = tokenizer.decode(likeliest)
            assert (expected[sample.sample_id] == text) is (kind == "own")
    made = HfSettings(kind="hf", device="cpu", batch_size=5).make(str(folder), "completion", SamplingParams())
    found = {answer.sample_id: answer.completion for batch in made.generate(wanted) for answer in batch}
    assert found == expected
    assert {key.split("/")[0] for key in found} == {"own", "other"}


def test_continuations_that_share_a_text_share_a_pass():
    def given(name):
        return Request(Sample(name, "x", (), 1, continuation="y"), 0, 0, 1)

    first, second, other, longer = map(given, ("first", "second", "other", "longer"))
    entries = [(first, [1, 2, 3], 1), (other, [1, 2, 4], 2), (longer, [1, 2, 3, 5, 6], 1), (second, [1, 2, 3], 2)]
    shared = {
        tuple(each.ids): [(request.sample.sample_id, *place) for request, *place in each.readings]
        for each in share_passes(entries)
    }
    assert shared == {
        (1, 2, 3, 5, 6): [("longer", 5, 1), ("first", 3, 1), ("second", 3, 2)],
        (1, 2, 4): [("other", 3, 2)],
    }
