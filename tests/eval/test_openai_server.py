"""The OpenAI-compatible backend: against LLaMA-Factory's own server, and against one that fails on purpose."""

import http.server
import json
import threading
import time
from datetime import UTC, datetime

import pytest

from dft_eval.backends.base import SamplingParams, make_requests
from dft_eval.backends.drawing import HOT
from dft_eval.backends.openai_server import OpenAIBackend, OpenAISettings
from dft_eval.backends.server_replies import read_reply, retry_after_s
from dft_eval.errors import BackendError, ConfigError
from dft_eval.records.schema import Sample
from tests.eval.served_models import serving, serving_transformers
from tests.integrations.tiny import make_text_model, samples

pytest.importorskip("openai")

DRAWN = SamplingParams(temperature=0.6, top_p=0.9, top_k=7, repetition_penalty=1.1, seed=5)
GREEDY = SamplingParams(seed=5)


SMALL = {
    "small vllm": "This model's maximum context length is 10 tokens. However, you requested 15 tokens (4 in the "
    "messages, 11 in the completion). Please reduce the length of the messages or completion.",
    "small vllm 0.10": "'max_tokens' or 'max_completion_tokens' is too large: 11. This model's maximum context length "
    "is 10 tokens and your request has 4 input tokens (11 > 10 - 4).",
    "small sglang": "Requested token count exceeds the model's maximum context length of 10 tokens. You requested a "
    "total of 15 tokens: 4 tokens from the input messages and 11 tokens for the completion.",
    "small tgi": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 10. Given: 4 `inputs` tokens "
    "and 11 `max_new_tokens`",
}
USAGE = {"completion_tokens": 11, "prompt_tokens": 1, "total_tokens": 12}


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers as the prompt says: `fail N` fails N times with 503 first, `bad` with 400, `none` without text."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        with server.lock:
            server.asked.append((self.path, body, self.headers.get("Authorization")))
            server.running += 1
            server.most = max(server.most, server.running)
            num_asked = sum((b.get("prompt") or b["messages"][-1]["content"]) == prompt for _, b, _ in server.asked)
        time.sleep(0.02)
        status, text = 200, f"to {prompt}"
        is_hot = body["temperature"] == HOT.temperature
        if server.is_stuck or (is_hot and not server.is_greedy):
            text += f" {body['seed']}"
        if prompt.startswith("fail") and num_asked <= int(prompt.split()[1]):
            status = 503
        elif prompt == "bad":
            status = 400
        elif prompt == "none":
            text = None
        elif prompt.startswith("refuse") and num_asked == 1:
            status = int(prompt.split()[1])
        elif prompt.startswith("small") and body["max_tokens"] > 6:
            status = 400
        choice = {"index": 0, "finish_reason": "length" if prompt == "long" else "stop"}
        choice |= {"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text}}
        kind = "text_completion" if "prompt" in body else "chat.completion"
        choice |= json.loads(prompt.partition(" ")[2]) if prompt.startswith("choice ") else {}
        reply = {"id": "1", "object": kind, "created": 1, "model": body["model"], "choices": [choice]}
        reply |= {"usage": USAGE} if "usage" in prompt else {}
        message = SMALL.get(prompt, "Unexpected fields: {'top_k'}" if prompt == "bad" else "no")
        content = json.dumps(reply if status == 200 else {"error": {"message": message}}).encode()
        if prompt == "page":
            content = b"<html>Welcome</html>"
        with server.lock:
            server.running -= 1
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if prompt == "page" else "application/json")
        if prompt.startswith("refuse"):
            self.send_header("Retry-After", prompt.split()[2])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as found:
        found.asked, found.running, found.most, found.lock = [], 0, 0, threading.Lock()
        found.is_greedy = found.is_stuck = False
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def ask(server, prompts, *, interface="completion", sampling=GREEDY, **settings):
    settings = {"kind": "openai", "base_url": f"http://127.0.0.1:{server.server_port}/v1", "concurrency": 4} | settings
    backend = OpenAIBackend("tiny", OpenAISettings(**settings), interface, sampling)
    wanted = [Sample(f"id/{i}", prompt, ("\n\n",), 11) for i, prompt in enumerate(prompts)]
    return {a.sample_id: a for batch in backend.generate(make_requests(wanted, sampling)) for a in batch}


def test_everything_is_sent_and_nothing_beyond_the_limit_at_once(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    found = ask(server, [f"q{i}" for i in range(30)], sampling=DRAWN)
    assert {key: answer.completion for key, answer in found.items()} == {f"id/{i}": f"to q{i}" for i in range(30)}
    assert 1 < server.most <= 4
    probes = [server.asked.pop(0)[1] for _ in range(4)]
    assert [(body["prompt"], body["temperature"], body["top_p"]) for body in probes] == [
        *[("q0", 0.0, 1.0)] * 2,
        *[("q0", 2.0, 1.0)] * 2,
    ]
    for path, body, key in server.asked:
        assert path == "/v1/completions" and key == "Bearer sesame"
        assert (body["temperature"], body["top_p"], body["top_k"], body["repetition_penalty"]) == (0.6, 0.9, 7, 1.1)
        assert body["max_tokens"] == 11 and body["stop"] == ["\n\n"] and body["model"] == "tiny"
    assert len({body["seed"] for _, body, _ in server.asked}) == 30


def test_chat_messages(server):
    found = ask(server, [({"role": "user", "content": "hello"},)], interface="chat", sampling=SamplingParams())
    assert found["id/0"].completion == "to hello"
    path, body, _ = server.asked[0]
    assert path == "/v1/chat/completions" and body["messages"] == [{"role": "user", "content": "hello"}]
    assert (body["temperature"], body["top_p"], body["top_k"], body["repetition_penalty"]) == (0.0, 1.0, -1, 1.0)


def test_a_server_that_fails_for_a_while_is_asked_again(server):
    found = ask(server, ["fail 2", "long"])
    assert found["id/0"].completion == "to fail 2" and len(server.asked) == 4
    assert found["id/0"].finish_reason == "stop" and found["id/1"].finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "complaint", "num_asked"),
    [
        ("fail 99", "gave no answer|answered 503", 3),
        ("bad", "for id/0 answered 400", 1),
        ("none", "text is needed", 1),
        ("page", "no choice.*base_url is wrong", 1),
        ("bad", r"set `omit: \[top_k\]` in `backend:`", 1),
        ('choice {"finish_reason": "content_filter"}', "finish_reason='content_filter'", 1),
    ],
)
def test_what_does_not_pass_stops_the_run(server, prompt, complaint, num_asked):
    with pytest.raises(BackendError, match=complaint):
        ask(server, [prompt], max_attempts=3)
    assert len(server.asked) == num_asked


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"message": {"content": "x"}, "finish_reason": "STOP"}, ("x", "stop")),
        ({"message": {"content": "x"}, "finish_reason": "MAX_TOKENS"}, ("x", "length")),
        ({"message": {"content": "x"}, "finish_reason": ""}, ("x", "stop")),
        ({"message": {"content": "x"}}, ("x", "stop")),
        ({"text": "x", "finish_reason": {"type": "length", "length": 11}}, ("x", "length")),
        ({"message": {"content": [{"type": "text", "text": {"value": "x"}}]}, "finish_reason": "stop"}, ("x", "stop")),
        ({"message": {"content": []}, "finish_reason": "stop"}, ("", "stop")),
        ({"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}, ("No.", "stop")),
        ({"message": {"content": "x"}, "finish_reason": "abort"}, None),
        ({"finish_reason": "stop"}, None),
        (None, None),
    ],
)
def test_replies_of_odd_forms(choice, expected):
    if expected is None:
        with pytest.raises(BackendError, match=r"text is needed|no choice came back \(loading\)"):
            read_reply({"choices": [choice], "error": "loading"}, "server", 11)
    else:
        assert tuple(read_reply({"choices": [choice]}, "server", 11)) == expected


def test_no_server_is_said(server):
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(BackendError, match=rf"127\.0\.0\.1:{port}/v1 for id/0 gave no answer"):
        ask(server, ["q"], max_attempts=1)


@pytest.mark.slow
def test_transformers_server_and_transformers_agree_on_a_real_model(tmp_path, real_model):
    """Greedy, with the fields left out that this server refuses; stop texts are cut here."""
    from dft_eval.backends.hf import HfSettings

    questions = ["The capital of France is", "def add(a, b):\n", "Name three colours."]
    prompts = {"completion": questions, "chat": [({"role": "user", "content": each},) for each in questions]}
    omitted = ("top_k", "repetition_penalty", "stop")
    with serving_transformers(real_model, tmp_path / "server.log") as url:
        strict = OpenAISettings(kind="openai", base_url=url, concurrency=1)
        fitting = strict.model_copy(update={"omit": omitted})
        local = HfSettings(kind="hf", device="cpu", dtype="float32", batch_size=1)
        for interface, asked in prompts.items():
            wanted = [Sample(f"id/{i}", prompt, ("\n\n",), 24) for i, prompt in enumerate(asked)]
            requests = make_requests(wanted, SamplingParams())
            with pytest.raises(BackendError, match=r"answered 422.*set `omit: \[top_k, repetition_penalty"):
                list(strict.make(str(real_model), interface, SamplingParams()).generate(requests))
            texts = [
                {answer.sample_id: answer.completion for batch in backend.generate(requests) for answer in batch}
                for backend in (each.make(str(real_model), interface, SamplingParams()) for each in (fitting, local))
            ]
            assert texts[0] == texts[1], interface
            assert len(set(texts[0].values())) == 3 and ("Paris" in texts[0]["id/0"] or interface == "chat")


@pytest.mark.slow
@pytest.mark.llamafactory
def test_llamafactory_s_server_and_transformers_agree(tmp_path):
    """Greedy, through `llamafactory-cli api` in a process of its own."""
    pytest.importorskip("llamafactory")

    from dft_eval.backends.hf import HfBackend, HfSettings

    model = make_text_model(tmp_path / "model")
    with serving(model, "qwen", tmp_path / "server.log") as url:
        wanted = [
            Sample(
                f"id/{i}",
                ({"role": "system", "content": "Add."}, {"role": "user", "content": row["question"]}),
                (),
                20,
            )
            for i, row in enumerate(samples(8))
        ]
        requests = make_requests(wanted, SamplingParams())
        settings = OpenAISettings(kind="openai", base_url=url, concurrency=2)
        served = OpenAIBackend("tiny", settings, "chat", SamplingParams())
        local = HfBackend(str(model), HfSettings(kind="hf", device="cpu", batch_size=4), "chat", SamplingParams())
        answers = [
            {a.sample_id: a for batch in backend.generate(requests) for a in batch} for backend in (served, local)
        ]
    assert answers[0] == answers[1]
    assert len({answer.completion for answer in answers[0].values()}) > 4


@pytest.mark.parametrize(
    ("choice", "text", "finish_reason"),
    [
        ({"finish_reason": None, "text": "7"}, "7", "stop"),
        ({"finish_reason": None, "text": "usage"}, "usage", "length"),
        ({"finish_reason": "eos_token", "text": "7"}, "7", "stop"),
        ({"finish_reason": "stop_sequence", "text": "7"}, "7", "stop"),
        ({"finish_reason": "length", "text": None}, "", "length"),
        ({"finish_reason": "length", "text": "7\n\nkept on"}, "7", "stop"),
    ],
)
def test_odd_completions_are_read_as_they_are_meant(server, choice, text, finish_reason):
    answer = ask(server, ["choice " + json.dumps(choice)])["id/0"]
    assert (answer.completion, answer.finish_reason) == (text, finish_reason)


@pytest.mark.parametrize(
    ("message", "end", "text", "finish_reason"),
    [
        ({"content": None}, "length", "", "length"),
        ({"content": None, "reasoning_content": "Let me see"}, "stop", "", "length"),
        ({"content": None, "reasoning": "Let me see"}, "length", "", "length"),
        ({"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}, "stop", "42", "stop"),
        ({"content": [{"type": "thinking", "thinking": "5"}, {"type": "text", "text": "4"}]}, "stop", "4", "stop"),
    ],
)
def test_odd_messages_are_read_as_they_are_meant(server, message, end, text, finish_reason):
    choice = {"finish_reason": end, "message": {"role": "assistant", **message}}
    prompt = ({"role": "user", "content": "choice " + json.dumps(choice)},)
    answer = ask(server, [prompt], interface="chat")["id/0"]
    assert (answer.completion, answer.finish_reason) == (text, finish_reason)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_a_refusal_that_passes_is_asked_again_after_what_the_server_asks_for(server, status, monkeypatch):
    waits = []

    async def note(seconds):
        waits.append(seconds)

    monkeypatch.setattr("dft_eval.backends.openai_server._sleep", note)
    assert ask(server, [f"refuse {status} 17"])["id/0"].completion == f"to refuse {status} 17"
    assert waits == [17.0] and len(server.asked) == 2


def test_a_date_is_a_time_to_wait_for_too():
    now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    assert retry_after_s({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, now) == 30.0
    assert retry_after_s({"retry-after": "Thu, 01 Jan 2026 11:00:30 GMT"}, now) == 0.0
    assert retry_after_s({"retry-after-ms": "250"}, now) == 0.25
    assert retry_after_s({"retry-after": "Thu, 01 Jan 2026 12:00:30"}, now) == 30.0
    assert retry_after_s({"retry-after-ms": "inf"}, now) == 3600.0
    assert retry_after_s({"retry-after": "soon"}, now) is None
    assert retry_after_s({}, now) is None


@pytest.mark.parametrize("prompt", SMALL)
def test_a_context_too_small_is_filled_and_said_once(server, prompt, caplog):
    assert ask(server, [prompt])["id/0"].completion == f"to {prompt}"
    assert [body["max_tokens"] for _, body, _ in server.asked] == [11, 6]
    assert caplog.text.count("do not fit behind the prompt") == 1


def test_fields_a_server_refuses_are_left_out_on_demand(server):
    ask(server, ["q"], sampling=SamplingParams(), omit=("top_k", "repetition_penalty", "stop", "seed"))
    assert not {"top_k", "repetition_penalty", "stop", "seed"} & set(server.asked[0][1])
    with pytest.raises(ConfigError, match=r"omit: top_k, but sampling\.top_k is 7"):
        ask(server, ["q"], sampling=DRAWN, omit=("top_k",))


def test_a_server_that_never_draws_is_found_out_before_anything_is_recorded(server):
    server.is_greedy = True
    assert ask(server, ["q"])["id/0"].completion == "to q"
    num_asked = len(server.asked)
    with pytest.raises(BackendError, match=r"does not draw: asked twice at temperature 2 .*'to longest'.*do_sample"):
        ask(server, ["q", "q", "longest", "other"], sampling=DRAWN)
    assert len(server.asked) == num_asked + 2 + 6
    thinking = "choice " + json.dumps({"text": "", "finish_reason": "length"})
    assert ask(server, [thinking], sampling=DRAWN)["id/0"].completion == ""


@pytest.mark.parametrize(("sampling", "count"), [(GREEDY, 10), (DRAWN, 1)])
def test_a_server_that_keeps_a_sampling_of_its_own_is_found_out_too(server, sampling, count):
    """As one whose first request, of somebody else, was drawn, and which draws ever since."""
    server.is_stuck = True
    with pytest.raises(BackendError, match=r"does not obey `temperature`: .*'to q0 1' and 'to q0 2'.*start it anew"):
        ask(server, [f"q{index}" for index in range(count)], sampling=sampling)
    assert {body["temperature"] for _, body, _ in server.asked} == {0.0}
