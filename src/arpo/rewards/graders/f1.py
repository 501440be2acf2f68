"""Token F1: the share of words the answer and a reference have in common."""

from collections.abc import Sequence

from arpo.rewards.grading import Grade
from arpo.rewards.matching import exact_match, token_f1
from arpo.rewards.policy import DEFAULT_POLICY, GradingPolicy


def grade_f1(answer: str, references: Sequence[str], policy: GradingPolicy = DEFAULT_POLICY) -> Grade:
    """The largest token F1 over the references, words counted as often as they occur.

    The papers' metric for HotpotQA, 2WikiMultihopQA, MuSiQue and Bamboogle. The normal form is SQuAD's without its losses (see
    `rewards.answer_text`); yes, no and noanswer, numbers and formulas are right or wrong as a whole.

    Example:
        grade_f1("the town of Kelford", ["Kelford"]).score  # town, of, kelford against kelford: 2 * 1 / (3 + 1) = 0.5
        grade_f1("Moor Ada", ["Ada Moor"])  # score 1.0, is_correct False: no exact match
    """
    score, best = max(((token_f1(answer, r, policy), r) for r in references), default=(0.0, ""))
    is_exact = score == 1.0 and any(exact_match(answer, r, policy) for r in references)
    return Grade(score=score, is_exact=is_exact, reason=f"F1 {score:.3g} with {best!r}" if score else "no word of a reference")
