"""The transformers backend on a tiny random model: what is beside a prompt in a batch changes nothing."""

import json
import random
import shutil
from collections import Counter

import pytest

from dft_eval.backends.base import Request, SamplingParams, make_requests
from dft_eval.backends.hf import HfSettings
from dft_eval.backends.tokens import collect_eos_ids, cut_at_stop
from dft_eval.errors import BackendError, ConfigError, MissingPrerequisite
from dft_eval.records.schema import Sample
from tests.integrations.tiny import make_text_model, samples

torch = pytest.importorskip("torch")

GREEDY = SamplingParams()
DRAWN = SamplingParams(temperature=0.9, top_p=0.9, top_k=20, repetition_penalty=1.3, seed=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Its generation settings name a second end token, one that some of its greedy answers hold."""
    folder = make_text_model(tmp_path_factory.mktemp("model"))
    made = backend(folder)
    rows = [made._tokenizer(answer.completion)["input_ids"] for answer in answers(made, texts()).values()]
    end = next(token for token in sorted({t for row in rows for t in row}) if 2 < sum(token in row for row in rows) < 7)
    name_end_tokens(folder, end)
    return folder


def name_end_tokens(folder, end):
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text())
    settings["eos_token_id"] = [settings["eos_token_id"], end]
    path.write_text(json.dumps(settings))


def backend(model, *, batch_size=5, interface="completion", sampling=GREEDY):
    from dft_eval.backends.hf import HfBackend

    return HfBackend(str(model), HfSettings(kind="hf", device="cpu", batch_size=batch_size), interface, sampling)


def texts(count=9, stop=(), max_new_tokens=24):
    return [Sample(f"id/{i}", row["question"], stop, max_new_tokens) for i, row in enumerate(samples(count))]


def answers(made, wanted, sampling=GREEDY):
    found = {answer.sample_id: answer for batch in made.generate(make_requests(wanted, sampling)) for answer in batch}
    return {sample.sample_id: found[sample.sample_id] for sample in wanted}


@pytest.mark.parametrize(
    "sampling", [GREEDY, SamplingParams(repetition_penalty=1.5), DRAWN], ids=["greedy", "penalty", "drawn"]
)
def test_a_batch_gives_what_single_prompts_give(model, sampling):
    wanted = texts(max_new_tokens=40)
    single = answers(backend(model, batch_size=1, sampling=sampling), wanted, sampling)
    batched = answers(backend(model, batch_size=5, sampling=sampling), wanted, sampling)
    assert batched == single
    assert len({answer.completion for answer in single.values()}) > 3
    assert "stop" in {answer.finish_reason for answer in single.values()}


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_a_single_greedy_answer_is_transformers_own(model, penalty):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, theirs = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    sampling = SamplingParams(repetition_penalty=penalty)
    ours = answers(backend(model, sampling=sampling), texts(), sampling)
    for sample in texts():
        prompt = tokenizer(sample.prompt, return_tensors="pt")
        output = theirs.generate(**prompt, max_new_tokens=24, do_sample=False, repetition_penalty=penalty)
        written = output[0, prompt["input_ids"].shape[1] :].tolist()
        has_ended = written[-1] in theirs.generation_config.eos_token_id
        text = tokenizer.decode(written[:-1] if has_ended else written, skip_special_tokens=True)
        answer = ours[sample.sample_id]
        assert (answer.completion, answer.finish_reason) == (text, "stop" if has_ended else "length")


def test_a_stop_text_ends_and_is_cut_off(model):
    whole = answers(backend(model), texts(max_new_tokens=40))
    letters = Counter("".join(answer.completion for answer in whole.values()))
    stop = (next(letter for letter, _ in letters.most_common() if letter.isalpha()), "never written")
    stopped = answers(backend(model), texts(stop=stop, max_new_tokens=40))
    assert any(stop[0] in answer.completion for answer in whole.values())
    for sample_id, answer in whole.items():
        assert stopped[sample_id].completion == answer.completion.split(stop[0])[0]
        if stop[0] in answer.completion:
            assert stopped[sample_id].finish_reason == "stop"
        else:
            assert stopped[sample_id] == answer


def test_a_checkpoint_s_own_generation_settings_decide_nothing(model, tmp_path):
    other = shutil.copytree(model, tmp_path / "other")
    path = other / "generation_config.json"
    settings = json.loads(path.read_text()) | {
        "do_sample": True,
        "temperature": 2.0,
        "repetition_penalty": 1.9,
        "top_k": 3,
    }
    path.write_text(json.dumps(settings))
    assert answers(backend(other), texts()) == answers(backend(model), texts())


def test_draws_depend_on_seed_and_repeat_alone(model):
    twice = SamplingParams(temperature=1.0, num_repeats=2, seed=1)
    requests = make_requests(texts(3), twice)
    made = backend(model, sampling=twice)
    first = {(a.sample_id, a.repeat): a for batch in made.generate(requests) for a in batch}
    some = {(a.sample_id, a.repeat): a for batch in made.generate(requests[3:]) for a in batch}
    assert all(first[key] == answer for key, answer in some.items())
    assert first["id/0", 0].completion != first["id/0", 1].completion
    other = SamplingParams(temperature=1.0, num_repeats=2, seed=2)
    again = {(a.sample_id, a.repeat): a for batch in made.generate(make_requests(texts(3), other)) for a in batch}
    assert again != first


def test_draws_follow_the_model_s_probabilities():
    from dft_eval.backends.hf_decoding import TokenChooser

    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -5.0]])
    sampling = SamplingParams(temperature=0.7, top_k=4, top_p=0.95)
    probs = torch.softmax(logits[0] / 0.7, -1)
    kept = torch.tensor([True, True, True, False, False])  # the first three reach 0.95 of the four
    chooser = TokenChooser(sampling, torch.ones(1, 1, dtype=torch.long), [random.Random(0)])
    draws = Counter(int(chooser(torch.zeros(1, 1, dtype=torch.long), logits).argmax()) for _ in range(4000))
    expected = torch.where(kept, probs, 0.0) / probs[kept].sum()
    for token in range(5):
        assert draws[token] / 4000 == pytest.approx(float(expected[token]), abs=0.03)


def test_chat_goes_through_the_tokenizer_s_template(model, tmp_path):
    message = {"role": "user", "content": "What is 1+2?"}
    sample = Sample("id/0", (message,), (), 8)
    text = "<|im_start|>user\nWhat is 1+2?<|im_end|>\n<|im_start|>assistant\n"
    chat = answers(backend(model, interface="chat"), [sample])
    plain = answers(backend(model), [Sample("id/0", text, (), 8)])
    assert chat == plain
    bare = make_text_model(tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        backend(bare, interface="chat")


def test_what_cannot_work_is_refused(model, tmp_path):
    with pytest.raises(BackendError, match="prompt tokens; the model holds 512"):
        answers(backend(model), [Sample("id/0", "add " * 600, (), 8)])
    with pytest.raises(BackendError, match="cannot be loaded"):
        backend(tmp_path / "nowhere")
    with pytest.raises(BackendError, match="has no token"):
        list(backend(model).generate([Request(Sample("a", "", (), 8), 0, 0, 8)]))
    with pytest.raises(BackendError, match="end-of-sequence"):
        collect_eos_ids(None, [])
    if not torch.cuda.is_available():
        from dft_eval.backends.hf import HfBackend

        with pytest.raises(MissingPrerequisite, match="no CUDA device"):
            HfBackend(str(model), HfSettings(kind="hf", device="cuda"), "completion", GREEDY)


def test_the_earliest_stop_text_counts():
    assert cut_at_stop("abcdef", ("ef", "cd")) == ("ab", True)
    assert cut_at_stop("abc", ("x",)) == ("abc", False)
    assert cut_at_stop("abc", ()) == ("abc", False)
    assert collect_eos_ids(5, [7, 5], None) == [5, 7]


def test_a_context_too_small_caps_each_row_to_what_fits(model, caplog):
    """Greedy without end tokens: each row fills the rest of the context, whatever is beside it."""
    wanted = texts(4, max_new_tokens=600)
    made = backend(model, batch_size=4)
    made._eos_ids = [made._tokenizer.convert_tokens_to_ids("<|im_end|>")]
    made._limit = 60
    found = answers(made, wanted)
    assert "4 of 4 prompts leave less room" in caplog.text
    for sample in wanted:
        prompt = len(made._tokenizer(sample.prompt)["input_ids"])
        alone = answers(made, [Sample(sample.sample_id, sample.prompt, (), 60 - prompt)])
        assert found[sample.sample_id] == alone[sample.sample_id]
    assert "length" in {answer.finish_reason for answer in found.values()}
