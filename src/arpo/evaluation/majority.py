"""The majority vote over a question's answers."""

from collections.abc import Sequence

from arpo.rewards.answer_text import normalize


def majority(answers: Sequence[str]) -> int | None:
    """Index of the first answer of the largest group of equal answers; None when all are blank.

    Answers agree when they are equal after `rewards.answer_text.normalize`, whatever the grader: no reference is needed. Blank
    ones have no vote. Of answers with equally many votes the first one wins: samples come in random order, so this is a fair
    draw, and the same one each time.

    Example:
        majority(["12", "Kelford", "kelford."])  # -> 1
        majority(["a", "b"])  # -> 0
    """
    votes: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        key = normalize(answer)
        if key:
            votes.setdefault(key, []).append(index)
    return max(votes.values(), key=len)[0] if votes else None  # dicts keep order and max takes the first
