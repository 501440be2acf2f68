"""How trajectories are rewarded."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from arpo.config import Config
from arpo.rewards.graders import GRADERS
from arpo.rewards.judge.config import JudgeConfig

RULE_NAMES = ("arpo", "arpo_released", "composite", "environment")
JUDGED_RULES = ("arpo", "composite")
"""Rules made from a grade, which a judge may give."""


class CompositeConfig(Config):
    """The terms of the rule `composite`. What is left at 0 or false is off."""

    grader: str
    """Grades the answer: `exact_match`, `f1`, `substring`, `numeric`, `multiple_choice`, `math`, or one of the reference's
    metrics, `released_em`, `released_acc`, `released_f1`, `released_math_equal`."""
    accuracy_weight: float = Field(default=1.0, gt=0.0)
    """Times the grade, in [0, 1]."""
    format_gate: bool = True
    """A trajectory with a format fault gets -1 and nothing else. False: its answer is graded wherever it stands, in the box or
    by the fallbacks of docs/rewards.md."""
    multi_tool_bonus: float = Field(default=0.0, ge=0.0)
    """Added when the answer earns something and two or more tools gave a result."""
    length_cost: float = Field(default=0.0, ge=0.0)
    """Taken off what an answer earns per 1,000 sampled tokens beyond `free_tokens`, down to 0."""
    free_tokens: int = Field(default=0, ge=0)
    """Sampled tokens that cost nothing."""
    tool_cost: float = Field(default=0.0, ge=0.0)
    """Taken off what an answer earns per tool call, down to 0; failed and cached calls count."""

    @field_validator("grader")
    @classmethod
    def _check_grader(cls, value: str) -> str:
        if value not in GRADERS:
            raise ValueError(f"no such grader; use {', '.join(GRADERS)}")
        return value

    @model_validator(mode="after")
    def _check_effects(self) -> Self:
        if self.free_tokens and not self.length_cost:
            raise ValueError(
                f"free_tokens = {self.free_tokens} has no effect with length_cost = 0; set it, or remove free_tokens"
            )
        return self


class RewardConfig(Config):
    """The reward of one finished trajectory."""

    rule: str = "arpo"
    """`arpo`: the papers' rule, -1 for a format fault, else F1, plus a bonus for using several tools. `arpo_released`: the
    released code's reading of it, its faults included, for comparisons. `composite`: the terms of `reward.composite`.
    `environment`: the sum of what an environment of your own gave for the turns. Anything else is your own function as
    `package.module:function`; it gets the trajectory and returns a number or a Reward."""
    multi_tool_bonus: float = Field(default=0.1, ge=0.0)
    """Added when the answer earns something and different tools were used (`arpo`: two or more tools gave a result;
    `arpo_released`: `</search>` and `</python>` both occur). 0 means no bonus. Of these two rules only."""
    composite: CompositeConfig | None = None
    """Terms of the rule `composite`, and of that rule only."""
    judge: JudgeConfig | None = None
    """A chat model whose verdict, 1 or 0, takes the place of the grade, for rules made from one (`arpo`, `composite`). An
    answer without a verdict is ungraded: training drops its tree and counts it, evaluation leaves the answer out of the means
    and counts it. None: the grader by rules alone."""

    @model_validator(mode="after")
    def _check_judge(self) -> Self:
        if self.judge is not None and self.rule not in JUDGED_RULES:
            raise ValueError(
                f"judge has no effect with rule = {self.rule!r}, which grades by itself; "
                f"remove it or set rule to {', '.join(JUDGED_RULES)}"
            )
        return self

    @model_validator(mode="after")
    def _check_rule(self) -> Self:
        if self.rule not in RULE_NAMES and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.rule):
            raise ValueError(
                f"rule = {self.rule!r}: use {', '.join(RULE_NAMES)} or your own function as package.module:function"
            )
        if self.rule == "composite" and self.composite is None:
            raise ValueError('rule = "composite" needs the section composite; set at least composite.grader, e.g. to "math"')
        if self.rule != "composite" and self.composite is not None:
            raise ValueError(f'composite has no effect with rule = {self.rule!r}; remove it or set rule = "composite"')
        has_bonus = self.multi_tool_bonus != type(self).model_fields["multi_tool_bonus"].default
        if has_bonus and self.rule == "composite":
            raise ValueError(
                f'multi_tool_bonus = {self.multi_tool_bonus} has no effect with rule = "composite"; '
                "set composite.multi_tool_bonus instead"
            )
        if has_bonus and self.rule not in RULE_NAMES:
            raise ValueError(
                f"multi_tool_bonus = {self.multi_tool_bonus} has no effect on your own function {self.rule!r}; remove it"
            )
        return self
