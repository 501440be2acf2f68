"""Configuration of a claim about an arm, or about one arm against another. Torch-free."""

import difflib
from typing import Annotated, Literal

from pydantic import Field, model_validator

from arpo.conditions import IS_SET, only_with
from arpo.config import Config
from arpo.lab.study.measures import MEASURES, RUN_MEASURES, Point


class ClaimConfig(Config):
    """A claim: a metric with a bound."""

    about: str = Field(examples=["ARPO answers more questions than GRPO"])
    """The claim in words."""
    of: str = Field(examples=["arpo"])
    """Arm."""
    figure: str = Field(examples=["accuracy"])
    """Metric: `accuracy`, `sampled_accuracy`, `pass_at_k`, or a metric of training (docs/study.md has the list)."""
    against: str | None = None
    """Arm to compare with, run by run with the same world and seed; None: the metric alone is reported."""
    against_figure: Annotated[str | None, only_with(against=IS_SET)] = None
    """Metric of `against`; None: the same."""
    measure: Annotated[Literal["difference", "ratio"], only_with(against=IS_SET)] = "difference"
    """`difference`: of minus against. `ratio`: mean of `of` over mean of `against`."""
    at: Point = "steps"
    """Where tests are compared; metrics of training cover the study's `num_steps`."""
    above: float | None = Field(default=None, allow_inf_nan=False)
    """The claim holds where the intervals lie above this, and fails where they lie below."""
    below: float | None = Field(default=None, allow_inf_nan=False)
    """The claim holds where the intervals lie below this, and fails where they lie above."""

    @model_validator(mode="after")
    def _check(self) -> "ClaimConfig":
        for key in ("figure", "against_figure"):
            name = getattr(self, key)
            if name is not None and name not in MEASURES:
                near = difflib.get_close_matches(name, MEASURES, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; use one of {', '.join(MEASURES)}"
                raise ValueError(f"{key} = {name!r}: there is no such metric{hint}")
        if self.at != "steps" and {self.figure, self.against_figure or self.figure} <= RUN_MEASURES.keys():
            raise ValueError(f"at = {self.at!r} has no effect on {self.figure}, a metric of training; leave it out")
        if self.above is not None and self.below is not None:
            raise ValueError("above and below: give one of them")
        return self
