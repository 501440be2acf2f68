"""Recipes: folders of ready configurations that ship with the package, found by name."""

from importlib import resources
from pathlib import Path

from arpo.errors import ConfigError


def recipe_names(kind: str) -> list[str]:
    """Names of the shipped recipes that have a `<kind>.toml`, e.g. kind "rl" -> ["quickstart"]."""
    return sorted(folder.name for folder in _root().iterdir() if folder.is_dir() and (folder / f"{kind}.toml").is_file())


def find_recipe(name_or_path: str, kind: str) -> Path:
    """The TOML file a user means by a recipe's name or a path; `kind` is sft, rl, rollout, eval, demos or world.

    Raises:
        ConfigError: neither a file nor the name of a recipe of that kind.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        return path
    recipe = _root() / name_or_path / f"{kind}.toml"
    if name_or_path in recipe_names(kind):
        return recipe
    names = ", ".join(recipe_names(kind)) or "none"
    raise ConfigError(f"recipe {name_or_path!r}: no such recipe or TOML file; recipes with a {kind}.toml: {names}")


def _root() -> Path:
    return Path(str(resources.files("arpo") / "recipes"))
