"""The data column `ref_logps`: a frozen model's log-probability of every trained token of a row.

Each row says which tokens it belongs to, so that rows may be shuffled, mixed and left out, and a row whose tokens,
mask or images are others in the run is refused. Strings alone, so that every reader of JSON and Arrow keeps them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dft_plugin.core.label_tags import MAX_REF_NLL
from dft_plugin.errors import InputError

REF_COLUMN = "ref_logps"
_DIGITS = 16


class EncodedSample(NamedTuple):
    """One row as a framework tokenized it.

    Attributes:
        input_ids: Token ids, the placeholders of images included.
        labels: The same, or -100 where nothing is trained.
        media: Its images, videos and sounds, as the framework hands them on.
    """

    input_ids: Sequence[int]
    labels: Sequence[int]
    media: Sequence[Any] = ()

    @property
    def num_trained(self) -> int:
        """Number of trained tokens."""
        return sum(label != -100 for label in self.labels)

    def fingerprint(self) -> str:
        """Hash of the tokens, of which of them are trained, and of the content of the media; 16 hexadecimal digits."""
        digest = hashlib.sha256(array("q", self.input_ids).tobytes() + b"|" + array("q", self.labels).tobytes())
        for item in self.media:
            digest.update(_media_digest(item))
        return digest.hexdigest()[:_DIGITS]


@dataclass(frozen=True)
class Reference:
    """One row's column.

    Attributes:
        model: Fingerprint of the reference's files.
        tokenizer: Fingerprint of the vocabulary that made the tokens.
        made_with: What decided the tokens, as words for a person.
        tokens: `EncodedSample.fingerprint` of the row.
        logps: log p of each trained token in order, in nats, float32 little-endian in base64.
        skipped: Why the framework itself drops the row; then there are no tokens and no log-probabilities.
    """

    model: str
    tokenizer: str
    made_with: str
    tokens: str = ""
    logps: str = ""
    skipped: str = ""

    @classmethod
    def read(cls, value: Any) -> Reference:
        """A column's value: the mapping, or its JSON text.

        Raises:
            InputError: it is none.
        """
        try:
            found = json.loads(value) if isinstance(value, str) else value
        except json.JSONDecodeError:
            found = None
        names = [field.name for field in fields(cls)]
        if not isinstance(found, Mapping) or not all(isinstance(found.get(name), str) for name in names):
            raise InputError(
                f"column {REF_COLUMN!r} of a sample holds {value!r:.80}; the objective needs the column that "
                "`dft reference` makes, with the log-probabilities of its trained tokens under the reference."
            )
        return cls(**{name: found[name] for name in names})

    def column(self) -> dict[str, str]:
        """The value to write."""
        return asdict(self)

    def logps_of(self, sample: EncodedSample, now: str) -> list[float]:
        """The log-probabilities of the trained tokens of `sample`, in order.

        Args:
            sample: The row as the run tokenized it.
            now: What decided its tokens, as `made_with`.

        Raises:
            InputError: they belong to other tokens.
        """
        if self.skipped:
            raise InputError(
                f"column {REF_COLUMN!r} of a sample has no log-probabilities: the row was dropped when the reference "
                f"was made ({self.skipped}). {self._difference(now)}"
            )
        if self.tokens != sample.fingerprint():
            raise InputError(
                f"column {REF_COLUMN!r} belongs to other tokens than this sample has here: {self._difference(now)}"
            )
        return unpack_logps(self.logps)

    def _difference(self, now: str) -> str:
        if self.made_with != now:
            return (
                f"it was made with [{self.made_with}], the run has [{now}]. Make the reference with the run's settings."
            )
        return (
            f"the settings are the same [{now}], so the row itself was changed after the reference was made: its text, "
            "its images, or the column of another row. Make the reference again."
        )


def settings_in_words(framework: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Settings that decide the tokens of a row, for `made_with`: those without a default, and the changed ones.

    Args:
        framework: Its name.
        values: All of them by name, in the order to show them.
        defaults: Those that go without saying where they have this value.
    """
    shown = {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}
    return ", ".join([framework, *(f"{name}={value}" for name, value in shown.items())])


def make_reference(
    sample: EncodedSample, logps: Sequence[float], *, model: str, tokenizer: str, made_with: str
) -> Reference:
    """The column of one row.

    Args:
        sample: The row.
        logps: log p of each of its trained tokens, in order, in nats.
        model: As in `Reference`, like the other two.
        tokenizer: See above.
        made_with: See above.

    Raises:
        InputError: another number of values than trained tokens, or a value that labels cannot carry.
    """
    if len(logps) != sample.num_trained:
        raise InputError(f"{len(logps)} reference log-probabilities for {sample.num_trained} trained tokens.")
    bad = [logp for logp in logps if not logp >= -MAX_REF_NLL]
    if bad:
        raise InputError(
            f"a trained token has the log-probability {bad[0]:g} under the reference; down to -{MAX_REF_NLL:g} can "
            "be carried to the loss. Such a model cannot serve as a reference for this row; remove the row."
        )
    return Reference(model, tokenizer, made_with, sample.fingerprint(), pack_logps(logps))


def pack_logps(logps: Sequence[float]) -> str:
    """Numbers as float32, little-endian, in base64."""
    return base64.b64encode(torch.tensor(logps, dtype=torch.float32).numpy().astype("<f4").tobytes()).decode()


def unpack_logps(text: str) -> list[float]:
    """The numbers that `pack_logps` packed."""
    content = bytearray(base64.b64decode(text))
    return torch.frombuffer(content, dtype=torch.float32).tolist() if content else []


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return a hash of the vocabulary that tells one tokenizer's ids from another's, 16 hexadecimal digits."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()), separators=(",", ":"))
    return hashlib.sha256(vocabulary.encode()).hexdigest()[:_DIGITS]


def _media_digest(item: Any) -> bytes:
    """Hash of an image, video or sound: of the bytes of its file, wherever that lies; of an address as written."""
    if isinstance(item, Mapping) and {"bytes", "path"} & item.keys():
        return _media_digest(item.get("bytes") or item.get("path"))
    if isinstance(item, (list, tuple)):
        return hashlib.sha256(b"".join(_media_digest(part) for part in item)).digest()
    if isinstance(item, bytes):
        return hashlib.sha256(item).digest()
    if isinstance(item, (str, Path)):
        text = str(item)
        path = Path(text.removeprefix("file://"))
        is_path = len(text) < 4096 and path.is_file()
        return hashlib.sha256(path.read_bytes() if is_path else text.encode()).digest()
    if hasattr(item, "tobytes") and hasattr(item, "mode"):  # a PIL image
        return hashlib.sha256(f"{item.mode}{item.size}".encode() + item.tobytes()).digest()
    raise InputError(
        f"a reference with a medium of type {type(item).__name__}, which cannot be told from another one; paths, bytes "
        "and images are accepted."
    )
