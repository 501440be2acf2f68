"""How trajectories are rewarded."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from arpo.conditions import above, only_with
from arpo.config import Config
from arpo.function_name import FunctionKey, check_function
from arpo.rewards.graders import GRADERS, POLICED
from arpo.rewards.judge.config import JudgeConfig
from arpo.rewards.policy import DEFAULT_POLICY, GradingPolicy

RULE_NAMES = ("arpo", "arpo_released", "composite", "environment")
JUDGED_RULES = ("arpo", "composite")
"""Rules with a grade, which a judge may give."""


class CompositeConfig(Config):
    """The terms of the rule `composite`; 0 and false mean off."""

    short_for = "grader"

    grader: str = Field(examples=["math"])
    """Grades the answer: `exact_match`, `f1`, `substring`, `numeric`, `multiple_choice`, `math`, or one of the reference's
    metrics, `released_em`, `released_acc`, `released_f1`, `released_math_equal`."""
    grading: Annotated[GradingPolicy, only_with(grader=POLICED)] = DEFAULT_POLICY
    """What a unit, a percent sign or a base counts that one of answer and reference lacks: `strict` or `lenient`, see
    docs/rewards.md."""
    grade_weight: float = Field(default=1.0, gt=0.0)
    """Factor of the grade, which is in [0, 1]."""
    format_gate: bool = True
    """A trajectory with a format fault gets -1 and nothing else. False: its answer is graded, in the box or
    by the fallbacks of docs/rewards.md."""
    multi_tool_bonus: float = Field(default=0.0, ge=0.0)
    """Added when the grade is above 0 and two or more tools gave a result."""
    length_cost: float = Field(default=0.0, ge=0.0)
    """Subtracted from a positive reward per 1,000 sampled tokens above `free_tokens`, down to 0."""
    free_tokens: Annotated[int, only_with(length_cost=above(0))] = Field(default=0, ge=0)
    """Sampled tokens without cost."""
    tool_cost: float = Field(default=0.0, ge=0.0)
    """Subtracted from a positive reward per tool call, down to 0; failed and cached calls count."""

    @field_validator("grader")
    @classmethod
    def _check_grader(cls, value: str) -> str:
        if value not in GRADERS:
            raise ValueError(f"no such grader; use {', '.join(GRADERS)}")
        return value


class RewardConfig(Config):
    """The reward of one finished trajectory."""

    short_for = "rule"

    rule: Annotated[str, FunctionKey()] = "arpo"
    """`arpo`: the papers' rule, -1 for a format fault, else F1, plus a bonus for using several tools. `arpo_released`: the
    released code's reading of it, its faults included, for comparisons. `composite`: the terms of `reward.composite`.
    `environment`: the sum of the rewards that your environment gave for the turns. Anything else is your own function,
    `FILE.py:NAME` or `package.module:NAME`, see docs/functions.md; it gets the trajectory and returns a number, a Reward, or
    components by name. The path is relative to this file, on the command line to the working directory."""
    multi_tool_bonus: Annotated[float, only_with(rule=("arpo", "arpo_released"))] = Field(default=0.1, ge=0.0)
    """Added when the grade is above 0 and different tools were used (`arpo`: two or more tools gave a result;
    `arpo_released`: `</search>` and `</python>` both occur). 0 means no bonus. `composite` has its own key."""
    composite: Annotated[CompositeConfig | None, only_with(rule="composite")] = None
    """Terms of the rule `composite`."""
    judge: Annotated[JudgeConfig | None, only_with(rule=JUDGED_RULES)] = None
    """A chat model whose verdict, 1 or 0, replaces the grade, for rules with a grade (`arpo`, `composite`). An answer without a
    verdict is ungraded: training drops its tree and counts it, evaluation counts it and takes it into no mean. None: the
    grader by rules alone."""

    @field_validator("rule")
    @classmethod
    def _check_rule(cls, value: str) -> str:
        if value in RULE_NAMES:
            return value
        try:
            return check_function(value)
        except ValueError as error:
            raise ValueError(f"{error}; or use {', '.join(RULE_NAMES)}") from None

    @model_validator(mode="after")
    def _check_composite(self) -> Self:
        if self.rule == "composite" and self.composite is None:
            raise ValueError('rule = "composite" needs the section composite; set at least composite.grader, e.g. to "math"')
        return self
