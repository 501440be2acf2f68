"""Sources of random choices: a generator, or every possible outcome in turn."""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Protocol, TypeVar

T = TypeVar("T")


class Chance(Protocol):
    """Makes random choices."""

    def choose(self, probabilities: Sequence[float]) -> int:
        """An index, drawn by its probability."""
        ...


class Sampled:
    """Chance by a seeded generator."""

    def __init__(self, seed: int):
        self._random = Random(seed)

    def choose(self, probabilities: Sequence[float]) -> int:
        """As `Chance.choose`."""
        return draw(probabilities, self._random.random())


def draw(probabilities: Sequence[float], uniform: float) -> int:
    """The index of the part of [0, 1) that holds `uniform`.

    Example: [0.2, 0.8] and 0.3 give 1.
    """
    for index, probability in enumerate(probabilities):
        uniform -= probability
        if uniform < 0:
            return index
    return len(probabilities) - 1


class _Script:
    """Repeats given choices, then takes the first option of each new one."""

    def __init__(self, choices: list[int]):
        self._given = choices
        self.choices: list[int] = []
        self.widths: list[int] = []
        self.probability = 1.0

    def choose(self, probabilities: Sequence[float]) -> int:
        """As `Chance.choose`."""
        position = len(self.choices)
        index = self._given[position] if position < len(self._given) else 0
        self.choices.append(index)
        self.widths.append(len(probabilities))
        self.probability *= probabilities[index]
        return index


def outcomes(play: Callable[[Chance], T]) -> Iterator[tuple[float, T]]:
    """Every outcome of a random program with its probability; the program runs once per sequence of choices.

    Example: a program that tosses two fair coins gives four outcomes of probability 0.25.
    """
    choices: list[int] = []
    while True:
        script = _Script(choices)
        outcome = play(script)
        yield script.probability, outcome
        choices = script.choices
        while choices and choices[-1] == script.widths[len(choices) - 1] - 1:
            choices.pop()
        if not choices:
            return
        choices[-1] += 1


class LazyUniform:
    """A uniform draw that only answers comparisons; each answer narrows the interval of its value.

    Branch rules need two things of `Random.random()`: `x < p`, and `-x` as a priority. Two draws with the same interval tie,
    where the order of two floats would be random.
    """

    def __init__(self, chance: Chance):
        self._chance = chance
        self._low, self._high = 0.0, 1.0

    def __lt__(self, bound: float) -> bool:
        if bound <= self._low or bound >= self._high:
            return bound >= self._high
        share = (bound - self._low) / (self._high - self._low)
        is_below = self._chance.choose((share, 1 - share)) == 0
        self._low, self._high = (self._low, bound) if is_below else (bound, self._high)
        return is_below

    def __neg__(self) -> float:
        return -(self._low + self._high) / 2
