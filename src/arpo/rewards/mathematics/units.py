"""Units: what they measure, and how many of the base unit they are.

A unit library was left out: those that parse expressions evaluate them, and text a model wrote is never evaluated here.
"""

from dataclasses import dataclass
from fractions import Fraction

_TABLE = {
    "m": "nm 1e-9 um 1e-6 mum 1e-6 mm 0.001 cm 0.01 dm 0.1 m 1 km 1000 in 0.0254 inch 0.0254 ft 0.3048 foot 0.3048 "
    "feet 0.3048 yd 0.9144 yard 0.9144 mi 1609.344 mile 1609.344 metre 1 meter 1 kilometre 1000 kilometer 1000 "
    "centimetre 0.01 centimeter 0.01 millimetre 0.001 millimeter 0.001",
    "kg": "mg 1e-6 g 0.001 kg 1 t 1000 tonne 1000 gram 0.001 kilogram 1 lb 0.45359237 pound 0.45359237 oz 0.028349523125 "
    "ounce 0.028349523125",
    "s": "ms 0.001 s 1 sec 1 second 1 min 60 minute 60 h 3600 hr 3600 hour 3600 day 86400 week 604800",
    "month": "month 1 year 12 yr 12 decade 120 century 1200",
    "A": "ampere 1 amp 1",
    "K": "kelvin 1",
    "mol": "mol 1 mole 1",
    "degree": "degree 1 deg 1",
    "radian": "radian 1 rad 1",
    "celsius": "celsius 1 centigrade 1",
    "fahrenheit": "fahrenheit 1",
    "dollar": "dollar 1 cent 0.01 usd 1",
    "euro": "euro 1 eur 1",
    "pound sterling": "gbp 1",
    "yen": "yen 1 jpy 1",
    "rupee": "rupee 1",
    "bit": "bit 1 byte 8",
    "unit": "unit 1",
}
_DERIVED = {
    "ha": (10_000, "m^2"), "hectare": (10_000, "m^2"), "acre": ("4046.8564224", "m^2"), "ml": ("1e-6", "m^3"),
    "mL": ("1e-6", "m^3"), "cl": ("1e-5", "m^3"), "dl": ("1e-4", "m^3"), "l": ("0.001", "m^3"), "L": ("0.001", "m^3"),
    "litre": ("0.001", "m^3"), "liter": ("0.001", "m^3"), "millilitre": ("1e-6", "m^3"), "milliliter": ("1e-6", "m^3"),
    "gallon": ("0.003785411784", "m^3"), "kmh": ("5/18", "m s^-1"), "kph": ("5/18", "m s^-1"), "mph": ("0.44704", "m s^-1"),
    "N": (1, "kg m s^-2"), "newton": (1, "kg m s^-2"), "kN": (1000, "kg m s^-2"), "J": (1, "kg m^2 s^-2"),
    "joule": (1, "kg m^2 s^-2"), "kJ": (1000, "kg m^2 s^-2"), "W": (1, "kg m^2 s^-3"), "watt": (1, "kg m^2 s^-3"),
    "kW": (1000, "kg m^2 s^-3"), "Pa": (1, "kg m^-1 s^-2"), "pascal": (1, "kg m^-1 s^-2"), "kPa": (1000, "kg m^-1 s^-2"),
    "Hz": (1, "s^-1"), "kHz": (1000, "s^-1"), "hertz": (1, "s^-1"), "V": (1, "kg m^2 s^-3 A^-1"),
    "volt": (1, "kg m^2 s^-3 A^-1"), "ohm": (1, "kg m^2 s^-3 A^-2"), "kWh": (3_600_000, "kg m^2 s^-2"), "C": (1, "A s"),
    "coulomb": (1, "A s"),
}  # fmt: skip
_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "k": 10**3, "million": 10**6, "mn": 10**6, "mio": 10**6, "billion": 10**9, "bn": 10**9,
    "trillion": 10**12, "dozen": 12, "万": 10**4, "億": 10**8, "亿": 10**8,
}  # fmt: skip
SCALES = _SCALES
"""Words behind a number that multiply it."""


@dataclass(slots=True, frozen=True)
class Unit:
    """A unit: how many of which base units to which powers."""

    factor: Fraction
    powers: tuple[tuple[str, int], ...]
    """Base units by name with their powers; sorted, none is 0."""

    @property
    def name(self) -> str:
        """The base units in one word, as in `kg m s^-2`."""
        return " ".join(base if power == 1 else f"{base}^{power}" for base, power in self.powers)

    def times(self, other: "Unit", power: int = 1) -> "Unit":
        """This unit times `other` to a power."""
        powers = dict(self.powers)
        for base, exponent in other.powers:
            powers[base] = powers.get(base, 0) + exponent * power
        return Unit(self.factor * other.factor**power, tuple(sorted((b, p) for b, p in powers.items() if p)))


NO_UNIT = Unit(Fraction(1), ())


def _build() -> dict[str, Unit]:
    units = dict[str, Unit]()
    for base, pairs in _TABLE.items():
        words = pairs.split()
        for name, factor in zip(words[::2], words[1::2], strict=True):
            units[name] = Unit(Fraction(factor), ((base, 1),))
    for name, (factor, bases) in _DERIVED.items():
        powers = [(base, int(power or 1)) for base, _, power in (part.partition("^") for part in bases.split())]
        units[name] = Unit(Fraction(factor), tuple(sorted(powers)))
    return units


UNITS = _build()
"""Known units by their singular name."""


def find_unit(word: str) -> Unit | None:
    """The unit a word names, in singular or plural, in any case where that leaves no doubt; None for any other word."""
    for name in (word, *((word.lower(),) if len(word) > 2 else ())):
        for singular in (name, name.removesuffix("s"), name.removesuffix("es")):
            if singular in UNITS and (singular == name or len(singular) > 1):
                return UNITS[singular]
    return None


def named_unit(word: str) -> Unit:
    """The unit a word names; of a word that is no known unit, a unit of its own."""
    singular = word.lower()
    singular = singular.removesuffix("s") if len(singular) > 3 and not singular.endswith("ss") else singular
    return find_unit(word) or Unit(Fraction(1), ((singular, 1),))
