"""Any server that speaks OpenAI's protocol: vLLM, SGLang, `llamafactory-cli api`, `swift deploy`, hosted ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from dft_eval.backends.base import Backend, BackendSettings, Interface, Request, SamplingParams
from dft_eval.backends.base_url import check_base_url
from dft_eval.errors import BackendError, MissingPrerequisite
from dft_eval.records.schema import Answer

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_LONGEST_WAIT_S = 30.0


class OpenAISettings(BackendSettings):
    """An OpenAI-compatible server; the key comes from the environment and is never written.

    Attributes:
        base_url: For example `http://127.0.0.1:8000/v1`.
        api_key_env: Environment variable that holds the key; where it is unset, none is sent but a placeholder.
        concurrency: Requests at once.
        timeout_s: For one answer.
        max_attempts: For one answer, where connection or server fail.
    """

    speed_only: ClassVar[frozenset[str]] = frozenset({"api_key_env", "concurrency", "timeout_s", "max_attempts"})

    model_at: ClassVar[Literal["here", "server", "nowhere"]] = "server"

    kind: Literal["openai"]
    base_url: Annotated[str, AfterValidator(check_base_url)]
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 32
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    max_attempts: Annotated[int, Field(ge=1)] = 8

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
        self._model, self._settings, self._interface, self._sampling = model, settings, interface, sampling

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Answer]]:
        """The server's answers, as they come."""
        loop = asyncio.new_event_loop()
        client = self._connect()
        waiting = iter(requests)
        running: set[asyncio.Task[Answer]] = set()
        try:
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

    async def _ask(self, client: AsyncOpenAI, request: Request) -> Answer:
        import openai

        where = f"{self._settings.base_url} for {request.sample.sample_id}"
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(
                (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)
            ),
            stop=stop_after_attempt(self._settings.max_attempts),
            wait=wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_S),
            reraise=True,
        )
        try:
            return await retrying(self._ask_once, client, request)
        except openai.APIStatusError as error:
            raise BackendError(f"{where} answered {error.status_code}: {error.message}") from error
        except openai.OpenAIError as error:
            raise BackendError(f"{where} gave no answer: {error}. Run the same command again to resume.") from error

    async def _ask_once(self, client: AsyncOpenAI, request: Request) -> Answer:
        sampling = self._sampling
        arguments: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed,
            "extra_body": {"top_k": sampling.top_k, "repetition_penalty": sampling.repetition_penalty},
        }
        if request.sample.stop:
            arguments["stop"] = list(request.sample.stop)
        if self._interface == "chat":
            messages = [dict(message) for message in request.sample.prompt if not isinstance(message, str)]
            chat: Any = await client.chat.completions.create(messages=messages, **arguments)  # type: ignore[arg-type]
            choice = _first_choice(chat)
            text = None if choice is None else choice.message.content
        else:
            completed: Any = await client.completions.create(prompt=str(request.sample.prompt), **arguments)
            choice = _first_choice(completed)
            text = None if choice is None else choice.text
        if choice is None or text is None or choice.finish_reason not in ("stop", "length"):
            reason = "no choice" if choice is None else f"finish_reason={choice.finish_reason!r}, text {text!r}"
            raise BackendError(f"{self._settings.base_url} for {request.sample.sample_id}: {reason}; text is needed.")
        return request.answer(text, choice.finish_reason)


def _first_choice(reply: Any) -> Any:
    """None where there is none: something else than an OpenAI-compatible server may have answered."""
    choices = getattr(reply, "choices", None)
    return choices[0] if choices else None
