"""`arpo doctor` looks for the packages that the extras install, and for no others."""

import re
import tomllib
from functools import partial
from pathlib import Path

import pytest

from arpo.cli.commands.doctor import CHECKS

_PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
_EXTRAS = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
_LOOKED_FOR = {name: check.args for name, check in CHECKS.items() if isinstance(check, partial)}


@pytest.mark.parametrize("extra", sorted(_LOOKED_FOR))
def test_an_extra_is_present_when_every_package_it_installs_is(extra: str) -> None:
    name, *packages = _LOOKED_FOR[extra]
    assert name == extra
    assert set(packages or [extra]) == {re.split(r"[<>=!~ \[]", requirement)[0] for requirement in _EXTRAS[extra]}
