"""Dotted overrides: the arguments of a command line that set configuration keys."""

from collections.abc import Sequence

from arpo.errors import ConfigError


def join_values(arguments: Sequence[str], *, dotted_only: bool = False) -> list[str]:
    """The arguments with every `--key value` written `--key=value`.

    Args:
        arguments: Of a command line.
        dotted_only: Leave options without a dot as they are, which may be the parser's own; the parser then takes no value of a
            dotted key for a positional argument.

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
        ConfigError: an argument is neither.
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
