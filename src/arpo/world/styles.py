"""The styles of a world by name."""

from arpo.world.plain import PLAIN
from arpo.world.style import Style

STYLES: dict[str, Style] = {"plain": PLAIN}
