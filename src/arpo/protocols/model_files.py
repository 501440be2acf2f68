"""Reads the JSON files of a model directory."""

import json
from pathlib import Path
from typing import Any, cast

from arpo.errors import ModelError


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file; empty when there is no file.

    Raises:
        ModelError: the file is not a valid JSON object.
    """
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(
            f"{file}: it holds {json.dumps(value)[:60]}, not a JSON object with keys; take the file of the checkpoint"
        )
    return cast(dict[str, Any], value)
