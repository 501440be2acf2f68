"""Every command in `--help` and in the documents is one that the command line takes: real parser, real keys, dry runs."""

import argparse
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from arpo.cli.kinds import KINDS, config_class
from arpo.cli.main import COMMANDS, build_parser, main
from arpo.cli.overrides import join_values, place_tools, to_overrides
from arpo.config import load_config
from arpo.errors import ArpoError

from .blocks import PAGES, ROOT, Line, blocks, command_lines, help_lines, mentions

DRY_RUN = {"sft": "sft", "train": "rl", "rollout": "rollout", "eval": "eval", "demos": "demos"}
"""Command -> kind of its configuration; `--dry-run` reads files and keys as the command would."""
WITH_KEYS = {"world": "world", "tool": "tools"}
"""Command -> kind of its configuration, of which the keys are read."""
RUN = ("algorithms", "benchmarks", "config")
"""Commands that run here as they are written."""
PARSED = {
    "init": "writes a folder; tests/integration/test_init.py runs it and the commands that it prints",
    "quickstart": "minutes; tests/integration/test_quickstart.py runs it",
    "smollm2": "hours; tests/integration/test_smollm2.py runs its steps",
    "data": "the reader's files; test_data_page.py and test_first_run.py run it",
    "index": "the reader's files",
    "compare": "finished evaluations",
    "study": "hours",
    "bias": "minutes",
    "bench": "minutes to hours",
    "model": "the network, or a model",
    "export": "a finished run",
    "view": "a finished run",
    "cache": "the reader's cache",
    "doctor": "checks this machine, or needs a model",
}
"""Command -> why its examples are parsed and not run."""
NOT_ARPO = {
    "make": "the target must exist",
    "pip": "the extras must exist; the network",
    "python": "the file must be there or on the page; test_examples.py or test_first_run.py runs it",
    "cd": "the shell", "mkdir": "the shell", "cat": "the shell", "ls": "the shell",
}  # fmt: skip
"""Other first words -> how they are checked."""
SHELL = ("sh", "bash")
MODULES = {"evaluate": "eval"}


def all_lines() -> list[Line]:
    written = [line for page in PAGES for block in blocks(page) if block.language in SHELL for line in command_lines(block)]
    unique = {line.argv: line for line in map(without_launcher, [*written, *help_lines()])}
    return list(unique.values())


def without_launcher(line: Line) -> Line:
    """`torchrun ... -m arpo train` is checked as `arpo train`."""
    is_launched = line.argv[0] == "torchrun" and "arpo" in line.argv
    return Line(line.place, line.argv[line.argv.index("arpo") :]) if is_launched else line


LINES = all_lines()


def arguments(line: Line) -> argparse.Namespace:
    """The parsed line; a wrong option, subcommand or choice ends the test."""
    try:
        args, rest = build_parser().parse_known_args(join_values(line.argv[1:], dotted_only=True))
    except SystemExit as stop:
        raise AssertionError(f"{line}: the parser refuses it ({stop.code})") from None
    assert not rest or args.takes_overrides, f"{line}: unknown arguments {rest}"
    args.rest = rest
    return args


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A folder in which every file of a run that a line names is there: the quickstart's, or like it under a constant rate."""
    monkeypatch.chdir(tmp_path)

    def put(path: str, command: str) -> None:
        file = Path(path)
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            constant = ["--optimizer.schedule=constant", "--optimizer.final_fraction=0"]  # a run that may be made longer
            is_mine = command in ("train", "sft") and "quickstart" not in path
            assert main([command, "quickstart", "--dry-run", *(constant if is_mine else [])]) == 0
            file.write_text(capsys.readouterr().out)

    return put


@pytest.mark.parametrize("line", [line for line in LINES if line.argv[0] == "arpo"], ids=str)
def test_an_example_is_a_command_that_arpo_takes(line: Line, workplace, capsys: pytest.CaptureFixture[str]):
    check(line, workplace, capsys)


@pytest.mark.parametrize(
    "line",
    ["arpo trian quickstart", "arpo train quickstart --rollout.group_sise=8", "arpo data chekc FILE", "arpo view RUN --outt x",
     "arpo eval nowhere", "arpo sft --resume runs/x --seed=3", "arpo config docs lr", "arpo tool list --search.top_kk=3",
     "arpo train quickstart --rollout.group_size=8 --rollout.num_initial_trajectories=8"],
)  # fmt: skip
def test_a_wrong_example_would_be_found(line: str, workplace, capsys: pytest.CaptureFixture[str]):
    with pytest.raises((AssertionError, ArpoError)):
        check(Line("a page", tuple(line.split())), workplace, capsys)


def check(line: Line, put: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a line dry, or as it is, or read its options and keys, by its command."""
    if "--help" in line.argv or "--version" in line.argv:
        assert line.argv[1] in (*BY_NAME, "COMMAND"), line
        return
    args = arguments(line)
    if args.command in DRY_RUN:
        if getattr(args, "resume", None) not in (None, Path("auto")):
            put(f"{args.resume}/config.toml", args.command)
        elif args.recipe.endswith(".toml"):
            put(args.recipe, args.command)
        argv = [*line.argv[1:], *([] if "--dry-run" in line.argv else ["--dry-run"])]
        assert main(argv) == 0, f"{line}: {capsys.readouterr().err}"
    elif args.command in RUN and not getattr(args, "file", None):
        assert main(line.argv[1:]) == 0, f"{line}: {capsys.readouterr().err}"
    elif args.command in WITH_KEYS:
        cls = config_class(WITH_KEYS[args.command])
        load_config(cls, None, place_tools(cls, to_overrides(args.rest)))
    elif args.rest:
        assert args.command == "doctor", f"{line}: no test reads the keys of this command"
        load_config(config_class("rl"), ROOT / "src/arpo/recipes/quickstart/rl.toml", to_overrides(args.rest))


BY_NAME = {MODULES.get(name, name): name for name in COMMANDS}


def test_every_command_says_how_its_examples_are_checked():
    assert {*DRY_RUN, *WITH_KEYS, *RUN, *PARSED} == set(BY_NAME)


@pytest.mark.parametrize("line", [line for line in LINES if line.argv[0] != "arpo"], ids=str)
def test_an_example_of_another_program_names_what_is_there(line: Line):
    program, *words = line.argv
    assert program in NOT_ARPO, f"{line}: no test knows this program; add it to NOT_ARPO with its reason"
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for word in words:
            name, is_variable, _ = word.partition("=")
            known = rf"^{re.escape(name)}\s*\??=" if is_variable else rf"^{re.escape(name)}:"
            assert re.search(known, makefile, re.MULTILINE), f"{line}: the Makefile has no {name}"
    if program == "python":
        named = {block.name for page in PAGES for block in blocks(page)}
        assert (ROOT / words[0]).is_file() or words[0] in named, line
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in re.findall(r"arpo\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= set(extras), f"{line}: no extra {extra}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_block_of_commands_says_that_it_is_one(page: Path):
    """So that no command escapes these tests."""
    for block in blocks(page):
        first = [line.split()[0] for line in block.text.splitlines() if line.strip()]
        holds_commands = {"arpo", "make", ".venv/bin/arpo", "$"} & set(first)
        assert block.language in SHELL or not holds_commands, f"{block.place}: a block of commands; write ```sh"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_command_in_the_text_has_options_and_keys_that_exist(page: Path):
    """Words in capitals and dots stand for values; every command, option and key must be there. A changelog tells what was."""
    faults = []
    for line in mentions(page):
        words = [word.strip("[]()") for word in line.argv[1:] if word not in ("...", "…", "|")]
        parser = parser_of(words)
        options = {option for action in parser._actions for option in action.option_strings} if parser else set()
        for word in words:
            name = word.partition("=")[0]
            if parser is None or (name.startswith("--") and name not in options and not is_key(words[0], name[2:])):
                faults.append(f"{line}: {word}")
                break
    assert not faults


def parser_of(words: list[str]) -> argparse.ArgumentParser | None:
    """The parser of the command and subcommands that the words begin with; None: there is no such command."""
    parser = build_parser()
    for word in words:
        choices = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
        if choices is None or word.startswith("-") or word.isupper():
            return parser
        if word not in choices:
            return None
        parser = choices[word]
    return parser


def is_key(command: str, key: str) -> bool:
    """Whether a dotted key is one of the command's configuration, or a section of it."""
    kind = (DRY_RUN | WITH_KEYS | {"doctor": "rl"}).get(command)
    return kind is not None and exists(kind, key)


def exists(kind: str, key: str) -> bool:
    """Whether a kind of configuration has a key or section of this name."""
    from arpo.config import config_keys

    for known, *_ in config_keys(config_class(kind)):
        pattern = re.escape(known).replace("<name>", r"[\w-]+")
        if re.fullmatch(rf"{pattern}(\..+)?", key) or re.match(rf"{re.escape(key)}\.", known):
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_configuration_in_a_document_has_keys_that_exist(page: Path):
    for block in blocks(page):
        if block.language != "toml" or block.reason:
            continue
        keys = tomllib.loads(block.text)
        kinds = [kind for kind in KINDS if all(exists(kind, key) for key in leaves(keys))]
        assert kinds, f"{block.place}: no kind of configuration has all of {leaves(keys)}"


def leaves(keys: dict, prefix: str = "") -> list[str]:
    """Dotted keys of the values."""
    found: list[str] = []
    for key, value in keys.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]
    return found
