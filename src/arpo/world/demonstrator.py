"""A scripted demonstrator of the offline domain: a pure function from the text of a prefix to the next completion.

It reads the question and the results from the text alone, as a policy would, and writes the tag protocol. It can answer every
question of every world, in many ways; it chooses badly as often as its configuration says.
"""

import random
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from arpo.errors import DataError
from arpo.world.config import DemonstratorConfig
from arpo.world.kinds import KINDS, Kind
from arpo.world.style import Plan, Reader, Situation, Source, Style, Wordings, draw
from arpo.world.styles import STYLES

_RESULT = re.compile(r"<result>\s*(.*?)\s*</result>", re.DOTALL)


class Demonstrator:
    r"""Writes the next completion of a trajectory from the text of its prefix, in the tag protocol.

    What it writes follows from the seed, the question and the results alone. It names the page whose value it takes, so that a
    bad choice is one word and everything else in a demonstration is done right.

    Example (plain):
        "Where was Mira Tolvan born?" may get "<think> find</think><search> Mira Tolvan born</search>"; once its result
        has been appended, "<think> so Registry: Kelford done</think><answer> \boxed{ Kelford}</answer>".
    """

    def __init__(self, seed: int, config: DemonstratorConfig) -> None:
        self._seed = seed
        self._config = config
        self._readers = [(style, Reader(style)) for style in STYLES.values()]

    def next_turn(self, prefix_text: str) -> str:
        """The next completion: one thought, then a search, a Python call or the answer.

        Raises:
            DataError: the prefix holds no question of the offline domain.
        """
        kind, names, history, style, reader = self._read_question(prefix_text)
        rng = random.Random(f"{self._seed}/{kind}/{'/'.join(names)}")
        script = _Script(style, reader, self._config, rng).solve(KINDS[kind], names)
        completion = next(script)
        for result in _RESULT.findall(history):
            completion = script.send(result)
        return completion

    def _read_question(self, text: str) -> tuple[str, Sequence[str], str, Style, Reader]:
        """The last question in the text (kind and names), the text after it, and what reads its style."""
        found = [(match, kind, style, reader) for style, reader in self._readers for kind, match in reader.questions(text)]
        if not found:
            raise DataError(
                f"demonstrator: no question of the offline domain in {text[-200:]!r}; it can only demonstrate tasks that "
                "`arpo world make` wrote"
            )
        match, kind, style, reader = max(found, key=lambda entry: entry[0].start())
        return kind, match.groups(), text[match.end() :], style, reader


@dataclass(frozen=True, slots=True)
class _Finding:
    """A value that a result states, and the page it was taken from."""

    name: str
    attribute: str
    value: str
    source: Source
    situation: Situation


class _Script:
    """One solution of one question: completions out, results in."""

    def __init__(self, style: Style, reader: Reader, config: DemonstratorConfig, rng: random.Random) -> None:
        self._style, self._reader, self._config, self._rng = style, reader, config, rng

    def solve(self, kind: Kind, names: Sequence[str]) -> Generator[str, str, None]:
        """Yield completions and receive the result of each call; the last completion is the answer."""
        several = sum(map(len, kind.chains)) > 1
        values = list[str]()
        thought = self._opening("one" if len(names) == 1 else "two", names[0], kind.chains[0][0])
        finding: _Finding | None = None
        for name, chain in zip(names, kind.chains, strict=True):
            entity = name
            for attribute in chain:
                if finding is not None:
                    if several and self._is("stop_early"):
                        yield self._answer(self._about(finding, "answer"), finding.value)
                        return
                    thought = self._about(finding, "go_on", entity, attribute)
                finding = yield from self._look_up(thought, entity, attribute)
                if finding is None:
                    return
                entity = finding.value
            values.append(entity)
        assert finding is not None  # every chain has a link
        if kind.operation is None:
            yield self._answer(self._about(finding, "answer"), finding.value)
        elif self._is("guess"):
            unit = 10 if kind.operation == "years" else self._style.inhabitants.start
            yield self._answer(self._about(finding, "guess"), str(self._rng.randint(1, 9) * unit))
        else:
            program = draw(self._rng, self._style.programs[kind.operation]).format(first=values[0], second=values[1])
            result = yield _turn(self._about(finding, "compute"), "python", program)
            yield self._answer(self._words(self._style.results, opening=self._opening("computed"), value=result), result)

    def _look_up(self, thought: str, entity: str, attribute: str) -> Generator[str, str, _Finding | None]:
        """Search, each time with another query, until a value is taken; None: gave up."""
        queries = dict(self._style.queries[attribute])
        query = self._style.vague_query if self._is("vague_query") else draw(self._rng, queries)
        while True:
            result = yield _turn(thought, "search", query.format(name=entity))
            stated: dict[Source, str] = {
                page.source: value
                for page in self._reader.pages(result)
                if page.name == entity and (value := self._reader.value(page, attribute)) is not None
            }
            findings: dict[Source, _Finding] = {
                source: _Finding(entity, attribute, value, source, "conflict" if len(stated) > 1 else "clear")
                for source, value in stated.items()
            }
            if "almanac" in findings and self._is("trust_almanac"):
                return findings["almanac"]
            if "registry" in findings:
                return findings["registry"]
            if "almanac" in findings:
                thought = self._about(findings["almanac"], "check")
            else:
                thought = self._opening("nothing", entity, attribute)
                if self._is("give_up"):
                    break
            queries.pop(query, None)
            if not queries:
                break
            query = draw(self._rng, queries)
        yield self._answer(thought, self._style.unknown)
        return None

    def _is(self, habit: str) -> bool:
        return self._rng.random() < getattr(self._config, habit)

    def _opening(self, situation: Situation, name: str = "", attribute: str = "") -> str:
        return self._words(self._style.openings[situation], name=name, attribute=self._noun(attribute))

    def _about(self, finding: _Finding, plan: Plan, next_name: str = "", next_attribute: str = "") -> str:
        return self._words(
            self._style.findings,
            opening=self._opening(finding.situation),
            source=self._style.sources[finding.source],
            name=finding.name,
            attribute=self._noun(finding.attribute),
            value=finding.value,
            plan=self._words(self._style.plans[plan], name=next_name, attribute=self._noun(next_attribute)),
        )

    def _noun(self, attribute: str) -> str:
        return self._style.nouns.get(attribute, "")

    def _answer(self, thought: str, value: str) -> str:
        return _turn(thought, "answer", self._words(self._style.answers, value=value))

    def _words(self, wordings: Wordings, **parts: str) -> str:
        """A filled wording, without the spaces that an empty part leaves."""
        wording = draw(self._rng, wordings) if len(wordings) > 1 else next(iter(wordings))
        return " ".join(wording.format(**parts).split())


def _turn(thought: str, tag: str, content: str) -> str:
    return f"<think> {thought}</think><{tag}> {content}</{tag}>"
