"""Recipes: folders of configurations that ship with the package, found by name."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from arpo.errors import ConfigError


def recipe_names(kind: str) -> list[str]:
    """Names of the shipped recipes that have a `<kind>.toml`, e.g. kind "rl" -> ["quickstart"]."""
    return sorted(folder.name for folder in _root().iterdir() if (folder / f"{kind}.toml").is_file())


def find_recipe(name_or_path: str, kind: str) -> Path:
    """The TOML file of a recipe's name or a path; `kind` is sft, rl, rollout, eval, demos or world.

    Raises:
        ConfigError: `name_or_path` is neither a file nor the name of a recipe of that kind.
    """
    shipped = {name: _root() / name / f"{kind}.toml" for name in recipe_names(kind)}
    return _find(name_or_path, shipped, f"recipe {name_or_path!r}: no such recipe or TOML file; recipes with a {kind}.toml")


def find_study(name_or_path: str) -> Path:
    """The TOML file of a shipped part of the study, by name, or of a path.

    Raises:
        ConfigError: `name_or_path` is neither a TOML file nor such a name.
    """
    shipped = {file.stem: file for file in sorted((_root() / "study").glob("*.toml"))}
    return _find(name_or_path, shipped, f"study {name_or_path!r}: no such TOML file; shipped files")


def _find(name_or_path: str, shipped: Mapping[str, Path], refusal: str) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        return path
    if name_or_path in shipped:
        return shipped[name_or_path]
    raise ConfigError(f"{refusal}: {', '.join(shipped) or 'none'}")


def read_recipe_in(folder: Path, name: str, kind: str) -> dict[str, Any]:
    """A recipe's keys; every path below its default folder, `runs/<name>`, is moved below `folder`.

    Raises:
        ConfigError: there is no recipe of that name and kind.

    Example: `out = "runs/quickstart/sft"` in `folder` = elsewhere becomes `out = "elsewhere/sft"`.
    """
    default = Path("runs") / name

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(inner) for key, inner in value.items()}
        is_path = isinstance(value, str) and value.startswith(f"{default}/")
        return str(folder / Path(value).relative_to(default)) if is_path else value

    return moved(tomllib.loads(find_recipe(name, kind).read_text(encoding="utf-8")))


def _root() -> Path:
    return Path(str(resources.files("arpo") / "recipes"))
