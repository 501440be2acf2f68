"""A scripted demonstrator of the offline domain: a pure function from the text of a prefix to the next completion.

It reads the question and the results from the text alone, as a policy would, and writes the tag protocol. It can answer every
question of every world; each task draws its bad habits, so that demonstrations are imperfect in known ways.
"""

import random
import re
from collections.abc import Generator
from dataclasses import dataclass

from arpo.errors import DataError
from arpo.world.config import DemonstratorConfig
from arpo.world.corpus import REGISTRY
from arpo.world.kinds import ATTRIBUTES, KINDS, Kind, Operation

_NAME = r"[A-Z][a-z]+(?: [A-Z][a-z]+)?"
_QUESTIONS = {name: re.compile(re.escape(kind.template).replace(r"\{\}", f"({_NAME})")) for name, kind in KINDS.items()}
_RESULT = re.compile(r"<result>\s*(.*?)\s*</result>", re.DOTALL)
_PAGE = re.compile(rf"^Page \d+: (\w+): ({_NAME}), (.*)\.$", re.MULTILINE)
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Habits:
    trust_first_hit: bool
    guess: bool
    stop_early: bool

    @property
    def trusted(self) -> str:
        """The word that says in a thought where a value comes from."""
        return "first" if self.trust_first_hit else REGISTRY


class Demonstrator:
    r"""Writes the next completion of a trajectory from the text of its prefix, in the tag protocol.

    The habits of a task follow from the seed and the question alone. A choice shows in the first words of a thought: `next` or
    `enough` (go on or stop), `compute` or `guess`, `Registry` or `first` (which page is trusted).

    Example:
        Demonstrator(0, DemonstratorConfig(trust_first_hit=0)).next_turn("Where was Mira Tolvan born?") is
        "<think> look up</think><search> Mira Tolvan born</search>"; once that search's result has been appended, it is
        "<think> done Registry: Kelford</think><answer> \boxed{ Kelford}</answer>".
    """

    def __init__(self, seed: int, config: DemonstratorConfig) -> None:
        self._seed = seed
        self._config = config

    def next_turn(self, prefix_text: str) -> str:
        """The next completion: one thought, then a search, a Python call or the answer.

        Raises:
            DataError: the prefix holds no question of the offline domain.
        """
        kind, names, history = _read_question(prefix_text)
        rng = random.Random(f"{self._seed}/{kind}/{'/'.join(names)}")
        habits = _Habits(
            trust_first_hit=rng.random() < self._config.trust_first_hit,
            guess=rng.random() < self._config.guess,
            stop_early=rng.random() < self._config.stop_early,
        )
        script = _solve(KINDS[kind], names, habits, rng)
        completion = next(script)
        for result in _RESULT.findall(history):
            completion = script.send(result)
        return completion


def _read_question(prefix_text: str) -> tuple[str, tuple[str, ...], str]:
    """(kind, names, following text) of the last question in the prefix."""
    questions = [(match, kind) for kind, pattern in _QUESTIONS.items() for match in pattern.finditer(prefix_text)]
    if not questions:
        raise DataError(
            f"demonstrator: no question of the offline domain in {prefix_text[-200:]!r}; it can only demonstrate tasks that "
            "`arpo world make` wrote"
        )
    match, kind = max(questions, key=lambda pair: pair[0].start())
    return kind, match.groups(), prefix_text[match.end() :]


def _solve(kind: Kind, names: tuple[str, ...], habits: _Habits, rng: random.Random) -> Generator[str, str, None]:
    """Yield completions and receive the result of each call; the last completion is the answer."""
    thought, value, values = "look up", "", list[str]()
    several = sum(map(len, kind.chains)) > 1
    for name, chain in zip(names, kind.chains, strict=True):
        value = name
        for attribute in chain:
            entity, value = value, ""
            for query_word in (ATTRIBUTES[attribute].query_word, REGISTRY.lower()):
                result = yield _turn(thought, "search", f"{entity} {query_word}")
                value = _read_value(result, entity, attribute, habits)
                if value:
                    break
                thought = "missing"
            if not value:
                yield _answer("missing", _UNKNOWN)
                return
            if several and habits.stop_early:
                yield _answer(f"enough {habits.trusted}: {value}", value)
                return
            thought = f"next {habits.trusted}: {value}"
        values.append(value)
    if kind.operation is None:
        yield _answer(f"done {habits.trusted}: {value}", value)
    elif habits.guess:
        yield _answer(f"guess {habits.trusted}: {value}", _guess(rng))
    else:
        result = yield _turn(f"compute {habits.trusted}: {value}", "python", _write_program(kind.operation, *values))
        yield _answer(f"done result: {result}", result)


def _turn(thought: str, tag: str, content: str) -> str:
    return f"<think> {thought}</think><{tag}> {content}</{tag}>"


def _answer(thought: str, answer: str) -> str:
    return _turn(thought, "answer", f"\\boxed{{ {answer}}}")


def _read_value(result: str, entity: str, attribute: str, habits: _Habits) -> str:
    """The value on the first page that states it, only of the registry without `trust_first_hit`; empty: no page has it."""
    phrase = ATTRIBUTES[attribute].phrase + " "
    for source, title, facts in _PAGE.findall(result):
        if title != entity or not (habits.trust_first_hit or source == REGISTRY):
            continue
        for fact in facts.split(", "):
            if fact.startswith(phrase):
                return fact.removeprefix(phrase)
    return ""


def _write_program(operation: Operation, first: str, second: str) -> str:
    match operation:
        case "difference":
            return f"{first} - {second}"
        case "total":
            return f"{first} + {second}"
        case "years":
            return f"abs({first} - {second})"


def _guess(rng: random.Random) -> str:
    """A round number of the right size."""
    return str(rng.randint(1, 9) * 10)
