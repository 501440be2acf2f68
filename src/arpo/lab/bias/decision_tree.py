"""A task and a tabular policy so small that the gradient of the expected reward is a finite sum."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Union

import numpy as np
from numpy.typing import NDArray

Shape = Mapping[str, Union[float, "Shape"]]
"""The possible completions after the prompt or a result: completion -> its reward for an answer, or the shape after its result.

A letter is a token; no completion is the beginning of another.

Example: {"ay": 1.0, "as": {"y": 1.0, "x": 0.0}}: after "a" comes an answer or a search; after its result, one of two answers.
"""

PROMPT, RESULT = "?", "!"

SHAPE: Shape = {
    "as": {"us": {"y": 1.0, "x": 0.0}, "ux": 0.0, "vy": 1.0, "vx": 0.0},
    "ax": 0.0,
    "bs": {"y": 0.5, "x": 0.0},
}
"""The study's task: 8 trajectories of one to three turns, rewards 0, 0.5 and 1.

One answers without a search, so that groups may need top-ups. The first token of a turn decides how sure the second is, so that
a window of two tokens differs from a window of one.
"""

PROBABILITIES: Mapping[str, float] = {
    "?a": 0.7, "?as": 0.8, "?bs": 1.0,
    "?as!u": 0.5, "?as!us": 0.55, "?as!vy": 0.93, "?as!us!y": 0.6,
    "?bs!y": 0.25,
}  # fmt: skip
"""The study's policy: probability of the last token of each prefix; an alternative has the rest.

After "as" a window of one token is less sure than the prompt, after "bs" it is surer; after "as" a window of two is either,
depending on what was drawn.
"""


@dataclass(slots=True, frozen=True)
class Choice:
    """The distribution of the next token at one prefix."""

    tokens: str
    probabilities: NDArray[np.float64]
    """[n] of each token."""
    log_probabilities: NDArray[np.float64]
    """[n]"""
    entropy: float
    """Nats."""
    first: int
    """Index of the first of its n logits among the parameters."""

    @classmethod
    def of(cls, tokens: str, logits: NDArray[np.float64], first: int) -> "Choice":
        """The softmax of some logits."""
        shifted = logits - logits.max()
        logs = shifted - np.log(np.exp(shifted).sum())
        return cls(tokens, np.exp(logs), logs, float(-(np.exp(logs) * logs).sum()), first)


class DecisionTree:
    """A shape with a policy that has one logit per prefix and next token, without sharing."""

    def __init__(self, shape: Shape, parameters: Sequence[float] | NDArray[np.float64] | None = None):
        """A policy on `shape`.

        Args:
            shape: The possible completions.
            parameters: [P] logits in the order of the prefixes, depth-first; None: all 0.
        """
        self._shape = shape
        nexts: dict[str, str] = {}
        self.rewards: dict[str, float] = {}
        """Whole trajectory -> its reward."""
        self.calls: set[str] = set()
        """Prefixes that end with a call."""
        self._index(PROMPT, shape, nexts)
        self.num_parameters = sum(map(len, nexts.values()))
        self.parameters = np.zeros(self.num_parameters) if parameters is None else np.asarray(parameters, dtype=np.float64)
        self.choices: dict[str, Choice] = {}
        """Prefix -> distribution of the next token."""
        first = 0
        for prefix, tokens in nexts.items():
            self.choices[prefix] = Choice.of(tokens, self.parameters[first : first + len(tokens)], first)
            first += len(tokens)
        self.alphabet = "".join(sorted({PROMPT, RESULT, *"".join(nexts.values())}))
        """Every token; its index is the token's id."""

    @classmethod
    def of_study(cls) -> "DecisionTree":
        """The study's task with its policy."""
        tree = cls(SHAPE)
        logits = np.zeros(tree.num_parameters)
        for prefix, probability in PROBABILITIES.items():
            choice = tree.choices[prefix[:-1]]
            if len(choice.tokens) > 1:
                logits[choice.first + choice.tokens.index(prefix[-1])] = math.log(probability / (1 - probability))
        return tree.with_parameters(logits)

    @classmethod
    def random(cls, seed: int, *, spread: float = 1.0, shape: Shape = SHAPE) -> "DecisionTree":
        """A policy with normal logits of standard deviation `spread`."""
        tree = cls(shape)
        return tree.with_parameters(np.random.default_rng(seed).normal(0.0, spread, tree.num_parameters))

    def with_parameters(self, parameters: NDArray[np.float64]) -> "DecisionTree":
        """The same task with another policy."""
        return DecisionTree(self._shape, parameters)

    def _index(self, prefix: str, shape: Shape, nexts: dict[str, str]) -> None:
        for completion, outcome in shape.items():
            for end, token in enumerate(completion):
                before = prefix + completion[:end]
                if token not in nexts.setdefault(before, ""):
                    nexts[before] += token
            whole = prefix + completion
            if isinstance(outcome, Mapping):
                self.calls.add(whole)
                self._index(whole + RESULT, outcome, nexts)
            else:
                self.rewards[whole] = outcome

    def is_finished(self, prefix: str) -> bool:
        """Whether a completion ends here."""
        return prefix in self.rewards or prefix in self.calls

    def score(self, prefix: str, completion: str) -> NDArray[np.float64]:
        """[P] gradient of the log-probability of `completion`, or of its beginning, after `prefix`."""
        gradient = np.zeros(self.num_parameters)
        for end, token in enumerate(completion):
            choice = self.choices[prefix + completion[:end]]
            block = slice(choice.first, choice.first + len(choice.tokens))
            gradient[block] -= choice.probabilities
            gradient[choice.first + choice.tokens.index(token)] += 1.0
        return gradient

    def trajectories(self) -> Iterator[tuple[float, float, NDArray[np.float64]]]:
        """Every trajectory's probability, reward and score [P]."""
        for trajectory, reward in self.rewards.items():
            log_probability, score = 0.0, np.zeros(self.num_parameters)
            for end in range(1, len(trajectory)):
                if trajectory[end] != RESULT:
                    choice = self.choices[trajectory[:end]]
                    log_probability += choice.log_probabilities[choice.tokens.index(trajectory[end])]
                    score += self.score(trajectory[:end], trajectory[end])
            yield math.exp(log_probability), reward, score

    @cached_property
    def expected_reward(self) -> float:
        """The sum of probability * reward over all trajectories."""
        return sum(probability * reward for probability, reward, _ in self.trajectories())

    @cached_property
    def gradient(self) -> NDArray[np.float64]:
        """[P] of the expected reward: the sum of probability * reward * score over all trajectories."""
        return sum((p * reward * score for p, reward, score in self.trajectories()), np.zeros(self.num_parameters))
