"""Counts and cost of a judge."""

from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(slots=True, kw_only=True)
class JudgeCounts:
    """Sums over the answers to judge."""

    answers: int = 0
    """Answers to judge; empty ones are incorrect without a judge."""
    correct: int = 0
    """Of these, judged correct."""
    ungraded: int = 0
    """Of these, without a verdict: the server failed, or its reply was no verdict."""
    cached: int = 0
    """Of these, with a verdict from the cache, or shared with an equal answer under way."""
    disagreements: int = 0
    """Of these, verdicts that differ from the grader by rules: Correct and a grade below 1, or Incorrect and a grade of 1."""
    requests: int = 0
    """Questions with a reply of the model, of any kind."""
    prompt_tokens: int = 0
    """Tokens of these questions, as the server counts them."""
    completion_tokens: int = 0
    """Tokens of the replies."""
    untold: int = 0
    """Replies without token counts of the server; they are missing from the sums and the cost."""
    cost: float | None = None
    """Cost of the counted tokens, in the currency of the prices; None without prices."""

    @property
    def graded(self) -> int:
        """Answers with a verdict."""
        return self.answers - self.ungraded

    @property
    def disagreement_rate(self) -> float:
        """Share of the verdicts that differ from the grader by rules; 0 without any."""
        return self.disagreements / max(1, self.graded)

    def __str__(self) -> str:
        """All of it in one line."""
        cost = "" if self.cost is None else f", cost {self.cost:.4g}"
        return (
            f"judge: {self.answers} answers, {self.correct} correct, {self.ungraded} ungraded, {self.cached} from the cache; "
            f"{self.disagreements} disagreements with the grader by rules; {self.prompt_tokens} + {self.completion_tokens} "
            f"tokens{cost}"
        )


def sum_counts(counts: Sequence[JudgeCounts]) -> JudgeCounts:
    """The counts of several processes as those of one."""
    total = {}
    for field in fields(JudgeCounts):
        values = [getattr(of_process, field.name) for of_process in counts]
        total[field.name] = None if None in values else sum(values)
    return JudgeCounts(**total)


def judge_metrics(counts: JudgeCounts) -> dict[str, float]:
    """The `judge/` metrics of a step; rates without a verdict are absent."""
    metrics: dict[str, float] = {
        "judge/answers": counts.answers,
        "judge/ungraded": counts.ungraded,
        "judge/cached": counts.cached,
        "judge/prompt_tokens": counts.prompt_tokens,
        "judge/completion_tokens": counts.completion_tokens,
    }
    if counts.graded:
        metrics["judge/correct_rate"] = counts.correct / counts.graded
        metrics["judge/disagreement_rate"] = counts.disagreement_rate
    return metrics if counts.cost is None else metrics | {"judge/cost": counts.cost}
