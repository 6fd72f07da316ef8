"""Time and memory of `dft data build` against a plain read of the same file, row by row, through `datasets`.

    python tests/benchmarks/data_build.py --rows 100000 [--json FILE]

The file has NuminaMath-CoT's schema with texts of its usual length. Each side runs in a process of its own; its imports
are not timed. CPU time is printed beside wall time, which other work on the machine distorts.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

PLAIN = """
for row in datasets.load_dataset("parquet", data_files=source, split="train", streaming=True):
    pass
"""
BUILD = """
from pathlib import Path
from dft_plugin.data.build import BuildSettings, build
from dft_plugin.data.recipe import load_recipe
from dft_plugin.data.selection import with_selection
recipe = with_selection(load_recipe("numinamath-cot"), rows, None)
build(BuildSettings(recipe, "llamafactory", Path(out), (Path(source),)))
"""
MEASURED = """
import json, sys, time
import datasets
source, out, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
wall, cpu = time.perf_counter(), time.process_time()
{body}
with open("/proc/self/status") as status:  # the peak since this program began; getrusage counts its parent's, too
    used = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({{"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "peak_mib": used}}))
"""


def write_source(path: Path, num_rows: int) -> None:
    import pyarrow
    import pyarrow.parquet

    rng = random.Random(0)
    words = ["let", "the", "sum", "of", "$x^2$", "be", "equal", "to", "\\frac{1}{2}", "then", "we", "have", "\n"]
    schema = None
    writer = None
    for start in range(0, num_rows, 10_000):
        rows = []
        for row in range(start, min(start + 10_000, num_rows)):
            problem = f"{row}: " + " ".join(rng.choices(words, k=45))
            solution = " ".join(rng.choices(words, k=rng.randrange(100, 500)))
            turns = [{"content": problem, "role": "user"}, {"content": solution, "role": "assistant"}]
            rows.append({"source": "cn_k12", "problem": problem, "solution": solution, "messages": turns})
        table = pyarrow.Table.from_pylist(rows, schema=schema)
        schema = schema or table.schema
        writer = writer or pyarrow.parquet.ParquetWriter(path, schema)
        writer.write_table(table, row_group_size=1000)
    assert writer is not None
    writer.close()


def measure(body: str, source: Path, out: Path, num_rows: int) -> dict[str, float]:
    command = [sys.executable, "-c", MEASURED.format(body=body), str(source), str(out), str(num_rows)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr[-3000:])
    return {key: round(value, 2) for key, value in json.loads(result.stdout.splitlines()[-1]).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.parquet"
        write_source(source, arguments.rows)
        plain = measure(PLAIN, source, Path(folder) / "none", arguments.rows)
        built = measure(BUILD, source, Path(folder) / "out", arguments.rows)
        size = (Path(folder) / "out" / "numinamath-cot.jsonl").stat().st_size
    result = {
        "rows": arguments.rows,
        "written_mib": round(size / 2**20),
        "plain": plain,
        "build": built,
        "wall_ratio": round(built["wall_s"] / plain["wall_s"], 2),
        "cpu_ratio": round(built["cpu_s"] / plain["cpu_s"], 2),
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
