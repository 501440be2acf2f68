"""A reward of your own: a function of one finished attempt. More: docs/rewards.md."""

import arpo


def reward(trajectory: arpo.Trajectory) -> dict[str, float]:
    """1 for the right answer, less 0.1 for each call beyond the first; 0 for any other. The sum of the parts is the reward."""
    parse = trajectory.final_parse  # None where the attempt was cut off
    answer = (parse.answer if parse is not None else None) or ""
    is_right = any(f"\\boxed{{{reference}}}" in answer for reference in trajectory.task.references)
    num_more_calls = max(0, len(trajectory.tool_results) - 1)
    return {"right": float(is_right), "calls": -0.1 * num_more_calls if is_right else 0.0}
