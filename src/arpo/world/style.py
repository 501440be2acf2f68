"""A style of a world, as data: how its questions, pages, queries and thoughts are worded, and patterns that read them again."""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from arpo.world.kinds import ATTRIBUTES, EntityType, Operation, ValueType
from arpo.world.names import NameParts

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
_SUBJECT = r"[A-Z]\w+(?: \w+)?"


@dataclass(frozen=True, kw_only=True)
class Style:
    """The wordings of one style.

    Placeholders are `{name}` for an entity, `{value}` for a value, and those that a field names.
    """

    draw_name_parts: Callable[[random.Random], NameParts]
    """The parts of a world's names."""
    inhabitants: range
    """Numbers of inhabitants; a guessed number is one to nine times the first."""
    questions: Mapping[str, Sequence[str]]
    """Kind to its wordings, with one `{}` per entity."""
    pages: Mapping[Source, Sequence[str]]
    """Source to its page forms, with `{name}` and `{body}`."""
    page_words: Mapping[Source, range]
    """Source to the fewest words of a page's body, drawn anew per page: remarks fill it; absent: no remark joins facts."""
    statements: Mapping[str, Sequence[str]]
    """Attribute to its wordings, with `{value}`, `{name}` and, at the beginning, `{subject}`."""
    subjects: Mapping[EntityType, Sequence[str]]
    """How a page speaks of its entity where it says `{subject}`, with `{name}` and `{last}`, the last word of the name."""
    remarks: Mapping[EntityType, Sequence[str]]
    """What a page says of an entity that no question asks for, with `{name}`, `{last}`, `{subject}` and the distractors."""
    distractors: Sequence[ValueType]
    """Values of which a remark may name one each."""
    nouns: Mapping[str, str]
    """Attribute to its `{attribute}` in a thought."""
    sources: Mapping[Source, str]
    """The name of a source in a thought."""
    queries: Mapping[str, Wordings]
    """Attribute to its queries, with `{name}`; a page need not have the words of each."""
    vague_query: str
    """A query with nothing but `{name}`."""
    openings: Mapping[Situation, Wordings]
    """How a thought begins in a situation; may be empty, may hold the `{name}` and the `{attribute}` looked for."""
    findings: Wordings
    """Thoughts about a value: `{opening}`, `{source}`, `{value}`, `{plan}`, and whose it is: `{name}`, `{attribute}`.

    The source precedes the value and the plan, so that a bad choice is one word and what follows is right."""
    results: Wordings
    """Thoughts about a computed value: `{opening}`, `{value}`."""
    plans: Mapping[Plan, Wordings]
    """How a thought names its plan; to go on, with the next `{name}` and `{attribute}`."""
    programs: Mapping[Operation, Wordings]
    """Operation to its programs, with `{first}` and `{second}`."""
    answers: Wordings
    """Answers, with `{value}`."""
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
            (source, re.compile(f"(?:{_NAME}: )?" + _pattern(form, name=_NAME, body=".*")))
            for source, forms in style.pages.items()
            for form in forms
        ]
        self._statements = {
            attribute: [
                re.compile(_pattern(s, value=_VALUES.get(ATTRIBUTES[attribute].value, _NAME), name=_NAME, subject=_SUBJECT))
                for s in wordings
            ]
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
