"""Configuration of the judge. Torch-free."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from arpo.cache.config import CacheConfig
from arpo.clients.config import ChatConfig, RetryingHttpConfig

RUBRICS = ("papers",)
"""The rubrics that come with the package."""


class JudgeConfig(ChatConfig):
    """A chat model that judges answers, at temperature 0."""

    rubric: str | Path = "papers"
    """`papers`: Correct or Incorrect by meaning, in the papers' manner. Or the path of your own text file, with
    `{question}`, `{references}` and `{answer}`, that makes the model reply Correct or Incorrect and nothing else."""
    http: RetryingHttpConfig = RetryingHttpConfig(timeout_s=120.0)
    """Requests to the server."""
    max_concurrent: int = Field(default=16, ge=1)
    """Answers judged at the same time."""
    cache: CacheConfig = CacheConfig()
    """Cache of verdicts, by rubric, model, `extra_body`, question, references and answer. In the mode `offline` no model is
    asked, and an answer without a cached verdict is ungraded; `record` and `replay` are for tools."""
    prompt_price: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens, in any currency; None: no cost is reported."""
    completion_price: float | None = Field(default=None, ge=0)
    """Price of a million tokens of replies; set both prices or none."""

    @model_validator(mode="after")
    def _check_judge(self) -> Self:
        if self.temperature != 0:
            raise ValueError(f"temperature = {self.temperature:g}: a judge samples at 0; remove it")
        if self.cache.mode not in ("normal", "offline"):
            raise ValueError(f"cache.mode = {self.cache.mode!r} has no effect on a judge; use 'normal' or 'offline'")
        if (self.prompt_price is None) != (self.completion_price is None):
            raise ValueError("one of prompt_price and completion_price is missing; set both or none")
        return self
