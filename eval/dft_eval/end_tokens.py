"""End tokens of every model family: what a model writes after one is no part of its answer.

A backend removes those its tokenizer knows; a server, a template that fits another family, or a file somebody else
made may leave them in the text. Every task reads answers through `answer_text`.
"""

from __future__ import annotations

import re

from dft_eval.records.schema import Answer

END_TOKENS = (
    "<|endoftext|>",  # GPT-2, Qwen, StarCoder, Phi
    "<|im_end|>",  # ChatML: Qwen, Yi, SmolLM, InternLM
    "</s>",  # Llama 1 and 2, Mistral
    "<|eot_id|>",  # Llama 3
    "<|eom_id|>",
    "<|end_of_text|>",  # Llama 3, Granite
    "<|eot|>",  # Llama 4
    "<|eom|>",
    "<end_of_turn>",  # Gemma
    "<eos>",
    "<|end|>",  # Phi-3, gpt-oss
    "<|return|>",
    "<|endofmask|>",  # CodeGen, as EvalPlus stops at it
    "<|EOT|>",  # DeepSeek-Coder
    "<\uff5cend\u2581of\u2581sentence\uff5c>",  # DeepSeek
    "<|end_of_sentence|>",
    "<|end_of_turn|>",  # OpenChat, Starling
    "<|END_OF_TURN_TOKEN|>",  # Command R
    "[|endofturn|]",  # EXAONE
    "<|endofturn|>",
    "<|endofpiece|>",
    "<|eod_id|>",
    "<|eos|>",
    "[EOS]",
    "<|file_sep|>",  # Qwen-Coder: the next file begins
    "<|im_start|>",  # the next turn begins
    "<|start_header_id|>",
    "<start_of_turn>",
    "<|start_of_role|>",
)
"""The first of these ends an answer."""

_END = re.compile("|".join(re.escape(token) for token in END_TOKENS))
_OPENING = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\uff5cbegin\u2581of\u2581sentence\uff5c>"
    r"|<\|im_start\|>assistant\n|<start_of_turn>model\n|<\|start_header_id\|>assistant<\|end_header_id\|>\n*"
    r"|<\|start_of_role\|>assistant<\|end_of_role\|>|<\|assistant\|>\n?)"
)


def cut_at_end_token(text: str) -> str:
    """The text before its first end token, without the header of its own turn in front."""
    while opening := _OPENING.match(text):
        text = text[opening.end() :]
    found = _END.search(text)
    return text if found is None else text[: found.start()]


def answer_text(answer: Answer) -> str:
    """Return the part of an answer that is scored: the given text up to its first end token.

    A `program` is complete source that may name such tokens itself, so that it loses only those at its end.
    """
    if answer.program is not None:
        program = answer.program
        while (token := next((each for each in END_TOKENS if program.rstrip().endswith(each)), None)) is not None:
            program = program.rstrip().removesuffix(token)
        return program
    return cut_at_end_token(next((text for text in (answer.completion, answer.response) if text is not None), ""))
