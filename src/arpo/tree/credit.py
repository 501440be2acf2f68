"""The credit of a tree's nodes in training, for viewers."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True, frozen=True, kw_only=True)
class NodeCredit:
    """Weight and advantage below each node; the index is the node's id.

    Example: leaves b and c of weight 1, advantages 0.5 and -0.5, that share a completion give it weight 2 and advantage 0.
    """

    weights: list[float]
    """[n] sum of the weights of the leaves below."""
    advantages: list[float]
    """[n] weighted mean advantage of the leaves below; only sampled nodes train on it."""

    def of_nodes(self, ids: Sequence[int]) -> "NodeCredit":
        """The credit of the nodes `ids`, in that order."""
        return NodeCredit(weights=[self.weights[i] for i in ids], advantages=[self.advantages[i] for i in ids])
