"""The control of forks inside completions: at tokens drawn at random."""

from random import Random

from arpo.rollout.rules.token_entropy import TokenEntropyRule


class RandomTokenRule(TokenEntropyRule):
    """Fork before tokens of the group's completions drawn uniformly, once every path has ended.

    It may fork where `TokenEntropyRule` may, whatever the entropy there, and so separates forking inside completions from
    forking *where the model is unsure*.

    Example: entropies [2.0, 0.1, 1.5] and [0.3, 0.9] with two leaves missing: two of offsets 1 and 2 of the first and 1 of the
    second, each pair as likely as the others.
    """

    def _priority(self, entropy: float, rng: Random) -> float:
        return -rng.random()
