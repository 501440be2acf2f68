"""Credited trees as flat rows, one per trajectory, for trainers without trees (TRL, verl)."""

from dataclasses import dataclass
from itertools import chain

from arpo.batching.policy_batch import TreeCredit
from arpo.tree import Node, RolloutTree


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafRow:
    """One trajectory; lists over the completion have one entry per token of `completion_ids`.

    A policy loss with these weights and advantages, summed over rows, equals the loss that `objective` computes on the tree,
    where a token shared by d rows is computed once instead of d times. APPO's factor of the future is not in it: it
    follows the ratio.
    """

    prompt_ids: list[int]
    """Ids of the prompt."""
    completion_ids: list[int]
    """Everything after the prompt, observations included."""
    completion_mask: list[bool]
    """True on sampled tokens, which train; False on observations."""
    logprobs: list[float]
    """Log-probs the engine reported, nats; 0 where not sampled."""
    advantages: list[float]
    """Advantage of each token for this trajectory; 0 where not sampled. With attribution `once` a token that d rows share has
    1/d of it in each, which is the same loss as 1/d of the weight."""
    weight: float
    """Weight of every token of the trajectory in the loss; divide it by the sum of the trees' `TreeCredit.denominator`."""
    reward: float | None
    """Reward of the trajectory; None where it was not scored or has no verdict."""
    tree_id: str
    """Id of the task; rows of one tree are one group."""
    branch_parent: int | None
    """Index of the tree's row from which this trajectory forked last; None for one that began at the prompt."""

    @property
    def token_ids(self) -> list[int]:
        """Prompt and completion."""
        return self.prompt_ids + self.completion_ids


def leaf_rows(tree: RolloutTree, credit: TreeCredit) -> list[LeafRow]:
    """One row per leaf, in the order of `tree.leaves()`.

    Args:
        tree: A rollout tree.
        credit: The tree's credit, from `assign_credit`.

    Example: a prompt of 2 tokens with a completion of 3 that two leaves of 2 and 6 tokens share gives two rows whose
    completions have 5 and 9 tokens; the second, a branch of the first, has `branch_parent` 0.
    """
    leaves = tree.leaves()
    row_of = {leaf.id: index for index, leaf in enumerate(leaves)}
    rows: list[LeafRow] = []
    for index, leaf in enumerate(leaves):
        prompt, *nodes = tree.path(leaf)
        rows.append(
            LeafRow(
                prompt_ids=list(prompt.token_ids),
                completion_ids=[token for node in nodes for token in node.token_ids],
                completion_mask=[node.is_sampled for node in nodes for _ in node.token_ids],
                logprobs=list(chain.from_iterable(node.logprobs or [0.0] * len(node.token_ids) for node in nodes)),
                advantages=list(chain.from_iterable(_advantages(credit, index, node) for node in nodes)),
                weight=float(credit.leaf_weights[index]),
                reward=None if leaf.reward is None else leaf.reward.value,
                tree_id=tree.task.id,
                branch_parent=_branch_parent(tree, nodes, row_of),
            )
        )
    return rows


def _advantages(credit: TreeCredit, row: int, node: Node) -> list[float]:
    if not node.is_sampled:
        return [0.0] * len(node.token_ids)
    values = credit.advantages[row, node.id].expand(len(node.token_ids))
    offset = None if credit.token_offset is None else credit.token_offset[node.id]
    scale = None if credit.token_scale is None else credit.token_scale[node.id]
    values = values if offset is None else values + offset
    values = values if scale is None else values * scale
    values = values if credit.weight_scale is None else values * credit.weight_scale[node.id]
    return [float(value) for value in values]


def _branch_parent(tree: RolloutTree, nodes: list[Node], row_of: dict[int, int]) -> int | None:
    """The row of the trajectory from which a path forked last."""
    forked = next((node for node in reversed(nodes) if node.is_branch), None)
    if forked is None or forked.parent is None:
        return None
    node = tree.nodes[forked.parent]
    while node.id not in row_of:
        originals = [child for child in tree.children[node.id] if not tree.nodes[child].is_branch]
        if not originals:
            return None
        node = tree.nodes[originals[0]]
    return row_of[node.id]
