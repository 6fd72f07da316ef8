"""One row of training data in any of the usual formats, as turns or as plain text."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

FORMATS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_response": ("prompt", "response"),
    "query_response": ("query", "response"),
    "text": ("text",),
}
"""Formats by the fields that make a row one of them."""

IMAGE_MARK = "<image>"
CONVERSATIONS = frozenset({"messages", "sharegpt"})
"""Formats whose rows are conversations already."""

_ROLES = {
    "messages": {"system": "system", "user": "user", "assistant": "assistant"},
    "sharegpt": {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"},
}
_TURN_FIELDS = {"messages": ("role", "content"), "sharegpt": ("from", "value")}
_NOT_UNDERSTOOD = ("tools", "videos", "audios", "objects", "chosen", "rejected", "rejected_response", "kto_tag")

Role = Literal["system", "user", "assistant"]


class RowError(ValueError):
    """A row that cannot be read; the caller adds file and row."""


class Turn(NamedTuple):
    """Text of one side of a conversation.

    Attributes:
        role: Who.
        content: What; `<image>` stands for the next image.
    """

    role: Role
    content: str


@dataclass(frozen=True)
class Row:
    """One training example.

    Attributes:
        dataset: Name of its dataset.
        content_id: Made from the row's content.
        turns: The conversation; empty for plain text.
        text: Plain text to pre-train on; empty for a conversation.
        images: Files.
        where: Points to it in its file, for messages.
        repeat: How many equal rows came before it.
    """

    dataset: str
    content_id: str
    turns: tuple[Turn, ...]
    text: str
    images: tuple[Path, ...]
    where: str = ""
    repeat: int = 0

    def at(self, where: str, *, repeat: int) -> Row:
        """The row with its place in the file."""
        return dataclasses.replace(self, where=where, repeat=repeat)

    @property
    def key(self) -> tuple[str, str, int]:
        """Key by which a record of it is found."""
        return self.dataset, self.content_id, self.repeat


def read_row(record: Any, dataset: str, folder: Path) -> tuple[str, Row]:
    """The format of a record and the record as a row.

    Args:
        record: Parsed JSON.
        dataset: Name of the dataset.
        folder: What relative image paths start from.

    Raises:
        RowError: no known format, or more than one, or a value that is not as the format wants it.
    """
    if not isinstance(record, dict):
        raise RowError(f"a {type(record).__name__}; an object is accepted.")
    matches = [name for name, fields in FORMATS.items() if all(record.get(field) is not None for field in fields)]
    if len(matches) != 1:
        found = f"fits {' and '.join(matches)}" if matches else "fits no known format"
        known = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in FORMATS.items())
        raise RowError(f"the row with fields {sorted(record)} {found}; a row has the fields of exactly one of {known}.")
    for field in _NOT_UNDERSTOOD:
        if record.get(field):
            raise RowError(f"field {field!r} changes what is trained and is not understood here; remove it.")
    name = matches[0]
    turns, text = _content(name, record)
    if not text and (not any(turn.role == "assistant" for turn in turns) or turns[-1].role != "assistant"):
        raise RowError("the last turn is not the assistant's, so part of the row is not trained; end it with one.")
    images = _images(record, folder)
    num_marks = text.count(IMAGE_MARK) + sum(turn.content.count(IMAGE_MARK) for turn in turns)
    if images and (text or num_marks != len(images)):
        raise RowError(
            f"{len(images)} images and {num_marks} {IMAGE_MARK} marks in the conversation; put one mark where each "
            "image belongs."
        )
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    return name, Row(dataset, digest, turns, text, images)


def _content(name: str, record: Mapping[str, Any]) -> tuple[tuple[Turn, ...], str]:
    if name == "text":
        return (), _text(record, "text", must_hold=True)
    if name in CONVERSATIONS:
        return _conversation(name, record), ""
    prompt_field, response_field = FORMATS[name]
    prompt, extra = _text(record, prompt_field), _text(record, "input") if name == "alpaca" else ""
    prompt = "\n".join(part for part in (prompt, extra) if part)  # as LLaMA-Factory and ms-swift join them
    if not prompt:
        raise RowError(f"{prompt_field!r} is empty.")
    turns = [Turn("system", _text(record, "system"))] if record.get("system") else []
    for pair in record.get("history") or []:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise RowError(f"history holds {pair!r}; pairs [prompt, response] are accepted.")
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1])]
    turns += [Turn("user", prompt), Turn("assistant", _text(record, response_field, must_hold=True))]
    return tuple(turns), ""


def _conversation(name: str, record: Mapping[str, Any]) -> tuple[Turn, ...]:
    role_field, content_field = _TURN_FIELDS[name]
    messages = record[FORMATS[name][0]]
    if not isinstance(messages, list) or not messages:
        raise RowError(f"{FORMATS[name][0]!r} is {messages!r}; a list of turns is accepted.")
    turns = [Turn("system", _text(record, "system"))] if record.get("system") else []
    for message in messages:
        unknown = set(message) - {role_field, content_field} if isinstance(message, dict) else {"not an object"}
        if unknown:
            raise RowError(f"a turn has {sorted(unknown)}; {role_field!r} and {content_field!r} are accepted.")
        role = message.get(role_field)
        if role not in _ROLES[name]:
            raise RowError(f"{role_field}={role!r}; accepted: {', '.join(_ROLES[name])}.")
        turns.append(Turn(_ROLES[name][role], _text(message, content_field)))  # type: ignore[arg-type]
    for index, turn in enumerate(turns):
        if turn.role == "system" and index > 0:
            raise RowError("a system turn that is not the first.")
        if turn.role == "assistant" and (index == 0 or turns[index - 1].role != "user"):
            raise RowError("an assistant turn that does not follow a user turn.")
    return tuple(turns)


def _text(record: Mapping[str, Any], field: str, *, must_hold: bool = False) -> str:
    value = record.get(field)
    value = "" if value is None and not must_hold else value
    if not isinstance(value, str) or (must_hold and not value):
        raise RowError(f"{field!r} is {value!r:.80}; {'non-empty ' if must_hold else ''}text is accepted.")
    return value


def _images(record: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    value = record.get("images") or []
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RowError(f"images={value!r:.80}; a path or a list of paths is accepted.")
    if record.get("image"):
        raise RowError("field 'image'; images are read from 'images'.")
    return tuple(folder / name for name in names)
