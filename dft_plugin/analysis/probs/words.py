"""Kinds of words, to check a claim: that tokens of the lowest bin are mostly connectives and punctuation (Figure 2)."""

from __future__ import annotations

KINDS = ("punctuation", "function word", "number", "other")
# Words that join or point rather than name: articles, prepositions, conjunctions, pronouns, auxiliaries, "let".
_FUNCTION_WORDS = """a an the this that these those each every some any no all both
of in on at by for from to with without into over under between through during before after per as than
and or but nor so yet if then else because since while when where which who whom whose what how
i you he she it we they me him her us them my your his its our their
is are was were be been being am do does did done has have had having will would can could shall should may might
must let not there here thus hence therefore also just only"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def kind_of(text: str) -> str:
    """Kind of a token by its own text: a piece of a longer word counts as the word it looks like.

    Args:
        text: As the tokenizer decodes it.
    """
    word = text.strip().lower()
    if not any(character.isalnum() for character in word):
        return "punctuation"
    if word in FUNCTION_WORDS:
        return "function word"
    return "number" if word.isdigit() else "other"
