"""Small files with the schemas of the published datasets, one for each recipe."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

MODELS = ["gpt-4", "llama-2-7b-chat", "alpaca-7b", "falcon-40b-instruct"]
ASPECTS = ["instruction_following", "honesty", "truthfulness", "helpfulness"]


def numinamath_rows(count: int) -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        problem, solution = f"What is {i} + 1?", f"We add one to {i}: $\\boxed{{{i + 1}}}$."
        turns = [{"content": problem, "role": "user"}, {"content": solution, "role": "assistant"}]
        rows.append({"source": "synthetic_math", "problem": problem, "solution": solution, "messages": turns})
    return rows


def openr1_rows(count: int) -> list[dict[str, Any]]:
    """Every third row has no verified generation; in the others it is the second."""
    return [
        {
            "problem": f"Find {i} squared.",
            "solution": f"{i}^2 = {i * i}",
            "answer": str(i * i),
            "problem_type": "Algebra",
            "question_type": "math-word-problem",
            "source": "olympiads",
            "uuid": f"uuid-{i}",
            "is_reasoning_complete": [True, True],
            "generations": [f"<think>\nwrong {i}\n</think>", f"<think>\nright {i}\n</think>\n\\boxed{{{i * i}}}"],
            "correctness_math_verify": [False, i % 3 != 0],
            "correctness_llama": None,
            "finish_reasons": None,
            "correctness_count": 1,
            "messages": [{"content": f"Find {i} squared.", "role": "user"}],
        }
        for i in range(count)
    ]


def luffy_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "data_source": "olympiads",
            "prompt": [
                {"content": "Think first, then answer.", "role": "system"},
                {"content": f"Halve {2 * i}.", "role": "user"},
            ],
            "target": [{"content": f"<think>\n{2 * i} / 2 = {i}\n</think>\n\\boxed{{{i}}}", "role": "assistant"}],
            "ability": "math",
            "reward_model": {"ground_truth": str(i), "style": "rule"},
            "extra_info": {"index": i, "split": "default"},
        }
        for i in range(count)
    ]


def ultrafeedback_rows(count: int) -> list[dict[str, Any]]:
    """Response `i % 4` is the best rated; one rating of each row is "N/A"."""
    return [_ultrafeedback_row(i) for i in range(count)]


def _ultrafeedback_row(i: int) -> dict[str, Any]:
    completions = []
    for index, model in enumerate(MODELS):
        rating = "5" if index == i % 4 else str(1 + index % 3)
        annotations = {aspect: {"Rating": rating, "Rationale": "because"} for aspect in ASPECTS}
        annotations["honesty"] = {"Rating": "N/A", "Rationale": "creative"}
        completions.append(
            {
                "model": model,
                "principle": "helpfulness",
                "custom_system_prompt": "You are helpful.",
                "response": f"answer {index} to {i}",
                "annotations": annotations,
                "critique": "fine",
                "overall_score": 10.0,  # 1 written as 10 in part of the published data
                "fine-grained_score": 3.5,
            }
        )
    return {
        "source": "evol_instruct",
        "instruction": f"Write function number {i}.",
        "models": MODELS,
        "completions": completions,
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }


def wethink_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "problem": f"What is on picture {i}?",
            "answer": f"noise {i}",
            "category": "general",
            "abilities": "perception",
            "refined_cot": f"<think>I see noise {i}.</think><answer>noise {i}</answer>",
            "image_path": f"coco/{i}.png",
            "reward": "model",
        }
        for i in range(count)
    ]


def nq_rows(count: int) -> list[dict[str, Any]]:
    return [{"question": f"who wrote book {i}", "answer": [f"Author {i}", f"A. {i}"]} for i in range(count)]


def gsm8k_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Ann has {i} apples and buys one. How many?",
            "answer": f"{i}+1=<<{i}+1={i + 1}>>{i + 1}\n#### {i + 1}",
        }
        for i in range(count)
    ]


ROWS = {
    "numinamath-cot": numinamath_rows,
    "openr1-math-220k": openr1_rows,
    "luffy-46k": luffy_rows,
    "ultrafeedback-best": ultrafeedback_rows,
    "wethink": wethink_rows,
    "nq-train": nq_rows,
    "gsm8k": gsm8k_rows,
}
IN_PARQUET = {"numinamath-cot", "openr1-math-220k", "luffy-46k", "gsm8k"}


def write_upstream(folder: Path, recipe: str, count: int) -> Path:
    """The file of a recipe, in the format it is published in."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ROWS[recipe](count)
    if recipe == "wethink":
        write_images(folder / "images", [row["image_path"] for row in rows])
    if recipe in IN_PARQUET:
        return write_parquet(folder / f"{recipe}.parquet", rows)
    return write_jsonl(folder / f"{recipe}.jsonl", rows)


def write_parquet(path: Path, rows: list[dict[str, Any]], *, row_group_size: int = 700) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=row_group_size)
    return path


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_images(folder: Path, names: list[str]) -> None:
    from PIL import Image

    rng = random.Random(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", (56, 84), rng.randbytes(3 * 56 * 84)).save(path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
