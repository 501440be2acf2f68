"""Keys of `rollout` that change no decision to branch, beside the values of others. Torch-free.

A rule's configuration names its own in `inert_keys`; `RolloutConfig` refuses values other than those to leave them at.
`entropy_window`, `entropy_estimator` and `entropy_top_k` are never among them: whatever the rule, metrics and trees show what
they measure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign


@dataclass(frozen=True, slots=True)
class InertKey:
    """A key none of whose values changes a decision."""

    key: str
    """Dotted, below `rollout`."""
    why: str
    """Reason, in words that follow "has no effect"."""
    instead: str
    """What gives it an effect, in words that follow "or"."""
    leave: object
    """Value to leave it at."""
    same: Sequence[object] | None = None
    """Values that make the same decisions, where others do not; None: all (of the sign of `leave`, where that counts)."""

    def refuses(self, value: object) -> bool:
        """Whether the value is neither the one to leave it at nor one with an effect."""
        return value != self.leave and (self.same is None or value in self.same)

    def refusal(self, value: object) -> str:
        """The error of a value: key, value, reason and remedy."""
        return f"{self.key} = {value!r} has no effect {self.why}; leave it at {self.leave!r}, or {self.instead}"


@dataclass(frozen=True, slots=True)
class Use:
    """What the inert keys of a rule depend on besides the rule's own."""

    group_size: int
    num_initial: int | None
    """None: a probe determines it."""
    window: int
    """Tokens of an entropy window."""

    @property
    def num_places(self) -> int:
        """Most leaves that branches can fill."""
        return self.group_size - (self.num_initial or 1)

    @property
    def scales(self) -> tuple[str, ...]:
        """Normalisers that are positive multiples of each other; `paper` is one in windows of one token."""
        return ("log_vocab", "none", "paper") if self.window == 1 else ("log_vocab", "none")


def only_the_sign_counts(key: str, weight: float, default: float, level: str, use: Use) -> list[InertKey]:
    """The weight of the entropy's change and its normaliser, where a branch needs a change above 0 and nothing else.

    Args:
        key: Name of the weight in the rule.
        weight: Its value; 0 has an effect.
        default: Its default, whose size to leave it at.
        level: The condition, e.g. `rule.alpha = rule.tau = 0.5`.
        use: Where the rule is used.
    """
    if weight == 0:
        return []
    why, apart = f"with {level}, where only the sign of the entropy's change counts", "set alpha and tau apart"
    return [
        InertKey(f"rule.{key}", why, apart, copysign(default, weight)),
        InertKey("entropy_normalizer", why, apart, "log_vocab", use.scales),
    ]
