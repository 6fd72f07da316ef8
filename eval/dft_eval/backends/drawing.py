"""Finding out that a server answers greedily although it was told to draw.

Some servers take `temperature` without a word and never draw: `transformers serve` follows the model's
`generation_config.json`, where `do_sample` is false unless somebody wrote it. Samples at T = 1 would then be one greedy
text many times over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from dft_eval.backends.base import Request, SamplingParams
from dft_eval.errors import BackendError
from dft_eval.records.schema import Answer

HOT = SamplingParams(temperature=2.0)
"""At which no model with weights of its own writes the same text twice; the highest that OpenAI's API takes."""
_NUM_TOKENS = 32
_NUM_SAMPLES = 3


async def check_draws(ask_hot: Callable[[Request], Awaitable[Answer]], requests: Sequence[Request], where: str) -> None:
    """Ask the first question twice at a high temperature; where the texts are the same, two questions more.

    Args:
        ask_hot: Asks a question under `HOT`.
        requests: What is going to be asked.
        where: The server, for the message.

    Raises:
        BackendError: no two texts differ, so that the server does not draw.
    """
    first = list({request.sample.sample_id: request for request in requests}.values())[:_NUM_SAMPLES]
    equal: list[str] = []
    for request in first:
        short = replace(request, max_new_tokens=min(_NUM_TOKENS, request.max_new_tokens))
        texts = [(await ask_hot(replace(short, seed=seed))).completion for seed in (1, 2)]
        if texts[0] != texts[1]:
            return
        equal.append(texts[0] or "")
    if any(equal):  # empty ones, of a model that is still thinking, say nothing
        raise BackendError(
            f"{where} does not draw: asked twice at temperature {HOT.temperature:g} it wrote the same text, "
            f"{max(equal, key=len)[:80]!r}. It ignores `temperature`, and every sample would be the greedy answer. "
            '`transformers serve` draws where the model\'s generation_config.json says "do_sample": true; or ask for '
            "temperature 0, one repeat."
        )
