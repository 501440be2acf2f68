"""Commands that run a recipe: `arpo COMMAND RECIPE --section.key=VALUE`, or `arpo COMMAND --resume RUN`."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from arpo.cli.kinds import config_class
from arpo.cli.output import result_console
from arpo.cli.overrides import place_tools, to_overrides
from arpo.config import dump_config, load_config
from arpo.errors import ConfigError
from arpo.recipes import find_recipe
from arpo.tracking.run_directory import how_to_go_on, require_run

Start = Callable[[argparse.Namespace, Any], None]
"""Runs a configuration and prints the result; imports what is heavy when it is called."""


def add_run_arguments(
    parser: argparse.ArgumentParser, kind: str, start: Start, *, resumes: bool = False, extends: Sequence[str] = ()
) -> None:
    """Make a command run recipes of a kind, a key of `KINDS`; with `resumes` it also goes on with a run, `extends` changed."""
    parser.usage = f"{parser.prog} RECIPE [--dry-run] [--section.key=VALUE ...]"
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="name of a shipped recipe, or a TOML file")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
    parser.add_argument_group("configuration", f"any key of `arpo config docs {kind}` as --section.key=VALUE, after the recipe")
    if resumes:
        parser.usage += f"\n       {parser.prog} --resume RUN"
        parser.add_argument("--resume", type=Path, metavar="RUN", help="run directory to go on with, by its own configuration")
        parser.add_argument(
            "--functions", choices=("copies", "files"), default="same",
            help="where functions of your own come from that changed since the run began: the copies that the run keeps, or "
            "your files as they are now (default: they must be unchanged)",
        )  # fmt: skip
    parser.set_defaults(takes_overrides=True, run=run_recipe, kind=kind, start=start, extends=extends)


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
    if resumed is None:
        if args.recipe is None:
            raise ConfigError(f"{command}: name a recipe or a TOML file, e.g. `{command} quickstart`")
        return load_config(cls, find_recipe(args.recipe, args.kind), place_tools(cls, to_overrides(args.rest)))
    overrides = to_overrides(args.rest)
    others = [*filter(None, [args.recipe]), *(f"--{o}" for o in overrides if o.split("=")[0] not in args.extends)]
    if others:
        may = f", but for {', '.join(args.extends)}" if args.extends else ""
        raise ConfigError(
            f"{command} --resume: {others[0]!r} has no place here; a resumed run keeps its own configuration{may}"
        )
    require_run(resumed, args.command)
    return load_config(cls, resumed / "config.toml", overrides).model_copy(update={"out": resumed})
