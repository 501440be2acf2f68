"""A style of a world, as data: how its questions, pages, queries and thoughts are worded, and patterns that read them again."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from arpo.world.kinds import ATTRIBUTES, EntityType, Operation

Source = Literal["registry", "almanac", "chronicle"]
"""`registry`: right about everything; `almanac`: wrong about some facts; `chronicle`: about what no question asks for."""
Situation = Literal["one", "two", "clear", "conflict", "nothing", "computed"]
"""What a thought follows: a question about one entity or two, a value that one page states or two pages state differently, a
result without the value, the result of a computation."""
Plan = Literal["go_on", "answer", "check", "compute", "guess"]
"""What a thought decides to do."""
Wordings = Mapping[str, float]
"""Wording to relative frequency."""

_VALUES = {"year": r"\d{4}", "number": r"\d+"}
_NAME = r"[A-Z]\w+(?: [A-Z]\w+)?"


@dataclass(frozen=True, kw_only=True)
class Style:
    """The wordings of one style.

    Placeholders are `{name}` for an entity, `{value}` for a value; in remarks `{city}`, `{person}` and `{year}` as well.
    """

    questions: Mapping[str, Sequence[str]]
    """Kind to its wordings, with one `{}` per entity."""
    pages: Mapping[Source, Sequence[str]]
    """Source to its page forms, with `{name}` and `{body}`."""
    statements: Mapping[str, Sequence[str]]
    """Attribute to its wordings, with `{value}`."""
    remarks: Mapping[EntityType, Sequence[str]]
    """What a chronicle says of an entity."""
    sources: Mapping[Source, str]
    """The name of a source in a thought."""
    queries: Mapping[str, Wordings]
    """Attribute to its queries, with `{name}`; a page need not have the words of each."""
    vague_query: str
    """A query with nothing but `{name}`."""
    openings: Mapping[Situation, Wordings]
    """How a thought begins in a situation; may be empty, may hold `{name}`."""
    finding: str
    """The thought about a value: `{opening}`, `{source}`, `{value}`, `{plan}`."""
    result: str
    """The thought about a computed value: `{opening}`, `{value}`."""
    plans: Mapping[Plan, Wordings]
    """How a thought names its plan."""
    programs: Mapping[Operation, Wordings]
    """Operation to its programs, with `{first}` and `{second}`."""
    unknown: str
    """The answer of one who gives up."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page as a reader sees it."""

    source: Source
    name: str
    """The entity it is about."""
    body: str


class Reader:
    """Reads what a style wrote."""

    def __init__(self, style: Style) -> None:
        self._questions = [
            (kind, re.compile(re.escape(wording).replace(r"\{\}", f"({_NAME})")))
            for kind, wordings in style.questions.items()
            for wording in wordings
        ]
        self._pages: list[tuple[Source, re.Pattern[str]]] = [
            (source, re.compile(f"(?:{_NAME}: )?" + _pattern(form, name=_NAME, body=".*"))) for source, forms in style.pages.items() for form in forms
        ]
        self._statements = {
            attribute: [re.compile(_pattern(s, value=_VALUES.get(ATTRIBUTES[attribute].value, _NAME))) for s in wordings]
            for attribute, wordings in style.statements.items()
        }

    def questions(self, text: str) -> Iterator[tuple[str, re.Match[str]]]:
        """Each question in `text`: its kind and the match, whose groups are the entities."""
        return ((kind, match) for kind, pattern in self._questions for match in pattern.finditer(text))

    def pages(self, result: str) -> Iterator[Page]:
        """The pages of a search result whose form is known, in order."""
        for text in re.findall(r"^Page \d+: (.*)$", result, re.MULTILINE):
            for source, pattern in self._pages:
                if match := pattern.fullmatch(text):
                    yield Page(source, match["name"], match["body"])
                    break

    def value(self, page: Page, attribute: str) -> str | None:
        """The value of `attribute` that a page states; None: it states none."""
        for pattern in self._statements[attribute]:
            if match := pattern.search(page.body):
                return match["value"]
        return None


def draw(rng: random.Random, wordings: Wordings) -> str:
    """A wording by its frequency."""
    return rng.choices(list(wordings), list(wordings.values()))[0]


def _pattern(form: str, **groups: str) -> str:
    """A pattern that matches what the template `form` gives; `groups` has the pattern of each placeholder."""
    pattern = re.escape(form)
    for name, group in groups.items():
        placeholder = re.escape("{" + name + "}")
        pattern = pattern.replace(placeholder, f"(?P<{name}>{group})", 1).replace(placeholder, f"(?P={name})")
    return pattern
