"""Commands that run a recipe: `arpo COMMAND RECIPE --section.key=VALUE`, or `arpo COMMAND --resume RUN`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arpo.cli.kinds import config_class
from arpo.cli.output import result_console
from arpo.cli.overrides import place_tools, to_overrides
from arpo.config import dump_config, load_config
from arpo.errors import ConfigError
from arpo.recipes import find_recipe
from arpo.tracking.run_directory import how_to_go_on, require_run
from arpo.training.resumption import changeable_words, go_on, may_change

AUTO = Path("auto")
"""Value of `--resume` that takes the run of the recipe, if there is one."""
Start = Callable[[argparse.Namespace, Any], None]
"""Runs a configuration and prints the result; imports what is heavy when it is called."""


def add_run_arguments(parser: argparse.ArgumentParser, kind: str, start: Start, *, resumes: bool = False) -> None:
    """Make a command run recipes of a kind, a key of `KINDS`; with `resumes` it also goes on with a run."""
    parser.usage = f"{parser.prog} RECIPE [--dry-run] [--section.key=VALUE ...]"
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="name of a shipped recipe, or a TOML file")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
    parser.add_argument_group("configuration", f"any key of `arpo config docs {kind}` as --section.key=VALUE, after the recipe")
    if resumes:
        parser.usage += (
            f"\n       {parser.prog} --resume RUN [--section.key=VALUE ...]\n       {parser.prog} RECIPE --resume auto"
        )
        parser.add_argument(
            "--resume", type=Path, metavar="RUN",
            help="run directory to go on with, by its own configuration; `auto` goes on with the run of RECIPE if there is "
            "one, else starts it",
        )  # fmt: skip
        parser.add_argument(
            "--functions", choices=("copies", "files"), default="same",
            help="where functions of your own come from that changed since the run began: the copies that the run keeps, or "
            "your files as they are now (default: they must be unchanged)",
        )  # fmt: skip
    parser.set_defaults(takes_overrides=True, run=run_recipe, kind=kind, start=start)


def run_recipe(args: argparse.Namespace) -> int:
    """Run a recipe or go on with a run; with `--dry-run` print its configuration alone.

    Raises:
        ConfigError: no recipe is named, keys are set beside `--resume`, or as `load_config`.
        RunError: the run to go on with is no run directory, or that of another command.
    """
    config: Any = _load_configuration(args)
    if args.dry_run:
        result_console().out(dump_config(config), end="")
        return 0
    try:
        args.start(args, config)
    except KeyboardInterrupt:
        if "resume" not in args:
            raise
        raise KeyboardInterrupt(how_to_go_on(config.out)) from None
    return 0


def _load_configuration(args: argparse.Namespace) -> Any:
    """The recipe's configuration with overrides on top, or that of the run to go on with, which may have been moved."""
    command, cls = f"arpo {args.command}", config_class(args.kind)
    resumed = getattr(args, "resume", None)
    if resumed is None or resumed == AUTO:
        if args.recipe is None:
            raise ConfigError(f"{command}: name a recipe or a TOML file, e.g. `{command} quickstart`")
        config = load_config(cls, find_recipe(args.recipe, args.kind), place_tools(cls, to_overrides(args.rest)))
        return config if resumed is None else _resume_or_start(args, config)
    overrides = to_overrides(args.rest)
    refused = [f"--{o}" for o in overrides if not may_change(cls, o.split("=")[0])]
    if others := [*filter(None, [args.recipe]), *refused]:
        raise ConfigError(
            f"{command} --resume: {others[0]!r} has no place here; a resumed run keeps its own "
            f"configuration{changeable_words(cls)}"
        )
    require_run(resumed, args.command)
    config = load_config(cls, resumed / "config.toml", overrides).model_copy(update={"out": resumed})
    return go_on(config, _ignore)  # the command itself tells the changes


def _resume_or_start(args: argparse.Namespace, config: Any) -> Any:
    """Set `args.resume` to the folder of the configuration's run, or to None where there is none yet."""
    if not (config.out / "config.toml").is_file():
        args.resume = None
        return config
    require_run(config.out, args.command)
    args.resume = config.out
    return go_on(config, _ignore)


def _ignore(_: str) -> None:
    """Receives lines that the command tells itself."""
