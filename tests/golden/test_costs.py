"""Costs still to come, and where the KL of estimator k1 is taken off: REINFORCE++'s and RLOO's way on the same numbers."""

import pytest
import torch

from arpo.algorithms.advantages import costs_to_go
from arpo.batching.policy_batch import TreeCredit
from arpo.batching.rows import leaf_rows
from arpo.training.algorithm_config import KlConfig, OutcomeAdvantageConfig, OverlongConfig, PpoClipLossConfig
from arpo.training.credit import assign_credit
from arpo.training.shaping import shape_rewards
from arpo.tree import NodeKind, RolloutTree
from arpo.types import Message, Reward, Task

F64 = torch.float64
PLAIN = OutcomeAdvantageConfig(baseline="none", scale="none")
KL = [0.5, 0.2, 0.1]


def chain(*completions: list[float]) -> tuple[RolloutTree, list[torch.Tensor]]:
    """A trajectory of reward 1 whose completions have tokens of these KLs, with results between them; its KLs by node id."""
    tree = RolloutTree.from_prompt(
        Task(id="t", messages=(Message(role="user", content="?"),), references=("a",), source="s"), [1]
    )
    kls = [torch.zeros(0, dtype=F64)]
    node = tree.root
    for i, of_node in enumerate(completions):
        if i:
            node = tree.append(node, NodeKind.OBSERVATION, [9, 9])
            kls.append(torch.zeros(0, dtype=F64))
        node = tree.append(node, NodeKind.COMPLETION, [2] * len(of_node), logprobs=[-1.0] * len(of_node))
        kls.append(torch.tensor(of_node, dtype=F64))
    node.reward = Reward(value=1.0)
    return tree, kls


def sampled_advantages(tree: RolloutTree, credit: TreeCredit) -> list[float]:
    """Of its one trajectory's sampled tokens; all others have none."""
    (row,) = leaf_rows(tree, credit)
    pairs = list(zip(row.advantages, row.completion_mask, strict=True))
    assert all(a == 0 for a, is_sampled in pairs if not is_sampled)
    return [a for a, is_sampled in pairs if is_sampled]


def test_what_is_still_to_come() -> None:
    assert costs_to_go(torch.tensor(KL, dtype=F64)).tolist() == pytest.approx([0.8, 0.3, 0.1])
    assert costs_to_go(torch.zeros(0)).tolist() == []


@pytest.mark.parametrize("cut", [[KL], [KL[:1], KL[1:]], [[k] for k in KL]])
def test_reinforce_pp_takes_off_the_kl_still_to_come(cut: list[list[float]]) -> None:
    """Reward 1, coefficient 1: 1 - 0.8, 1 - 0.3, 1 - 0.1, wherever results stand; these have no KL and no advantage."""
    tree, kls = chain(*cut)
    (credit,) = assign_credit([tree], PLAIN, PpoClipLossConfig(), token_costs=[kls])
    assert sampled_advantages(tree, credit) == pytest.approx([0.2, 0.7, 0.9])


def test_rloo_takes_the_whole_kl_off_the_reward() -> None:
    tree, kls = chain(KL)
    sums = [torch.cat(kls).sum()[None]]
    kl = KlConfig(coefficient=1.0, estimator="k1", level="sequence")
    rewards = shape_rewards([tree], OverlongConfig(), kl, max_tokens=10, kl_sums=sums)
    (credit,) = assign_credit([tree], PLAIN, PpoClipLossConfig(), rewards=rewards)
    assert sampled_advantages(tree, credit) == pytest.approx([0.2, 0.2, 0.2])


def test_batch_std_comes_after_the_costs() -> None:
    """Advantages 0.2, 0.7, 0.9: mean 0.6, std sqrt((0.16 + 0.01 + 0.09) / 2)."""
    tree, kls = chain(KL[:2], KL[2:])
    config = OutcomeAdvantageConfig(baseline="none", scale="batch_std", epsilon=1e-30)
    (credit,) = assign_credit([tree], config, PpoClipLossConfig(), token_costs=[kls])
    sampled = sampled_advantages(tree, credit)
    assert sampled == pytest.approx([x / 0.13**0.5 for x in (-0.4, 0.1, 0.3)])
