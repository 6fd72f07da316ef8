"""Small TSVs in the real format of MathVerse, MathVision and WeMath, and tasks that read them."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import random
from pathlib import Path

from dft_eval.tasks.base import DataFile
from dft_eval.tasks.vision.benchmarks import MathVerse, MathVision, VisionTask, WeMath

NO_IMAGE = "-" * 100
VERSIONS = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")


def make_image(seed: int, size: tuple[int, int] = (60, 40)) -> str:
    """A random PNG in base64."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.frombytes("RGB", size, random.Random(seed).randbytes(3 * size[0] * size[1])).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def mathverse_rows(num_problems: int = 1, *, images: bool = True) -> list[dict[str, str]]:
    rows = []
    for problem in range(1, num_problems + 1):
        question = f"As shown in the figure, find side {problem}. ()\nChoices:\nA:2\nB:2√{{3}}\nC:√{{3}}\nD:2√{{2}}"
        is_choice = problem % 2 == 1
        for version in VERSIONS:
            index = len(rows) + 1
            rows.append(
                {
                    "index": str(index),
                    "sample_index": str(index),
                    "problem_index": str(problem),
                    "problem_version": version,
                    "question": question if version != "Vision Only" else "According to the question, choose.",
                    "image": make_image(index) if images else NO_IMAGE,
                    "answer": "B" if is_choice else "1.0",
                    "question_type": "multi-choice" if is_choice else "free-form",
                    "metadata": "{'split': 'testmini', 'source': 'x', 'subject': 'Plane Geometry', 'subfield': 'Area'}",
                    "query_cot": f"Think step by step. {question}",
                    "question_for_eval": question if is_choice else question.partition("\n")[0],
                }
            )
    return rows


def mathvision_rows() -> list[dict[str, str]]:
    kinds = [
        ("Which is it?\nChoices: (A) 1 (B) 2 (C) 3", "B", "['1', '2', '3']", "counting"),
        ("How many?", "7", "[]", "counting"),
        ("What part?", "\\frac{1}{2}", "[]", "arithmetic"),
    ]
    return [
        {"index": str(i), "question": q, "image": make_image(100 + i), "answer": a, "choices": c, "category": k}
        for i, (q, a, c, k) in enumerate(kinds, start=1)
    ]


def wemath_rows(num_two: int = 1, num_three: int = 1, *, images: bool = True) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for steps, count in ((2, num_two), (3, num_three)):
        for number in range(1, count + 1):
            for part in (*range(1, steps + 1), "multi"):
                index = len(rows) + 1
                rows.append(
                    {
                        "index": str(index),
                        "ID": f"{steps}{number:03d}",
                        "key": f"{steps}steps_{part}",
                        "question": f"Which is the area of figure {number}?",
                        "image": make_image(200 + index) if images else NO_IMAGE,
                        "knowledge concept": "Area of Squares",
                        "answer": "ABCD"[index % 4],
                        **{letter: f"{10 * index + place} cm" for place, letter in enumerate("ABCD")},
                        **dict.fromkeys("EFG", ""),
                        "requirement": "Answer with the letter.",
                    }
                )
    return rows


def encode_tsv(rows: list[dict[str, str]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def pin(kind: type[VisionTask], rows: list[dict[str, str]]) -> tuple[DataFile, ...]:
    """The benchmark's file with the digest of `rows` in place of the real one's."""
    return (DataFile(kind.data_files[0].path, "http://127.0.0.1:9/", md5=hashlib.md5(encode_tsv(rows)).hexdigest()),)


class SmallMathVerse(MathVerse):
    small_rows = mathverse_rows()
    data_files = pin(MathVerse, small_rows)


class SmallMathVision(MathVision):
    small_rows = mathvision_rows()
    data_files = pin(MathVision, small_rows)


class SmallWeMath(WeMath):
    small_rows = wemath_rows()
    data_files = pin(WeMath, small_rows)


CATALOG = {kind.name: kind for kind in (SmallMathVerse, SmallMathVision, SmallWeMath)}


def write_rows(folder: Path, kind: type[VisionTask], rows: list[dict[str, str]]) -> None:
    """Rows where a data folder has the benchmark's file."""
    path = folder / kind.data_files[0].path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_tsv(rows))


def write_data(folder: Path) -> None:
    """Every small file."""
    for kind in CATALOG.values():
        write_rows(folder, kind, kind.small_rows)
