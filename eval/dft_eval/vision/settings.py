"""The `vision:` part of a configuration file; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dft_eval.backends.base_url import check_base_url


class JudgeSettings(BaseModel):
    """An OpenAI-compatible server that judges answers; the key comes from the environment and is never written.

    Attributes:
        model: Its name on the server. Scores by different judges differ by many points and are never compared.
        base_url: For example `https://api.openai.com/v1`.
        api_key_env: Environment variable that holds the key.
        concurrency: Calls at once.
        timeout_s: For one reply.
        max_attempts: For one reply, where connection or server fail.
        max_unjudged: Share of the answers that may stay without a verdict; with more the run fails.
        max_calls: A command that may need more is refused before it asks anything; None allows any number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1)]
    base_url: Annotated[str, AfterValidator(check_base_url)]
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    max_attempts: Annotated[int, Field(ge=1)] = 3
    max_unjudged: Annotated[float, Field(ge=0, lt=1)] = 0.01
    max_calls: Annotated[int, Field(ge=1)] | None = None


class VisionSettings(BaseModel):
    """The `vision:` settings: VLMEvalKit's interpreter, image limits, judge.

    Attributes:
        python: Interpreter that has it; None takes `$DFT_VLMEVAL_PYTHON`, else this one.
        attention: Of local weights.
        min_pixels: To which local weights see an image enlarged; VLMEvalKit's value for Qwen2.5-VL.
        max_pixels: To which they see it reduced.
        judge: Who judges under the protocol `judge`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    python: Path | None = None
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    min_pixels: Annotated[int, Field(ge=1)] = 1280 * 28 * 28
    max_pixels: Annotated[int, Field(ge=1)] = 16384 * 28 * 28
    judge: JudgeSettings | None = None

    @model_validator(mode="after")
    def _is_ordered(self) -> VisionSettings:
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels={self.min_pixels} is above max_pixels={self.max_pixels}")
        return self
