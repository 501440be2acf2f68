"""Dotted overrides: the arguments of a command line that set configuration keys."""

from collections.abc import Sequence

from arpo.config import Config
from arpo.errors import ConfigError

_TOOLS = ("agent.tools.", "tools.", "")
"""Where configurations have the section of the tools."""


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


def place_tools(cls: type[Config], overrides: Sequence[str]) -> list[str]:
    """The overrides with the keys of tools where `cls` has its section of tools; they may be spelled as for any other command.

    Example:
        place_tools(RlRun, ["search.index=x", "tools.python.wall_s=1"])  # -> ["agent.tools.search.index=x", ...]
    """
    from arpo.tools.config import ToolsConfig

    fields = cls.model_fields
    own = _TOOLS[0] if "agent" in fields else _TOOLS[1] if "tools" in fields else _TOOLS[2] if cls is ToolsConfig else None

    def place(override: str) -> str:
        bare = next(override.removeprefix(prefix) for prefix in _TOOLS if override.startswith(prefix))
        is_tools = bare.split(".")[0].split("=")[0] in ToolsConfig.model_fields
        is_own = override.split(".")[0].split("=")[0] in fields
        return f"{own}{bare}" if own is not None and is_tools and not is_own else override

    return [place(override) for override in overrides]
