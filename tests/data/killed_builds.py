"""A build that is killed again and again, each attempt forked from a process that has imported everything.

    python -m tests.data.killed_builds FILE OUT KILLED_FILE...     # names of files in OUT, in whose growth to kill

Prints, for each kill, the rows that were recorded before and after, and the exit code of the attempt left alone.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

from tests.eval.killed_runs import kill_when_grown, start

LONGEST_DELAY_S = 0.02


def main() -> None:
    import datasets  # noqa: F401 - all of these once, before the forks
    import scipy.sparse  # noqa: F401

    import dft_plugin.cli
    import dft_plugin.data.build
    import dft_plugin.data.listing  # noqa: F401

    source, out, *names = sys.argv[1:]
    command = ["data", "build", "numinamath-cot/random", "--rows", "9000", "--format", "llamafactory"]
    command += ["--from", source, "--out", out]
    log, rng = Path(out).with_suffix(".log"), random.Random(0)
    kills = [kill_when_grown(start(command, log), Path(out) / name, rng.uniform(0, LONGEST_DELAY_S)) for name in names]
    _, status = os.waitpid(start(command, log), 0)
    sys.stdout.write("\n" + json.dumps({"kills": kills, "exit_code": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    main()
