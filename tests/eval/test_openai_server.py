"""The OpenAI-compatible backend: against LLaMA-Factory's own server, and against one that fails on purpose."""

import http.server
import json
import threading
import time

import pytest

from dft_eval.backends.base import SamplingParams, make_requests
from dft_eval.backends.openai_server import OpenAIBackend, OpenAISettings
from dft_eval.errors import BackendError
from dft_eval.records.schema import Sample
from tests.eval.llamafactory_server import serving
from tests.integrations.tiny import make_text_model, samples

pytest.importorskip("openai")

DRAWN = SamplingParams(temperature=0.6, top_p=0.9, top_k=7, repetition_penalty=1.1, seed=5)


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
        if prompt.startswith("fail") and num_asked <= int(prompt.split()[1]):
            status = 503
        elif prompt == "bad":
            status = 400
        elif prompt == "none":
            text = None
        choice = {"index": 0, "finish_reason": "length" if prompt == "long" else "stop"}
        choice |= {"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text}}
        kind = "text_completion" if "prompt" in body else "chat.completion"
        reply = {"id": "1", "object": kind, "created": 1, "model": body["model"], "choices": [choice]}
        content = json.dumps(reply if status == 200 else {"error": {"message": "no"}}).encode()
        if prompt == "page":
            content = b"<html>Welcome</html>"
        with server.lock:
            server.running -= 1
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if prompt == "page" else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as found:
        found.asked, found.running, found.most, found.lock = [], 0, 0, threading.Lock()
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def ask(server, prompts, *, interface="completion", sampling=DRAWN, **settings):
    settings = {"kind": "openai", "base_url": f"http://127.0.0.1:{server.server_port}/v1", "concurrency": 4} | settings
    backend = OpenAIBackend("tiny", OpenAISettings(**settings), interface, sampling)
    wanted = [Sample(f"id/{i}", prompt, ("\n\n",), 11) for i, prompt in enumerate(prompts)]
    return {a.sample_id: a for batch in backend.generate(make_requests(wanted, sampling)) for a in batch}


def test_everything_is_sent_and_nothing_beyond_the_limit_at_once(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    found = ask(server, [f"q{i}" for i in range(30)])
    assert {key: answer.completion for key, answer in found.items()} == {f"id/{i}": f"to q{i}" for i in range(30)}
    assert 1 < server.most <= 4
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
        ("page", "no choice", 1),
    ],
)
def test_what_does_not_pass_stops_the_run(server, prompt, complaint, num_asked):
    with pytest.raises(BackendError, match=complaint):
        ask(server, [prompt], max_attempts=3)
    assert len(server.asked) == num_asked


def test_no_server_is_said(server):
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(BackendError, match=rf"127\.0\.0\.1:{port}/v1 for id/0 gave no answer"):
        ask(server, ["q"], max_attempts=1)


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
