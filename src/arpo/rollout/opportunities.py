"""The view that a branch rule has of a tree: where paths may fork, and the entropies there by the configured estimator."""

from dataclasses import dataclass

from arpo.inference.base import PrefixHandle
from arpo.rollout.branch_history import BranchHistory
from arpo.rollout.config import RolloutConfig
from arpo.rollout.entropy import entropy_delta, normalizer_value, token_entropies
from arpo.rollout.environment import Session
from arpo.rollout.path import turn_completions
from arpo.rollout.rules import CompletionView, Opportunity, Probe
from arpo.tree import Node, RolloutTree
from arpo.types import Completion


@dataclass(slots=True, frozen=True)
class ForkPoint:
    """An observation after which, or a finished completion inside which, paths may fork."""

    node: Node
    key: tuple[int, ...]
    """Key of the path that added the node."""
    session: Session
    """The state after the observation, or during the completion."""
    prefix: PrefixHandle
    """Ends with the node, or later."""
    entropies: tuple[float, ...] = ()
    """Entropies of the first tokens after an observation; empty for a completion."""


class EntropyReader:
    """Reads the entropies of one tree with the estimator, window and normaliser of a configuration."""

    def __init__(self, config: RolloutConfig, tree: RolloutTree, vocab_size: int):
        self._config = config
        self._tree = tree
        self._vocab_size = vocab_size
        self._normalizer = normalizer_value(config.entropy_normalizer, vocab_size)

    def window(self, *parts: Completion | Node) -> tuple[float, ...]:
        """The entropies of the first `entropy_window` tokens of a completion, which may consist of several parts."""
        return self._entropies(*parts)[: self._config.entropy_window]

    def delta(self, node: Node, entropies: tuple[float, ...]) -> float | None:
        """Change of the window after an observation from the baseline; None where the first completion has no token."""
        initial = self._initial_window(node)
        if not initial:
            return None
        return entropy_delta(
            entropies, initial, window=self._config.entropy_window,
            normalizer=self._config.entropy_normalizer, vocab_size=self._vocab_size,
        )  # fmt: skip

    def probe(self, leaf: Node) -> Probe:
        """The rule's view of a complete trajectory."""
        completions = [n for n in self._tree.path(leaf) if n.is_sampled]
        return Probe(windows=tuple(self.window(n) for n in completions), normalizer=self._normalizer)

    def opportunity(self, point: ForkPoint, history: BranchHistory) -> Opportunity:
        """The rule's view of a measured observation."""
        node = point.node
        assert node.entropy_delta is not None and node.parent is not None, "an observation that was measured"  # noqa: PT018
        return Opportunity(
            node=node.id,
            turn=node.turn,
            entropies=point.entropies,
            call_entropies=self.window(*turn_completions(self._tree, self._tree.nodes[node.parent])),
            initial_entropies=self._initial_window(node),
            entropy_delta=node.entropy_delta,
            normalizer=self._normalizer,
            entropies_by_turn=tuple(history.entropies),
            consecutive_branches=history.consecutive_branches(self._tree, node),
            consecutive_rounds=history.consecutive_rounds(node.turn),
        )

    def completion(self, point: ForkPoint) -> CompletionView:
        """The rule's view of a finished completion."""
        node = point.node
        logprobs = tuple(node.logprobs or ())
        return CompletionView(node=node.id, entropies=self._entropies(node), logprobs=logprobs, path=point.key)

    def _initial_window(self, node: Node) -> tuple[float, ...]:
        """The window at the start of the initial trajectory that `node` descends from."""
        return self.window(*(n for n in self._tree.path(node) if n.is_sampled and n.turn == 0))

    def _entropies(self, *parts: Completion | Node) -> tuple[float, ...]:
        is_surprisal = self._config.entropy_estimator == "surprisal"
        return tuple(x for part in parts for x in token_entropies(part, is_surprisal))
