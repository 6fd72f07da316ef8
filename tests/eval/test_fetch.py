"""Benchmark data: looked up, verified, fetched from a real server."""

import hashlib
import http.server
import threading

import pytest

from dft_eval.errors import MissingPrerequisite
from dft_eval.run.fetch import WrongDataError, cache_dir, fetch_data, locate_data
from dft_eval.run.selection import open_task
from dft_eval.tasks.base import DataFile
from tests.eval.arithmetic import CATALOG, Arithmetic, write_data

CONTENT = b"the benchmark\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("DFT_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_dir().is_relative_to(tmp_path)
    return cache_dir()


@pytest.fixture
def server():
    """Serves `/good`, `/busy` (503 once, then good), `/cut` (ends early once) and 404 for the rest."""

    found_paths = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found_paths.append(self.path)
            is_first = found_paths.count(self.path) == 1
            status = (
                404
                if self.path not in ("/good", "/busy", "/cut")
                else 503
                if self.path == "/busy" and is_first
                else 200
            )
            body = CONTENT if status == 200 else b"no"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:100] if self.path == "/cut" and is_first else body)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        found.seen = found_paths
        yield found
        found.shutdown()


def files(server, path="good", sha256=SHA256):
    return [DataFile("bench/data.txt", f"http://127.0.0.1:{server.server_port}/{path}", sha256)]


def test_fetched_files_are_found(cache, server):
    wanted = files(server)
    with pytest.raises(MissingPrerequisite, match=r"(?s)needs bench/data.txt; looked in .*Run: dft eval fetch bench"):
        locate_data("bench", wanted)
    assert fetch_data("bench", wanted) == (cache, ("bench/data.txt",), ())
    assert (cache / "bench/data.txt").read_bytes() == CONTENT
    assert locate_data("bench", wanted) == cache
    assert fetch_data("bench", wanted) == (cache, (), ("bench/data.txt",))
    assert server.seen == ["/good"]


@pytest.mark.parametrize("path", ["busy", "cut"])
def test_what_passes_is_tried_again(cache, server, path):
    fetch_data("bench", files(server, path))
    assert server.seen == [f"/{path}"] * 2 and (cache / "bench/data.txt").read_bytes() == CONTENT


def test_other_bytes_are_not_kept(cache, server):
    with pytest.raises(WrongDataError, match=f"delivered sha256 {SHA256}; {'0' * 64} is accepted"):
        fetch_data("bench", files(server, sha256="0" * 64))
    assert not list((cache / "bench").iterdir())


def test_an_absent_file_is_named_at_once(cache, server):
    with pytest.raises(MissingPrerequisite, match="/nowhere cannot be fetched: Not Found"):
        fetch_data("bench", files(server, "nowhere"))
    assert server.seen == ["/nowhere"]


def test_offline_is_a_missing_prerequisite(cache):
    with pytest.raises(MissingPrerequisite, match="cannot be fetched: .*refused.*dft eval fetch arithmetic"):
        fetch_data("arithmetic", Arithmetic.data_files)


def test_the_named_folder_comes_first_and_is_verified(cache, tmp_path, monkeypatch):
    folder = write_data(tmp_path / "named")
    monkeypatch.setenv("DFT_DATA_DIR", str(folder))
    write_data(cache)
    assert open_task("arithmetic", None, CATALOG).data_dir == folder
    path = folder / Arithmetic.data_files[0].path
    path.write_bytes(path.read_bytes() + b" ")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WrongDataError, match=f"has sha256 {found}; {Arithmetic.data_files[0].sha256} is accepted"):
        open_task("arithmetic", None, CATALOG)
    path.unlink()
    assert open_task("arithmetic", None, CATALOG).data_dir == cache


def test_a_file_that_cannot_be_read_is_named(cache):
    path = cache / Arithmetic.data_files[0].path
    path.mkdir(parents=True)
    with pytest.raises(MissingPrerequisite, match=r"sums\.jsonl cannot be read: Is a directory"):
        open_task("arithmetic", None, CATALOG)
