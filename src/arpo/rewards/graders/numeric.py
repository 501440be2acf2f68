"""Numbers with units, within a tolerance."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from arpo.rewards.grading import Grade
from arpo.rewards.policy import DEFAULT_POLICY, GradingPolicy
from arpo.rewards.quantities import Quantity, read_quantity


@dataclass(slots=True, frozen=True)
class NumericGrader:
    """1 when the answer is the same quantity as a reference, else 0.

    Two integers must be equal, so that 1999 is not 2000. Other numbers may differ by `tolerance` times the reference. Units
    are converted (195 cm is 1.95 m); two different units that cannot be converted make two different answers. 12 % is 0.12,
    not 12. What a unit or a percent sign counts that one side alone names is the policy's.

    Example:
        NumericGrader()("about 3.5 million", ["3,500,000"]).score  # -> 1.0
    """

    tolerance: Fraction = Fraction(1, 10_000)
    """Relative to the reference, inclusive; 1e-4 as in the evaluation of Qwen2.5-Math."""

    def __call__(self, answer: str, references: Sequence[str], /, policy: GradingPolicy = DEFAULT_POLICY) -> Grade:
        """The grade by the best reference."""
        given = read_quantity(answer)
        quantities = [q for r in references if (q := read_quantity(r)) is not None]
        if given is None or not quantities:
            return Grade(score=0.0, reason="the answer is no number" if given is None else "no reference is a number")
        is_equal = any(self._is_equal(given, q, policy) for q in quantities)
        return Grade(score=float(is_equal), reason="within the tolerance" if is_equal else "another value or unit")

    def _is_equal(self, answer: Quantity, reference: Quantity, policy: GradingPolicy) -> bool:
        if answer.unit and reference.unit and answer.unit != reference.unit:
            return False
        if bool(answer.unit) == bool(reference.unit):
            value, expected = answer.value, reference.value
        elif policy == "strict":
            return False
        else:  # the unit of one holds for both, as written
            value, expected = answer.written, reference.written
        if self._is_near(value, expected, are_integers=answer.is_integer and reference.is_integer):
            return True
        leaves_out = reference.is_percentage and not answer.is_percentage and policy == "lenient"
        return leaves_out and self._is_near(answer.written, reference.written, are_integers=False)

    def _is_near(self, value: Fraction, expected: Fraction, *, are_integers: bool) -> bool:
        return value == expected if are_integers else abs(value - expected) <= self.tolerance * abs(expected)
