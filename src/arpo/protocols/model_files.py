"""Reads the JSON files of a model directory."""

import json
from pathlib import Path
from typing import Any, cast

from arpo.errors import ModelError


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file; empty when there is no file.

    Raises:
        ModelError: the file is not valid JSON.
    """
    if not file.is_file():
        return {}
    try:
        return cast(dict[str, Any], json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: not valid JSON ({error})") from error
