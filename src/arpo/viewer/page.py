"""HTML pages that need no network and no other file: templates with one shell, style sheets and scripts inline."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from arpo.files.whole import write_text


def write_page(out: Path, template: str, **values: Any) -> Path:
    """Write a template of `assets` with escaped values to `out`, whole or not at all; return `out`."""
    return write_text(out, environment().get_template(template).render(values))


def environment() -> Environment:
    """The templates of every page."""
    templates = Environment(
        loader=PackageLoader("arpo.viewer", "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.globals["inline"] = _inline
    return templates


def _inline(*names: str) -> Markup:
    """Style sheets or scripts of `assets`, one after the other."""
    return Markup("\n".join((Path(__file__).parent / "assets" / name).read_text(encoding="utf-8") for name in names))
