"""Dotted overrides: the arguments of a command line that set configuration keys."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from arpo.config import C, load_config
from arpo.errors import ConfigError, RunError
from arpo.recipes import find_recipe


def join_values(arguments: Sequence[str], *, dotted_only: bool = False) -> list[str]:
    """The arguments with every `--key value` written `--key=value`.

    Args:
        arguments: Of a command line.
        dotted_only: Leave options without a dot as they are, which may be the parser's own; no value of a dotted key is then
            taken for a positional.

    Example:
        join_values(["train", "quickstart", "--rollout.group_size", "8"])  # -> [..., "--rollout.group_size=8"]
    """
    joined: list[str] = []
    for argument in arguments:
        key = joined[-1] if joined else ""
        takes_value = key.startswith("--") and "=" not in key and ("." in key or not dotted_only)
        if takes_value and not argument.startswith("--"):
            joined[-1] = f"{key}={argument}"
        else:
            joined.append(argument)
    return joined


def to_overrides(arguments: Sequence[str]) -> list[str]:
    """`key=value` for each leftover `--key=value` or `--key value`.

    Raises:
        ConfigError: an argument that is neither.
    """
    overrides: list[str] = []
    for argument in join_values(arguments):
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise ConfigError(f"argument {argument!r}: not understood; a configuration key is set with --section.key=value")
        if not equals:
            raise ConfigError(f"argument {argument!r}: has no value; write {argument}=VALUE")
        overrides.append(f"{key}={value}")
    return overrides


def add_config_arguments(parser: argparse.ArgumentParser, kind: str) -> None:
    """Give a command a recipe, dotted overrides and `--dry-run`."""
    parser.usage = f"{parser.prog} RECIPE [--dry-run] [--section.key=VALUE ...]"
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="name of a shipped recipe, or a TOML file")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
    parser.add_argument_group("configuration", f"any key of `arpo config docs {kind}` as --section.key=VALUE, after the recipe")
    parser.set_defaults(takes_overrides=True)


def load_recipe(args: argparse.Namespace, cls: type[C], kind: str) -> C:
    """The configuration a command was given: a recipe's name or a file, with overrides on top.

    Raises:
        ConfigError: no recipe was given, or as `load_config`.
    """
    if args.recipe is None:
        raise ConfigError(f"arpo {args.command}: name a recipe or a TOML file, e.g. `arpo {args.command} quickstart`")
    return load_config(cls, find_recipe(args.recipe, kind), to_overrides(args.rest))


def add_resume_argument(parser: argparse.ArgumentParser) -> None:
    """Let a command of `add_config_arguments` go on with a run instead."""
    parser.usage = f"{parser.usage}\n       {parser.prog} --resume RUN"
    parser.add_argument("--resume", type=Path, metavar="RUN", help="run directory to go on with, by its own configuration")


def load_recipe_or_run(args: argparse.Namespace, cls: type[C], kind: str) -> C:
    """The configuration of the run to go on with, which may have been moved; without `--resume` that of `load_recipe`.

    Raises:
        ConfigError: keys are set beside `--resume`, or as `load_recipe`.
        RunError: it is no run directory.
    """
    if args.resume is None:
        return load_recipe(args, cls, kind)
    if args.recipe or args.rest:
        given = args.recipe or args.rest[0]
        raise ConfigError(
            f"arpo {args.command} --resume: {given!r} has no place here; a resumed run keeps its own configuration"
        )
    path = args.resume / "config.toml"
    if not path.is_file():
        raise RunError(f"{args.resume}: not a run directory (it has no config.toml)")
    return load_config(cls, path).model_copy(update={"out": args.resume})
