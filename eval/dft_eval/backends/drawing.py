"""Finding out that a server samples otherwise than it was told to.

Some servers take `temperature` without a word and do as they please. `transformers serve` follows the model's
`generation_config.json`, where `do_sample` is false unless somebody wrote it: samples at T = 1 would be one greedy text
many times over. With `--continuous-batching` it keeps the sampling of its first request for all that follow, whoever
sent it: greedy answers would be drawn, and answers at T = 1 drawn at the T of somebody else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from dft_eval.backends.base import Request, SamplingParams
from dft_eval.errors import BackendError
from dft_eval.records.schema import Answer

COLD = SamplingParams()
"""Greedy: the same text each time."""
HOT = SamplingParams(temperature=2.0)
"""At which no model with weights of its own writes the same text twice; the highest that OpenAI's API takes."""
WORTH_CHECKING = 10
"""Questions from which on greedy answers are checked too; drawn ones always are."""
_NUM_TOKENS = 32
_NUM_SAMPLES = 3

Ask = Callable[[Request, SamplingParams], Awaitable[Answer]]


async def check_sampling(ask: Ask, requests: Sequence[Request], *, is_drawn: bool, where: str) -> None:
    """Ask the first question twice greedily and, where answers are to be drawn, twice at a high temperature.

    Where the texts are not as they should be, two questions more are asked: rounding may turn a greedy text.

    Args:
        ask: Asks a question under these parameters.
        requests: What is going to be asked.
        is_drawn: Whether the answers are to be drawn.
        where: The server, for the message.

    Raises:
        BackendError: greedy texts differ, or no two drawn ones do.
    """
    first = list({request.sample.sample_id: request for request in requests}.values())[:_NUM_SAMPLES]
    if not is_drawn and len(requests) < WORTH_CHECKING:
        return
    cold = await _pairs(ask, first, COLD, until_equal=True)
    if cold and sum(one != other for one, other in cold) > len(cold) / 2:
        raise BackendError(
            f"{where} does not obey `temperature`: asked twice at temperature 0 it wrote different texts, "
            f"{cold[0][0][:60]!r} and {cold[0][1][:60]!r}. `transformers serve --continuous-batching` keeps the "
            "sampling of its first request for all others: start it anew for greedy answers, and without that option "
            "for drawn ones."
        )
    if not is_drawn:
        return
    hot = await _pairs(ask, first, HOT, until_equal=False)
    if all(one == other for one, other in hot) and any(one for one, _ in hot):  # empty: of a model that still thinks
        longest = max((one for one, _ in hot), key=len)
        raise BackendError(
            f"{where} does not draw: asked twice at temperature {HOT.temperature:g} it wrote the same text, "
            f"{longest[:80]!r}. It ignores `temperature`, and every sample would be the greedy answer. "
            '`transformers serve` draws where the model\'s generation_config.json says "do_sample": true and '
            "--continuous-batching is not given; or ask for temperature 0, one repeat."
        )


async def _pairs(
    ask: Ask, requests: Sequence[Request], sampling: SamplingParams, *, until_equal: bool
) -> list[tuple[str, str]]:
    """Two texts to each question, up to the first whose texts are equal, or different."""
    pairs = []
    for request in requests:
        short = replace(request, max_new_tokens=min(_NUM_TOKENS, request.max_new_tokens))
        one, other = [(await ask(replace(short, seed=seed), sampling)).completion or "" for seed in (1, 2)]
        pairs.append((one, other))
        if (one == other) == until_equal:
            break
    return pairs
