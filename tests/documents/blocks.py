"""The fenced blocks and command lines of the documents and of `--help`."""

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from arpo.cli.main import build_parser

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_REASON = re.compile(r"<!-- not run: (.+?) -->\s*\Z", re.DOTALL)
_INLINE = re.compile(r"`(arpo [^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    """First word after the fence."""
    name: str
    """Second word: a file's name; empty: none."""
    text: str
    reason: str
    """Why it is not run, from a comment `<!-- not run: ... -->` above it; empty: it is run."""

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Line:
    """A command line."""

    place: str
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.argv)}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        language, name, *_ = [*match[2].split(), "", ""]
        reason = _REASON.search(text[: match.start()])
        indent = len(match[1])
        body = "".join(line[indent:] for line in match[3].splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, language, name, body, " ".join(reason[1].split()) if reason else ""))
    return found


def command_lines(block: Block) -> Iterator[Line]:
    """The commands of a shell block: joined where a line ends with a backslash, without comments and redirections."""
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        argv = _split(line)
        if argv:
            yield Line(block.place, tuple(argv))


def help_lines() -> list[Line]:
    """The examples of every command's help; a description follows two blanks."""
    lines: dict[tuple[str, ...], Line] = {}
    for name, parser in _parsers("arpo", build_parser()):
        for example in (parser.epilog or "").splitlines():
            if example.startswith("  arpo "):
                argv = tuple(_split(re.split(r" {2,}", example.strip())[0]))
                lines.setdefault(argv, Line(f"{name} --help", argv))
    return list(lines.values())


def mentions(page: Path) -> Iterator[Line]:
    """Commands in the text of a page: `arpo ...` between backticks."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for match in _INLINE.finditer(text):
        yield Line(str(page.relative_to(ROOT)), tuple(match[1].split()))


def _parsers(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, child in action.choices.items():
                yield from _parsers(f"{name} {command}", child)


def _split(line: str) -> list[str]:
    argv = shlex.split(line.removeprefix("$ "), comments=True)
    while argv and re.fullmatch(r"\w+=.*", argv[0]):  # a variable of the shell
        argv = argv[1:]
    ends = [i for i, word in enumerate(argv) if word in (">", "|", "2>", "&&", "2>&1")]
    return argv[: ends[0]] if ends else argv
