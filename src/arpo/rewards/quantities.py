"""Numbers with units: `1.95 m`, `$3.5 million`, `90°`, `about 12 km/h`.

No unit library is used: those that parse expressions evaluate them, and text of a model is never evaluated here.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from arpo.rewards.answer_text import parse_number, plain

_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "k": 10**3, "million": 10**6, "mn": 10**6, "mio": 10**6, "billion": 10**9, "bn": 10**9,
    "trillion": 10**12, "dozen": 12,
}  # fmt: skip
_UNITS = {
    "m": "nm 1e-9 um 1e-6 µm 1e-6 mm 0.001 cm 0.01 dm 0.1 m 1 km 1000 in 0.0254 inch 0.0254 inche 0.0254 ft 0.3048 foot 0.3048 "
    "feet 0.3048 yd 0.9144 yard 0.9144 mi 1609.344 mile 1609.344 metre 1 meter 1 kilometre 1000 kilometer 1000 "
    "centimetre 0.01 centimeter 0.01 millimetre 0.001 millimeter 0.001",
    "kg": "mg 1e-6 g 0.001 kg 1 t 1000 tonne 1000 gram 0.001 kilogram 1 lb 0.45359237 pound 0.45359237 oz 0.028349523125 "
    "ounce 0.028349523125",
    "s": "ms 0.001 s 1 sec 1 second 1 min 60 minute 60 h 3600 hr 3600 hour 3600 day 86400 week 604800",
    "m/s": "m/s 1 km/h 5/18 kmh 5/18 kph 5/18 mph 0.44704",
    "m^2": "ha 1e4 hectare 1e4",
    "m^3": "ml 1e-6 cl 1e-5 dl 1e-4 l 0.001 litre 0.001 liter 0.001 millilitre 1e-6 milliliter 1e-6",
    "degree": "degree 1 deg 1 ° 1",
    "dollar": "dollar 1 cent 0.01 usd 1",
}


UNITS = {
    unit: (base, Fraction(factor))
    for base, pairs in _UNITS.items()
    for unit, factor in zip(pairs.split()[::2], pairs.split()[1::2], strict=True)
}
"""Unit -> its base unit and the number of base units in it."""

_ABOUT = re.compile(r"^(?:about|approximately|approx\.?|around|roughly|nearly|circa|ca\.|~|≈|\\approx|\\sim)\s*", re.IGNORECASE)
_CURRENCY = {"$": "dollar", "€": "euro", "£": "pound sterling", "¥": "yen"}
_NUMBER = re.compile(
    r"(?P<number>[-+]?\s*(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)\.?)(?:e[-+]?\d{1,2}(?![\w]))?(?:\s*/\s*\d+)?"
    r"|[-+]?\\[dt]?frac\s*(?:\{[-+]?\d+\}|\d)(?:\{\d+\}|\d))\s*(?P<rest>.*)",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)


@dataclass(slots=True, frozen=True)
class Quantity:
    """A number with its unit."""

    value: Fraction
    """In the base unit, where the unit is known."""
    written: Fraction
    """In the unit as written."""
    unit: str
    """The base unit, or the words as written; empty without a unit."""
    is_integer: bool
    """Whether it is written without decimal point, fraction and percent sign."""


def read_quantity(text: str) -> Quantity | None:
    r"""The quantity of a text, None for any other text.

    Known: what `parse_number` knows, `about` and its like before it, `hundred` to `trillion`, a currency sign, and a unit
    after it, which is converted where the table has it and stays as words where not.

    Example:
        read_quantity("1.95 m") == read_quantity("195 cm"); read_quantity("$3.5 million").value == 3_500_000
        read_quantity("in 1999") is None
    """
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degree", "°", plain(text))
    text = _ABOUT.sub("", text.strip("*"), count=1).strip()
    bare = parse_number(text)
    currency = next((unit for sign, unit in _CURRENCY.items() if sign in text[:2]), "")
    if bare is not None:
        return Quantity(bare, bare, currency, is_integer=_is_integer(text))
    match = _NUMBER.fullmatch(re.sub(r"^([-+]?)[$€£¥]\s*", r"\1", text))
    value = parse_number(re.sub(r"\s+", "", match["number"])) if match and len(text) <= _MAX_LENGTH else None
    if match is None or value is None:
        return None
    words = re.sub(r"\^\{(\d)\}", r"^\1", match["rest"]).replace("²", "^2").replace("³", "^3").strip(" .").lower().split()
    while words and words[0] in _SCALES:
        value *= _SCALES[words.pop(0)]
    base, factor = _unit(" ".join(words))
    return Quantity(value * factor, value, base or currency, is_integer=_is_integer(match["number"]))


_MAX_LENGTH = 200


def _is_integer(text: str) -> bool:
    return not re.search(r"\.\d|/|%|frac|e-", text)


def _unit(words: str) -> tuple[str, Fraction]:
    """The base unit and the number of them; the words themselves where they are no known unit."""
    words = re.sub(r"^degrees? celsius$", "°c", words)
    powers = {2: ("square ", "^2"), 3: ("cubic ", "^3")}
    power = next((n for n, (before, after) in powers.items() if words.startswith(before) or words.endswith(after)), 1)
    name = words.removeprefix("square ").removeprefix("cubic ").removesuffix("^2").removesuffix("^3").strip()
    name = name if name in UNITS else name.removesuffix("s")
    base, factor = UNITS.get(name, (name, Fraction(1)))
    return (base if power == 1 or not base else f"{base}^{power}"), factor**power
