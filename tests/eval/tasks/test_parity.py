"""A slice of docs/parity.md: a real model asked, cut and judged as the tools that others use do it."""

import importlib.util
from dataclasses import replace

import pytest

from dft_eval.backends.base import SamplingParams, make_requests
from dft_eval.backends.hf import HfSettings
from tests.conftest import require
from tests.eval.tasks.evalplus_oracle import evalplus_verdicts

PROBLEMS = ("HumanEval/0", "HumanEval/13", "HumanEval/26", "HumanEval/69", "HumanEval/70", "HumanEval/79")
PROBLEMS += ("HumanEval/89", "HumanEval/105")  # some end at once, some run on, some write the function anew
NUM_TOKENS = 32


@pytest.fixture(scope="module")
def plain(real_model):
    """What `generate` of transformers writes, one prompt at a time, without any stop text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(real_model), AutoModelForCausalLM.from_pretrained(real_model)

    def write(prompt):
        encoded = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**encoded, max_new_tokens=NUM_TOKENS, do_sample=False)
        return tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)

    return write


@pytest.mark.slow
def test_generations_and_verdicts_equal_those_of_transformers_and_evalplus(plain, real_model, open_code_task, tmp_path):
    require(importlib.util.find_spec("evalplus") is not None, "evalplus (make setup)")
    task = open_code_task("humaneval_plus", "qwen-base")
    samples = {each.sample_id: replace(each, max_new_tokens=NUM_TOKENS) for each in task.samples()}
    wanted = [samples[name] for name in PROBLEMS]
    backend = HfSettings(kind="hf", device="cpu", dtype="float32", batch_size=4).make(
        str(real_model), "completion", SamplingParams()
    )
    requests = make_requests(wanted, SamplingParams())
    answers = {answer.sample_id: answer for batch in backend.generate(requests) for answer in batch}
    for sample in wanted:
        text = plain(sample.prompt)
        stops = [place for stop in sample.stop if (place := text.find(stop)) >= 0]
        assert answers[sample.sample_id].completion == text[: min(stops, default=len(text))]
    assert len({answer.completion for answer in answers.values()}) > 4

    # the model solves none of them; EvalPlus and we must also agree where one is solved
    solutions = {name: f"{samples[name].prompt}{answers[name].completion}" for name in PROBLEMS}
    solutions["HumanEval/13"] = samples["HumanEval/13"].prompt + task.problems["HumanEval/13"]["canonical_solution"]
    answers["HumanEval/13"] = replace(
        answers["HumanEval/13"], completion=solutions["HumanEval/13"].removeprefix(samples["HumanEval/13"].prompt)
    )
    theirs = evalplus_verdicts(task.problems, solutions, tmp_path)
    ours = {name: task.score(answer).detail["verdicts"] for name, answer in answers.items()}
    assert theirs == {name: {part: ours[name].get(part) == "ok" for part in ("base", "plus")} for name in PROBLEMS}
    assert [name for name, verdict in theirs.items() if verdict["plus"]] == ["HumanEval/13"]
