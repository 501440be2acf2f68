"""Whether a trajectory is well formed, by the parses of its completions alone; tool results do not count."""

from arpo.rewards.answer_text import extract_boxed
from arpo.tree import Trajectory


def format_faults(trajectory: Trajectory) -> tuple[str, ...]:
    """Names of the format faults, in order; empty means well formed.

    These are the faults of each parse, and `no_answer` (the trajectory does not end with one: it was truncated, or its last
    node is a tool result), `several_answers`, `no_thinking` (no reasoning block in any completion), `unclosed_box`.
    """
    parses = [node.parse for node in trajectory.completions if node.parse is not None]
    faults = [fault for parse in parses for fault in parse.faults]
    answer = final_answer(trajectory)
    if answer is None:
        faults.append("no_answer")
    elif extract_boxed(answer) is None and "answer_without_box" not in faults:
        faults.append("unclosed_box")
    if sum(parse.answer is not None for parse in parses) > 1:
        faults.append("several_answers")
    if not any(parse.num_think_blocks for parse in parses):
        faults.append("no_thinking")
    return tuple(faults)


def final_answer(trajectory: Trajectory) -> str | None:
    """The text of the answer block that ends the trajectory; None without one."""
    parse = trajectory.final_parse
    return parse.answer if parse is not None else None
