r"""The reward of the released code, fault for fault, so that results can be compared with it.

It reads the trajectory's text, tool results included. The checks, in order:

| condition | reward |
|---|---|
| unequal counts of `<think>` and `</think>`, or none | -1 |
| not exactly one `<answer>` and one `</answer>` | -1 |
| a `<search>` not followed by `</search>`, `<result>`, `</result>` in this order | -1 |
| the same for `<python>` | -1 |
| `<answer>` after `</answer>`, or no `\boxed{` or `}` between them | -1 |
| a box that cannot be read | -1 |
| F1 = 0 | 0 |
| F1 > 0 | F1 |
| F1 > 0 and both `</search>` and `</python>` occur anywhere | F1 + bonus |

F1 is SQuAD's, with its normal form: see the table in docs/rewards.md for what that does to mathematics.
"""

import re
import string

from arpo.rewards.config import RewardConfig
from arpo.rewards.matching import CLOSED_ANSWERS, word_f1
from arpo.rewards.measure import match_answer
from arpo.tree import Trajectory
from arpo.types import Reward


class ReleasedReward:
    """The rule `arpo_released`; see the module.

    Components: `f1` and `format` as the released code sees them, `multi_tool_bonus`, `exact_match` as in every rule.
    An answer is right on an exact match.
    """

    def __init__(self, config: RewardConfig) -> None:
        self._bonus = config.multi_tool_bonus

    def __call__(self, trajectory: Trajectory) -> Reward:
        """The reward, its components and the reason."""
        text = trajectory.response_text
        fault = released_format_fault(text)
        boxed = None if fault else _read_box(text[text.index("<answer>") + len("<answer>") : text.index("</answer>")])
        fault = fault or ("box cannot be read" if boxed is None else "")
        f1 = max((released_f1(boxed, r) for r in trajectory.task.references), default=0.0) if boxed is not None else 0.0
        bonus = self._bonus if f1 > 0 and "</search>" in text and "</python>" in text else 0.0
        exact_match = match_answer(trajectory).exact_match
        components = {"exact_match": exact_match, "f1": f1, "format": float(not fault), "multi_tool_bonus": bonus}
        reason = f"format: {fault}" if fault else f"answer with F1 {f1:.3g}"
        value = -1.0 if fault else f1 + bonus
        return Reward(value=value, is_correct=exact_match == 1.0, components=components, reason=reason)


def released_format_fault(text: str) -> str:
    """The format fault that the released code finds in a response; empty without one."""
    if text.count("<think>") != text.count("</think>") or "<think>" not in text:
        return "think tags are missing or not paired"
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return "not exactly one answer"
    for tool in ("search", "python"):
        if not _calls_have_results(text, tool):
            return f"a {tool} call lacks its end or its result"
    begin, end = text.index("<answer>"), text.index("</answer>")
    if begin > end or "\\boxed{" not in text[begin:end] or "}" not in text[begin:end]:
        return "no box in the answer"
    return ""


def released_f1(answer: str, reference: str) -> float:
    """Token F1 in SQuAD's normal form, which drops signs, decimal points and articles."""
    answer, reference = _normalize(answer), _normalize(reference)
    if answer != reference and (answer in CLOSED_ANSWERS or reference in CLOSED_ANSWERS):
        return 0.0
    return word_f1(answer, reference, as_released=True)


def _calls_have_results(text: str, tool: str) -> bool:
    begin = text.find(f"<{tool}>")
    while begin != -1:
        end, result = text.find(f"</{tool}>", begin), text.find("<result>", begin)
        result_end = text.find("</result>", result)
        if -1 in (end, result, result_end) or not begin < end < result < result_end:
            return False
        begin = text.find(f"<{tool}>", result_end)
    return True


def _read_box(answer: str) -> str | None:
    r"""The last box; with a blank after any `\boxed`, the text after the last such, up to a `$`."""
    if "\\boxed " in answer:
        return answer.split("\\boxed ")[-1].split("$")[0]
    begin, depth = answer.rfind("\\boxed"), 0
    for index in range(begin, len(answer)):
        depth += {"{": 1, "}": -1}.get(answer[index], 0)
        if depth == 0 and answer[index] == "}":
            box = answer[begin : index + 1]
            return box[len("\\boxed{") : -1] if box.startswith("\\boxed{") else None
    return None


def _normalize(text: str) -> str:
    letters = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", letters).split())
