"""Jobs that are a few lines of Python, for tests of everything around a job's command."""

import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from dft_plugin.study.job import Job
from dft_plugin.study.processes import end_leftovers
from dft_plugin.study.scheduler import Here, run_jobs


@dataclass(frozen=True, kw_only=True)
class Script(Job):
    code: str
    option: int = 0

    def settings(self):
        return {"code": self.code, "option": self.option}

    def command(self):
        return [sys.executable, "-c", self.code]


class Silent:
    def started(self, job):
        pass

    def advanced(self, job):
        pass

    def ended(self, job, done, failure):
        pass


def run(jobs, num_jobs=2, place=None):
    return run_jobs(jobs, place=place or Here(), num_jobs=num_jobs, progress=Silent())


def append(folder, text):
    """Code that adds a line to FOLDER/written."""
    return f"open({str(folder / 'written')!r}, 'a').write({text + chr(10)!r})"


def written(folder):
    path = Path(folder) / "written"
    return path.read_text().split() if path.exists() else []


def main():
    """Run two jobs in turn, the first of which waits for a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
    folder = Path(sys.argv[1])
    end_leftovers(folder)
    wait = (
        "import pathlib, subprocess, sys, time\n"
        f"path = pathlib.Path({str(folder)!r})\n"
        "if not (path / 'go').exists():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "    (path / 'waiting').write_text(str(child.pid))\n"
        "    time.sleep(600)\n" + append(folder, "first")
    )
    jobs = [
        Script("train/first", folder, code=wait),
        Script("train/second", folder, after=("train/first",), code=append(folder, "second")),
    ]
    outcome = run(jobs)
    sys.stdout.write(json.dumps({"done": sorted(outcome.done), "failures": outcome.failures}))


if __name__ == "__main__":
    main()
