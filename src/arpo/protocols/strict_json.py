"""Strict parser of a model's JSON."""

import json
import math
from typing import Any, NoReturn, cast

MAX_DEPTH = 32


def decode_json(text: str, start: int = 0) -> tuple[Any, int]:
    """The JSON value after blanks at `start`, and its end.

    Unlike Python's parser it refuses `NaN` and infinities, numbers too large for a float, lone surrogates, and more than 32
    levels: such values do not survive a file.

    Raises:
        ValueError: there is no valid value; the message tells the model why.

    Example:
        decode_json('{"a": 1} rest')  # -> ({"a": 1}, 8)
    """
    start += len(text[start:]) - len(text[start:].lstrip())
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        advice = "; in a text, a line break is written \\n and a tab \\t" if "control character" in error.msg else ""
        raise ValueError(f"{error.msg.removesuffix(' at')} at character {error.pos - start + 1}{advice}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check(value)
    return value, end


def _check(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return
        inner: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                inner += [x for pair in cast(dict[str, Any], item).items() for x in pair]
            elif isinstance(item, list):
                inner += cast(list[Any], item)
        level = inner
    raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text in it holds half a surrogate pair, which is no character") from None


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _read_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.20} is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_read_float)
