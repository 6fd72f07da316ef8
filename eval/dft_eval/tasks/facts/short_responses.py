"""The short answer a chat response gives: a box, a tag, a closing sentence, or all of it."""

from __future__ import annotations

import re

from dft_eval.tasks.math.golds import boxes
from dft_eval.tasks.math.responses import answer_part, clean_markdown, is_placeholder, tagged_answers

_WRAPPED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit)\s*\{([^{}]*)\}")
_SAID = re.compile(
    r"^(?:.*[.!?,;:]\s+)?(?:(?:so|thus|hence|therefore),?\s+)?(?:the\s+)?(?:(?:final|correct|short)\s+)?answer\s*(?:is|:)\s*:?\s*(\S.*)$",
    re.I,
)
_ENDS = " \t\n\"'`.!\u201c\u201d\u2018\u2019\u3002"


def read_short_answer(response: str) -> str:
    """Return the text that is compared.

    Drafts in `<think>` do not count. The last box, else the last answer tag, else what follows `the answer is` in the
    last line, else the response as it stands; without Markdown and quotes around it.
    """
    response = answer_part(response)
    found = [box for box in boxes(response) if not is_placeholder(box)]
    tags = [tag for tag in tagged_answers(response) if not is_placeholder(tag)]
    text = _WRAPPED.sub(r"\1", found[-1]) if found else tags[-1] if tags else response
    text = clean_markdown(text).strip()
    said = _SAID.match(text.splitlines()[-1].strip()) if text else None
    return (said[1] if said else text).strip(_ENDS).replace("\u2019", "'")
