"""Estimators of the policy gradient: the trainer's credit on every tree, times the scores of the tokens."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from arpo.lab.bias.decision_tree import DecisionTree
from arpo.training.algorithm_config import LossConfig, OutcomeAdvantageConfig, PpoClipLossConfig
from arpo.training.credit import assign_credit
from arpo.tree import RolloutTree

Array = NDArray[np.float64]
_Shape = tuple[tuple[int | None, int, float | None], ...]


@dataclass(slots=True, frozen=True, kw_only=True)
class Estimator:
    """One way to make a gradient from a scored tree, at ratio 1, where every clipped loss has the gradient of REINFORCE."""

    name: str
    advantage: OutcomeAdvantageConfig
    loss: LossConfig = field(default_factory=lambda: PpoClipLossConfig(aggregation="constant"))
    """Loss, of which only the aggregation matters."""
    is_own_batch: bool = False
    """True: divide by the denominator of this one group, as a batch of one task does. False: omit the denominator; over a
    batch of many tasks it is nearly constant."""

    def credit(self, tree: RolloutTree) -> Array:
        """[nodes] factor of the score of each node's tokens: the sum of weight * advantage of the leaves below."""
        (credit,) = assign_credit([tree], self.advantage, self.loss, max_tokens=1)
        sums = (credit.weights * credit.advantages).sum(dim=0).numpy()
        return sums / credit.denominator if self.is_own_batch else sums


class Gradients:
    """The gradients of estimators on many trees; trees of one form with equal rewards get their credit once."""

    def __init__(self, tree: DecisionTree, estimators: Sequence[Estimator]):
        self._tree = tree
        self._estimators = estimators
        self._credits: dict[_Shape, Array] = {}
        self._score_rows: dict[tuple[str, str], int] = {}
        self._scores: list[Array] = []

    def compute(self, trees: Iterable[RolloutTree]) -> Iterator[tuple[list[int], Array]]:
        """Yield (indices of trees, [indices, estimators, P] gradients), a block of equal form at a time."""
        rows: defaultdict[_Shape, list[list[int]]] = defaultdict(list)
        indices: defaultdict[_Shape, list[int]] = defaultdict(list)
        for index, grown in enumerate(trees):
            shape = tuple((n.parent, len(n.token_ids) * n.is_sampled, n.reward and n.reward.value) for n in grown.nodes)
            if shape not in self._credits:
                self._credits[shape] = np.stack([e.credit(grown) for e in self._estimators])
            rows[shape].append(self._rows(grown))
            indices[shape].append(index)
        scores = np.stack(self._scores)
        for shape, members in rows.items():
            sampled = [i for i, (_, num_tokens, _) in enumerate(shape) if num_tokens]
            yield indices[shape], np.einsum("en,rnp->rep", self._credits[shape][:, sampled], scores[np.array(members)])

    def _rows(self, grown: RolloutTree) -> list[int]:
        """Row of the scores of each sampled node."""
        texts: list[str] = []
        rows: list[int] = []
        for node in grown.nodes:
            before = texts[node.parent] if node.parent is not None else ""
            text = "".join(self._tree.alphabet[i] for i in node.token_ids)
            texts.append(before + text)
            if node.is_sampled:
                row = self._score_rows.setdefault((before, text), len(self._scores))
                if row == len(self._scores):
                    self._scores.append(self._tree.score(before, text))
                rows.append(row)
        return rows
