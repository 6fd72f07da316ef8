"""Source in languages with braces, read just far enough: what is code, where a block ends, what a block is called."""

from __future__ import annotations

import re

_TEXTS = r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
_C_LIKE = re.compile(rf"//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)|{_TEXTS}")
_HIDDEN = {
    "js": re.compile(rf"//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)|{_TEXTS}|`(?:\\.|[^`\\])*`"),
    "php": re.compile(rf"//[^\n]*|#(?!\[)[^\n]*|/\*[\s\S]*?(?:\*/|\Z)|{_TEXTS}"),
    "sh": re.compile(r"(?:(?<=\s)|^)#[^\n]*|\$\{[^{}]*\}|\"(?:\\.|[^\"\\])*\"|'[^']*'|\\.", re.MULTILINE),
}
_HIDDEN["ts"] = _HIDDEN["js"]


def masked(language: str, code: str) -> str:
    """The code with comments and quoted texts as blanks, every other character where it was."""
    pattern = _HIDDEN.get(language, _C_LIKE)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), code)


def depth(language: str, code: str) -> int:
    """Blocks that are open at the end of the code."""
    mask = masked(language, code)
    return mask.count("{") - mask.count("}")


def block_end(mask: str, opening: int) -> int:
    """The position behind the brace that closes the first one at or after `opening`; -1 where none does."""
    level = 0
    for position in range(max(mask.find("{", opening), 0), len(mask)):
        level += {"{": 1, "}": -1}.get(mask[position], 0)
        if level == 0:
            return position + 1
    return -1


def without_block_at(language: str, code: str, heading: str) -> str:
    """The code without the block whose head the pattern `heading` finds, from the line it begins on."""
    mask = masked(language, code)
    found = re.search(heading, mask)
    if found is None or (end := block_end(mask, found.start())) < 0:
        return code
    start = mask.rfind("\n", 0, found.start()) + 1
    return code[:start] + code[end:]
