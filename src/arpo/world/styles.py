"""The styles of a world by name."""

from arpo.world.config import StyleName
from arpo.world.natural import NATURAL
from arpo.world.plain import PLAIN
from arpo.world.style import Style

STYLES: dict[StyleName, Style] = {"plain": PLAIN, "natural": NATURAL}
