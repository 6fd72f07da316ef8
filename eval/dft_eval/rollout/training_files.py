"""Training data of a selection, as LLaMA-Factory and ms-swift read it.

`rft` holds the right answers: rejection sampling fine-tuning trains them with `sft`, offline DFT with `dft`. `dpo`
holds pairs, `kto` single answers with a verdict, `grpo` prompts with their references for online training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dft_eval.records.files import make_folder, write_whole
from dft_eval.rollout.selection import Chosen

Row = Mapping[str, Any]

_TAGS = {
    **{"role_tag": "role", "content_tag": "content", "user_tag": "user"},
    **{"assistant_tag": "assistant", "system_tag": "system"},
}
_COLUMNS: dict[str, dict[str, str]] = {
    "rft": {},
    "dpo": {"chosen": "chosen", "rejected": "rejected"},
    "kto": {"kto_tag": "label"},
}


def write_training_files(out: Path, chosen: Iterable[Chosen]) -> dict[str, dict[str, Any]]:
    """Write `llamafactory/` and `ms_swift/` below a folder; each file is there whole or not at all.

    Args:
        out: The folder.
        chosen: What to write.

    Returns:
        Rows and sha256 by file name.

    Raises:
        StoreError: a file cannot be written.
    """
    chosen = list(chosen)
    files = {f"llamafactory/{name}.jsonl": list(rows) for name, rows in _llamafactory(chosen).items()}
    files |= {f"ms_swift/{name}.jsonl": list(rows) for name, rows in _ms_swift(chosen).items()}
    written = {name: _write(out / name, rows) for name, rows in files.items()}
    filled = [name for name in _COLUMNS if written[f"llamafactory/{name}.jsonl"]["rows"]]
    info = json.dumps(_dataset_info(filled), indent=2) + "\n"
    write_whole(out / "llamafactory" / "dataset_info.json", info)
    return written


def conversations_entry(file_name: str, columns: Mapping[str, str], *, is_ranking: bool = False) -> dict[str, Any]:
    """Return the entry of a file of chat messages in LLaMA-Factory's `dataset_info.json`.

    Args:
        file_name: Beside that file; its rows hold `messages`.
        columns: Further columns by what LLaMA-Factory calls them.
        is_ranking: Whether a row has a better and a worse answer.
    """
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        **({"ranking": True} if is_ranking else {}),
        "columns": {"messages": "messages", **columns},
        "tags": _TAGS,
    }


def _dataset_info(names: Iterable[str]) -> dict[str, Any]:
    """The files with rows: LLaMA-Factory says of an unknown dataset what it does not say of an empty one."""
    return {name: conversations_entry(f"{name}.jsonl", _COLUMNS[name], is_ranking=name == "dpo") for name in names}


def _llamafactory(chosen: list[Chosen]) -> dict[str, Iterator[Row]]:
    return {
        "rft": _conversations(chosen),
        "dpo": (
            {"messages": list(one.prompt.messages), "chosen": _said(right), "rejected": _said(wrong)}
            for one in chosen
            for right, wrong in one.pairs
        ),
        "kto": _labelled(chosen),
    }


def _ms_swift(chosen: list[Chosen]) -> dict[str, Iterator[Row]]:
    return {
        "rft": _conversations(chosen),
        "dpo": (
            {"messages": [*one.prompt.messages, _said(right)], "rejected_response": wrong}
            for one in chosen
            for right, wrong in one.pairs
        ),
        "kto": _labelled(chosen),
        "grpo": ({"messages": list(one.prompt.messages), "solution": list(one.prompt.golds)} for one in chosen),
    }


def _conversations(chosen: list[Chosen]) -> Iterator[Row]:
    return ({"messages": [*one.prompt.messages, _said(text)]} for one in chosen for text in one.right)


def _labelled(chosen: list[Chosen]) -> Iterator[Row]:
    for one in chosen:
        for is_right, texts in ((True, one.right), (False, one.wrong)):
            for text in texts:
                yield {"messages": [*one.prompt.messages, _said(text)], "label": is_right}


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _write(path: Path, rows: list[Row]) -> dict[str, Any]:
    make_folder(path.parent)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(path, text)
    return {"rows": len(rows), "sha256": hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()}
