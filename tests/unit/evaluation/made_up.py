"""Records made up by hand."""

from dataclasses import replace

from arpo.evaluation.records import Mode, Record


def record(task: str, mode: Mode, sample: int, right: float | None, **fields: object) -> Record:
    """A record whose score, exact match and F1 are `right`."""
    plain = Record(
        task_id=task, mode=mode, sample=sample, question=f"{task}?", references=("a",), answer=None, extraction="boxed",
        extracted="", score=right, is_correct=None if right is None else right == 1.0, reason="",
        exact_match=right or 0.0, f1=right or 0.0, reward=right or 0.0, format_valid=1.0,
        num_tool_calls=0, tool_calls={}, failed_tool_calls={}, num_sampled_tokens=10, groups={}, response="",
    )  # fmt: skip
    return replace(plain, **fields)  # pyright: ignore[reportArgumentType]
