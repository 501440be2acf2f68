"""The style of matplotlib pictures, and how to write them."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from arpo.files.whole import whole

BLUE, ORANGE, TEAL, PURPLE = "#2a6fdb", "#d9622b", "#14907a", "#8250c4"
"""The palette of the HTML pages."""
INK, MUTED, GRID = "#14171c", "#5a6372", "#e8ebf0"
STYLE: dict[Any, Any] = {
    "font.size": 10.5, "axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 30,
    "axes.edgecolor": GRID, "axes.labelcolor": MUTED, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.major.size": 0, "ytick.major.size": 0, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "axes.grid": True, "axes.grid.axis": "y", "grid.color": GRID, "axes.axisbelow": True,
    "legend.frameon": False, "lines.linewidth": 2.2, "lines.solid_capstyle": "round",
}  # fmt: skip


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure, whole or not at all; return `path`."""
    with whole(path) as partial:
        figure.savefig(partial, format="png")
    return path
