"""Which model judges answers, and how it is asked. Torch-free."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from arpo.cache.config import CacheConfig
from arpo.clients.config import ChatConfig, RetryingHttpConfig

RUBRICS = ("papers",)
"""The rubrics that come with the package."""


class JudgeConfig(ChatConfig):
    """A chat model that says of an answer whether it is correct. It is asked at temperature 0."""

    rubric: str | Path = "papers"
    """`papers`: Correct or Incorrect by meaning, in the papers' manner. Or the path of your own text file, with
    `{question}`, `{references}` and `{answer}` in it, that has the model reply with Correct or Incorrect and nothing else."""
    http: RetryingHttpConfig = RetryingHttpConfig(timeout_s=120.0)
    """How the server is called."""
    max_concurrent: int = Field(default=16, ge=1)
    """Answers judged at the same time."""
    cache: CacheConfig = CacheConfig()
    """Where verdicts are kept: one is found again by rubric, model, `extra_body`, question, references and answer. In
    the mode `offline` no model is asked, and an answer without a kept verdict is ungraded; `record`, `replay` are for tools."""
    prompt_price: float | None = Field(default=None, ge=0)
    """What a million prompt tokens cost, in any currency; None where that is not known, so that no cost is reported."""
    completion_price: float | None = Field(default=None, ge=0)
    """What a million tokens of replies cost; as `prompt_price`, and only together with it."""

    @model_validator(mode="after")
    def _check_judge(self) -> Self:
        if self.temperature != 0:
            raise ValueError(f"temperature = {self.temperature:g}: a judge is asked at 0; remove it")
        if self.cache.mode not in ("normal", "offline"):
            raise ValueError(f"cache.mode = {self.cache.mode!r} has no effect on a judge; use 'normal' or 'offline'")
        if (self.prompt_price is None) != (self.completion_price is None):
            raise ValueError("prompt_price and completion_price are known together or not at all; set both or none")
        return self
