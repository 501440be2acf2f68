"""A rollout tree as HTML inside another page: a notebook's cell."""

from markupsafe import escape

from arpo.tree import RolloutTree
from arpo.viewer.page import environment
from arpo.viewer.run import ShownTree
from arpo.viewer.tree_view import tree_view

_FRAME = 470
"""Height of what stands above and below a tree: its question and the panel of a selected card."""


def tree_html(tree: RolloutTree) -> str:
    """The tree as a report draws it, in a frame of its own, so that neither page changes the other's style."""
    view = tree_view(ShownTree(f"task {tree.task.id}", tree), None)
    page = environment().get_template("notebook.html.j2").render(title="Rollout tree", tree=view)
    height = min(view.height + _FRAME, 1100)
    return f'<iframe srcdoc="{escape(page)}" style="width:100%;height:{height}px;border:0" title="Rollout tree"></iframe>'
