"""Whether a group teaches: its trajectories differ in reward, or, for dynamic sampling, in correctness."""

from arpo.training.credit import leaf_rewards
from arpo.tree import RolloutTree


def differs_in_reward(tree: RolloutTree) -> bool:
    """Whether the rewards of a scored tree's leaves differ, penalties of the training aside.

    Example: rewards 1, 1 and 0 differ; 1, 1 and 1 do not.
    """
    rewards = leaf_rewards(tree)
    return bool(rewards.min() < rewards.max())


def differs_in_correctness(tree: RolloutTree) -> bool:
    """Whether some answers of a scored tree are right and others wrong: DAPO's filter, 0 < number right < G.

    Source: DAPO, arXiv:2503.14476, eq. 11, which asks for answers equivalent to the reference; verl's `filter_groups.metric =
    "acc"`. Partial credit, bonuses and length penalties do not count. Where an answer was graded neither right nor wrong (a
    task without references, and a reward that does not say), rewards decide.

    Example: three right answers, one of them overlong or with a bonus, do not differ; nor do wrong ones of F1 0.2 and 0.6.
    """
    verdicts = {leaf.is_correct for leaf in tree.leaves()}
    return differs_in_reward(tree) if None in verdicts else len(verdicts) > 1
