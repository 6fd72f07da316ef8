"""Any server with OpenAI's API: vLLM, SGLang, `llamafactory-cli api`, `swift deploy`, hosted ones."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from dft_eval.backends.base import Backend, BackendSettings, Interface, Request, SamplingParams
from dft_eval.backends.base_url import check_base_url
from dft_eval.backends.drawing import COLD, HOT, check_sampling
from dft_eval.backends.server_replies import RETRIED_STATUS, fitting_tokens, read_reply, retry_after_s
from dft_eval.backends.tokens import cut_at_stop
from dft_eval.errors import BackendError, ConfigError, MissingPrerequisite
from dft_eval.records.schema import Answer

if TYPE_CHECKING:
    import openai
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 30.0
_GROWING = wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_S)
_sleep = asyncio.sleep


class OpenAISettings(BackendSettings):
    """An OpenAI-compatible server; the key comes from the environment and is never written.

    Attributes:
        base_url: For example `http://127.0.0.1:8000/v1`.
        api_key_env: Environment variable that holds the key; where it is unset, none is sent but a placeholder.
        concurrency: Requests at once.
        timeout_s: For one answer.
        max_attempts: For one answer, where connection or server fail.
        omit: Fields the server refuses: `transformers serve` takes no `top_k` and `repetition_penalty`, hosted ones
            take four `stop` texts. Answers are cut at the stop texts all the same.
    """

    speed_only: ClassVar[frozenset[str]] = frozenset({"api_key_env", "concurrency", "timeout_s", "max_attempts"})

    model_at: ClassVar[Literal["here", "server", "nowhere"]] = "server"

    kind: Literal["openai"]
    base_url: Annotated[str, AfterValidator(check_base_url)]
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 32
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    max_attempts: Annotated[int, Field(ge=1)] = 8
    omit: tuple[Literal["top_k", "repetition_penalty", "seed", "stop"], ...] = ()

    def make(self, model: str, interface: Interface, sampling: SamplingParams) -> Backend:
        """Prepare to ask the server; nothing is sent yet."""
        return OpenAIBackend(model, self, interface, sampling)


class OpenAIBackend:
    """Asks a server, so many questions at a time; retries what passes, stops at what does not.

    Args:
        model: Its name on the server.
        settings: Address and limits.
        interface: `completion` uses `/completions`, `chat` uses `/chat/completions`.
        sampling: Sent whole with every request.
    """

    def __init__(self, model: str, settings: OpenAISettings, interface: Interface, sampling: SamplingParams) -> None:
        try:
            import openai  # noqa: F401 - half a second, and only this backend needs it
        except ImportError as error:
            raise MissingPrerequisite("backend openai needs its client; run: pip install openai") from error
        for name, neutral in (("top_k", -1), ("repetition_penalty", 1.0)):
            if name in settings.omit and getattr(sampling, name) != neutral:
                raise ConfigError(
                    f"omit: {name}, but sampling.{name} is {getattr(sampling, name)}, which would "
                    f"not be sent. Set it to {neutral}, or use a server that takes it."
                )
        self._model, self._settings, self._interface, self._sampling = model, settings, interface, sampling
        self._has_capped = False

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Answer]]:
        """The server's answers, as they come, once it has shown that it samples as it is told to."""
        loop = asyncio.new_event_loop()
        client = self._connect()
        waiting = iter(requests)
        running: set[asyncio.Task[Answer]] = set()
        try:
            loop.run_until_complete(self._check_sampling(client, requests))
            while True:
                while len(running) < self._settings.concurrency and (request := next(waiting, None)) is not None:
                    running.add(loop.create_task(self._ask(client, request)))
                if not running:
                    break
                done, running = loop.run_until_complete(asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))
                failed = [task for task in done if task.exception() is not None]
                yield [task.result() for task in done if task not in failed]
                if failed:
                    failed[0].result()  # raises; the good answers of the same moment are recorded by now
        finally:
            for task in running:
                task.cancel()
            if running:
                loop.run_until_complete(asyncio.wait(running))
            loop.run_until_complete(client.close())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def close(self) -> None:
        """Connections are closed with each `generate`."""

    def _connect(self) -> AsyncOpenAI:
        import openai

        return openai.AsyncOpenAI(
            base_url=self._settings.base_url,
            api_key=os.environ.get(self._settings.api_key_env) or "none",
            timeout=self._settings.timeout_s,
            max_retries=0,  # tenacity's, which says what it waits for
        )

    async def _check_sampling(self, client: AsyncOpenAI, requests: Sequence[Request]) -> None:
        others = {
            sampling: OpenAIBackend(self._model, self._settings, self._interface, sampling) for sampling in (COLD, HOT)
        }
        await check_sampling(
            lambda request, sampling: others[sampling]._ask(client, request),
            requests,
            is_drawn=self._sampling.temperature > 0,
            where=self._settings.base_url,
        )

    async def _ask(self, client: AsyncOpenAI, request: Request) -> Answer:
        import openai

        where = f"{self._settings.base_url} for {request.sample.sample_id}"
        retrying = AsyncRetrying(
            sleep=_sleep,
            retry=retry_if_exception(_passes),
            stop=stop_after_attempt(self._settings.max_attempts),
            wait=_wait_s,
            reraise=True,
        )
        try:
            return await retrying(self._ask_fitting, client, request)
        except openai.APIStatusError as error:
            hint = self._refused_fields(error)
            raise BackendError(f"{where} answered {error.status_code}: {_refusal(error)}{hint}") from error
        except openai.OpenAIError as error:
            reason = str(error).rstrip(".")
            raise BackendError(f"{where} gave no answer: {reason}. Run the same command again to resume.") from error
        except json.JSONDecodeError as error:
            raise BackendError(
                f"{where}: no JSON came back, no choice. base_url is wrong: it often ends in /v1."
            ) from error

    async def _ask_fitting(self, client: AsyncOpenAI, request: Request) -> Answer:
        """An answer of as many tokens as fit, where the server says that fewer do than were asked."""
        import openai

        try:
            return await self._ask_once(client, request, request.max_new_tokens)
        except openai.BadRequestError as error:
            fitting = fitting_tokens(_refusal(error), request.max_new_tokens)
            if fitting is None:
                raise
        if not self._has_capped:
            self._has_capped = True
            logger.warning(
                "%s: %d new tokens do not fit behind the prompt of %s; %d do. Answers that reach such an end are "
                "recorded as truncated.",
                self._settings.base_url,
                request.max_new_tokens,
                request.sample.sample_id,
                fitting,
            )
        return await self._ask_once(client, request, fitting)

    async def _ask_once(self, client: AsyncOpenAI, request: Request, max_new_tokens: int) -> Answer:
        arguments = self._arguments(request, max_new_tokens)
        if self._interface == "chat":
            messages = [dict(message) for message in request.sample.prompt if not isinstance(message, str)]
            reply: Any = await client.chat.completions.create(messages=messages, **arguments)  # type: ignore[arg-type]
        else:
            reply = await client.completions.create(prompt=str(request.sample.prompt), **arguments)
        where = f"{self._settings.base_url} for {request.sample.sample_id}"
        found = read_reply(reply, where, max_new_tokens)
        text, has_stop = cut_at_stop(found.text, request.sample.stop)  # a server may keep what stopped it, or go on
        return request.answer(text, "stop" if has_stop else found.finish_reason)

    def _arguments(self, request: Request, max_new_tokens: int) -> dict[str, Any]:
        sampling = self._sampling
        arguments: dict[str, Any] = {
            "model": self._model,
            "max_tokens": max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed,
        }
        if request.sample.stop:
            arguments["stop"] = list(request.sample.stop)
        beyond = {"top_k": sampling.top_k, "repetition_penalty": sampling.repetition_penalty}
        kept = {key: value for key, value in arguments.items() if key not in self._settings.omit}
        return kept | {"extra_body": {key: value for key, value in beyond.items() if key not in self._settings.omit}}

    def _refused_fields(self, error: openai.APIStatusError) -> str:
        names = [name for name in ("top_k", "repetition_penalty", "stop", "seed") if name in _refusal(error)]
        if error.status_code not in (400, 422) or not names:
            return ""
        return f". If the server takes no {' and no '.join(names)}, set `omit: [{', '.join(names)}]` in `backend:`."


def _refusal(error: openai.APIStatusError) -> str:
    """Return a server's reason for refusing a request; some give it in another place than OpenAI's."""
    return error.message if error.body is not None and "Error code" not in error.message else error.response.text[:1000]


def _passes(error: BaseException) -> bool:
    """Return True for an error that may be over a moment later."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code in RETRIED_STATUS or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError)


def _wait_s(state: RetryCallState) -> float:
    """As long as the server asks for; else longer each time, at random."""
    import openai

    error = state.outcome.exception() if state.outcome is not None else None
    asked = retry_after_s(error.response.headers) if isinstance(error, openai.APIStatusError) else None
    return _GROWING(state) if asked is None else asked
