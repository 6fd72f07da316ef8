"""What isolating a program costs: CPU milliseconds and wall milliseconds of /usr/bin/true, beyond running it bare."""

import argparse
import json
import resource
import subprocess
import time

from dft_eval.sandbox.choose import BackendName, open_sandbox
from dft_eval.sandbox.program import Command

TRUE = "/usr/bin/true"


def used_cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(run, num_programs: int) -> dict[str, float]:
    for _ in range(3):
        run()
    before, started = used_cpu_s(), time.perf_counter()
    for _ in range(num_programs):
        run()
    return {
        "cpu_ms": (used_cpu_s() - before) / num_programs * 1e3,
        "wall_ms": (time.perf_counter() - started) / num_programs * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--backend", nargs="+", default=["bubblewrap"], choices=["bubblewrap", "landlock"])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    bare = measure(lambda: subprocess.run((TRUE,), check=True), arguments.programs)
    result: dict[str, object] = {"num_programs": arguments.programs, "bare": bare}
    backend: BackendName
    for backend in arguments.backend:
        sandbox = open_sandbox(backend)
        found = measure(lambda sandbox=sandbox: sandbox.run(Command((TRUE,))), arguments.programs)
        found["overhead_cpu_ms"] = found["cpu_ms"] - bare["cpu_ms"]
        result[backend] = found
    if arguments.json:
        print(json.dumps(result))
        return
    for name, values in result.items():
        if isinstance(values, dict):
            print(name, ", ".join(f"{key} {value:.1f}" for key, value in values.items()))


if __name__ == "__main__":
    main()
