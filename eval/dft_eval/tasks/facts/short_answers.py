"""Comparing short answers: ORQA's normalisation and exact match (Lee et al., arXiv 1906.00300), `contains`, F1.

Exact match and F1 say how often a model answers with the accepted words; `contains` is kinder to sentences. They
differ by many points on the same answers, so a number without its name means nothing.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

RULES_VERSION = "orqa: NFD, lower case, no punctuation, no articles, one space"

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """An answer without what does not count: NFD, lower case, no ASCII punctuation, no articles, one space.

    The order matters: `THE` is an article only in lower case. NFD goes before and after lower-casing, which may
    compose letters anew, so that the result is a fixed point whatever case a model writes.
    """
    lowered = unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).lower())
    return " ".join(_ARTICLES.sub(" ", lowered.translate(_PUNCTUATION)).split())


def is_exact_match(text: str, golds: Sequence[str]) -> bool:
    """Return True for one of the accepted answers, both normalised; an empty answer is never a match.

    Four golds are nothing after normalisation (`A+`, `*`): they are compared with their punctuation, so that they
    can be reached, and not by an empty answer.
    """
    return any(_compared(text, gold)[0] == _compared(text, gold)[1] != "" for gold in golds)


def contains_answer(text: str, golds: Sequence[str]) -> bool:
    """Return True where an accepted answer stands in the text as whole words."""
    return any(gold != "" and f" {gold} " in f" {found} " for found, gold in (_compared(text, gold) for gold in golds))


def best_f1(text: str, golds: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words, for the accepted answer that fits best."""
    return max((_f1(*_compared(text, gold)) for gold in golds), default=0.0)


def _compared(text: str, gold: str) -> tuple[str, str]:
    """Text and gold under the rules this gold needs."""
    normal = normalise(gold)
    return (normalise(text), normal) if normal else (_keep_punctuation(text), _keep_punctuation(gold))


def _keep_punctuation(text: str) -> str:
    lowered = unicodedata.normalize("NFD", text).lower()
    return " ".join(word for word in lowered.split() if word not in ("a", "an", "the"))


def _f1(text: str, gold: str) -> float:
    found, wanted = Counter(text.split()), Counter(gold.split())
    shared = (found & wanted).total()
    return 0.0 if not shared else 2 * shared / (found.total() + wanted.total())
