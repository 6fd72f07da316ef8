"""The hub's files at a pinned commit, from a server that answers as the hub does."""

import functools
import http.server
import json
import threading

import pytest

from dft_plugin.data import sources
from dft_plugin.data.build import BuildSettings, build
from dft_plugin.data.recipe import load_recipe
from dft_plugin.data.selection import with_selection
from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError
from tests.data.upstream import ROWS, write_jsonl

COMMIT = load_recipe("nq-train").source.revision


@pytest.fixture
def server(tmp_path):
    """Serves NQ-open's training file at its commit, with ranges, as `datasets` asks for them."""
    content = write_jsonl(tmp_path / "NQ-open.train.jsonl", ROWS["nq-train"](30)).read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.answer(is_head=True)

        def do_GET(self):
            self.answer(is_head=False)

        def answer(self, *, is_head):
            is_there = self.path == f"/{COMMIT}/nq_open/NQ-open.train.jsonl"
            body = content if is_there else b""
            first, last = 0, len(body) - 1
            if is_range := is_there and self.headers.get("Range", "").startswith("bytes="):
                start, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
                first, last = int(start), min(int(end or last), last)
            self.send_response(206 if is_range else 200 if is_there else 404)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last - first + 1))
            if is_range:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            self.end_headers()
            if not is_head:
                self.wfile.write(body[first : last + 1])

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


def recipe_at(server, **changes):
    recipe = with_selection(load_recipe("nq-train"), changes.pop("take", None), None)
    url = server + "/{revision}/nq_open/NQ-open.train.jsonl"
    return recipe.model_copy(update={"source": recipe.source.model_copy(update={"url": url, **changes})})


@pytest.fixture(autouse=True)
def _online(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


def test_an_address_is_read_at_its_commit(server, tmp_path):
    manifest = build(BuildSettings(recipe_at(server, rows=30), "ms_swift", tmp_path / "out"))
    assert manifest["rows"]["written"] == 30
    assert manifest["source"] == {
        "kind": "url",
        "url": f"{server}/{COMMIT}/nq_open/NQ-open.train.jsonl",
        "revision": COMMIT,
    }


def test_another_number_of_rows_than_pinned_is_no_dataset(server, tmp_path):
    with pytest.raises(InputError, match="the source has 30 rows; 31 are there at the pinned revision"):
        build(BuildSettings(recipe_at(server, rows=31), "ms_swift", tmp_path / "out"))
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert build(BuildSettings(recipe_at(server, rows=31, take=9), "ms_swift", tmp_path / "few"))["rows"]["read"] == 9


def test_a_commit_that_is_not_there(server, tmp_path):
    with pytest.raises(InputError, match=r"NQ-open\.train\.jsonl cannot be read"):
        build(BuildSettings(recipe_at(server), "ms_swift", tmp_path / "out", revision="0" * 40))


class Hub:
    """Stands for `HfApi`: it lists files, which is all that is asked of it."""

    def list_repo_files(self, dataset, *, repo_type, revision):
        assert (repo_type, len(revision)) == ("dataset", 40)
        return ["README.md", "data/train-00001-of-2.parquet", "data/train-00000-of-2.parquet", "all/train-0.parquet"]


def test_files_of_the_hub_are_pinned_and_in_order(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    source = load_recipe("openr1-math-220k").source
    found = sources.find_published(source, None)
    names = ["data/train-00000-of-2.parquet", "data/train-00001-of-2.parquet"]
    assert [file.name for file in found.files] == names
    assert found.files[0].address == f"hf://datasets/{source.hub}@{source.revision}/{names[0]}"
    assert json.dumps(found.record).count(source.revision) == 1
    with pytest.raises(ConfigError, match=r"has no file 'evol_instruct\.jsonl'"):
        sources.find_published(load_recipe("ultrafeedback-best").source, None)


def test_a_hub_that_cannot_be_reached(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    nobody_listens = functools.partial(huggingface_hub.HfApi, endpoint="http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.HfApi", nobody_listens)
    with pytest.raises(MissingPrerequisiteError, match=r"cannot be reached for openai/gsm8k: .*--from"):
        sources.find_published(load_recipe("gsm8k").source, None)


def test_no_commit_is_no_source():
    with pytest.raises(ConfigError, match="no commit is pinned"):
        sources.find_published(load_recipe("luffy-46k").source, None)
    with pytest.raises(ConfigError, match="'main' is no commit"):
        sources.find_published(load_recipe("gsm8k").source, "main")
