"""References to rewrite and to change: those of the release and its benchmarks, and made-up ones of the same styles."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LE, GE = r"\le", r"\ge"
Style = Literal["math", "number", "words"]
_BENCHMARKS: dict[str, Style] = {"aime24": "math", "gsm8k": "number", "bamboogle": "words", "hotpotqa": "words"}


@dataclass(frozen=True, slots=True)
class Reference:
    """A right answer."""

    text: str
    style: Style
    """`math`: graded by `math`; `number`: by `numeric`; `words`: by `exact_match`."""


def released_references(folder: Path) -> list[Reference]:
    """The distinct references of the training data and the benchmarks in a folder; empty where it is absent."""
    found = dict[Reference, None]()
    for reference in _read(folder):
        if reference.text.strip():
            found[reference] = None
    return list(found)


def made_references(number: int, seed: int) -> list[Reference]:
    """Made-up references in the styles of MATH and GSM8K, as many as asked for and all distinct."""
    rng = random.Random(seed)
    found = dict[Reference, None]()
    while len(found) < number:
        make = rng.choice(_MAKERS)
        found[Reference(make(rng), "number" if make in _NUMBER_MAKERS else "math")] = None
    return list(found)


def _read(folder: Path) -> Iterator[Reference]:
    import pyarrow.parquet as pq

    for name in ("train_10k.parquet", "valid.parquet"):
        if (folder / name).is_file():
            for row in pq.read_table(folder / name, columns=["ability", "reward_model"]).to_pylist():
                text = row["reward_model"]["ground_truth"]
                yield Reference(text, "math" if row["ability"] == "math" else "words")
    for name, style in _BENCHMARKS.items():
        file = folder / "benchmarks" / f"{name}.jsonl"
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                answer = json.loads(line)["answer"]
                for text in answer if isinstance(answer, list) else [answer]:
                    yield Reference(str(text).split("#### ")[-1], style)


def _integer(rng: random.Random, low: int = 2, high: int = 99) -> int:
    return rng.randint(low, high)


def _polynomial(rng: random.Random) -> str:
    a, b, c = (_integer(rng) for _ in range(3))
    return f"{a}x^2 {rng.choice('+-')} {b}x {rng.choice('+-')} {c}"


def _fraction(rng: random.Random) -> str:
    return rf"{rng.choice(['', '-'])}\frac{{{_integer(rng)}}}{{{_integer(rng)}}}"


def _surd(rng: random.Random) -> str:
    root = rf"\sqrt{{{rng.choice([2, 3, 5, 7, 11, 13])}}}"
    return rf"\frac{{{_integer(rng)} {rng.choice('+-')} {_integer(rng)}{root}}}{{{_integer(rng)}}}"


def _interval(rng: random.Random) -> str:
    low = _integer(rng, -50, 50)
    return f"{rng.choice('([')}{low}, {low + _integer(rng)}{rng.choice(')]')}"


def _half_line(rng: random.Random) -> str:
    return rf"{rng.choice('([')}{_integer(rng, -50, 50)}, \infty)"


def _inequality(rng: random.Random) -> str:
    return rf"{rng.choice('xmkat')} {rng.choice(['<', '>', LE, GE])} {rng.choice([_fraction, _small])(rng)}"


def _between(rng: random.Random) -> str:
    low = _integer(rng, -50, 50)
    return rf"{low} {rng.choice(['<', LE])} x {rng.choice(['<', LE])} {low + _integer(rng)}"


def _small(rng: random.Random) -> str:
    return str(_integer(rng, -99, 99))


def _tuple(rng: random.Random) -> str:
    return "(" + ", ".join(rng.choice([_small, _fraction])(rng) for _ in range(rng.randint(2, 3))) + ")"


def _pair(rng: random.Random) -> str:
    return f"({_small(rng)}, {_small(rng)})"


def _set(rng: random.Random) -> str:
    return r"\{" + ", ".join(map(str, rng.sample(range(-60, 60), rng.randint(2, 4)))) + r"\}"


def _list(rng: random.Random) -> str:
    return ", ".join(map(str, rng.sample(range(-60, 60), rng.randint(2, 4))))


def _matrix(rng: random.Random) -> str:
    rows = [" & ".join(_small(rng) for _ in range(2)) for _ in range(2)]
    return rf"\begin{{pmatrix}} {rows[0]} \\ {rows[1]} \end{{pmatrix}}"


def _line(rng: random.Random) -> str:
    return rf"y = {_fraction(rng)}x {rng.choice('+-')} {_integer(rng)}"


def _circle(rng: random.Random) -> str:
    return f"(x {rng.choice('+-')} {_integer(rng)})^2 + (y {rng.choice('+-')} {_integer(rng)})^2 = {_integer(rng)}"


def _function(rng: random.Random) -> str:
    name = rng.choice(["sin", "cos", "tan", "ln", "exp"])
    return rf"{_integer(rng)}\{name}({_integer(rng)}{rng.choice('xt')} {rng.choice('+-')} {_integer(rng)})"


def _power(rng: random.Random) -> str:
    return f"{_integer(rng, 2, 12)}^{{{_integer(rng, 3, 40)}}}"


def _small_power(rng: random.Random) -> str:
    return rf"{_integer(rng, 1, 9)}.{_integer(rng, 10, 99)} \times 10^{{-{_integer(rng, 3, 40)}}}"


def _letters(rng: random.Random) -> str:
    a, b, c, d = rng.sample("abcdkmnpqrst", 4)
    return f"{a}{b} {rng.choice('+-')} {c}{d}"


def _named(rng: random.Random) -> str:
    name = rng.choice([r"\text{Area}", r"\text{Volume}", "F_{1}", "V", r"P_{\text{max}}", "S_n"])
    return f"{name} = {rng.choice([_small, _fraction])(rng)}"


def _angle(rng: random.Random) -> str:
    return rf"{_integer(rng, 1, 179)}^\circ"


def _with_unit(rng: random.Random) -> str:
    unit = rng.choice(["cm", "m", "km", "kg", "square inches", "hours", "minutes", "cm^2", "feet", "seconds"])
    body, power = (unit[:-2], "^2") if unit.endswith("^2") else (unit, "")
    return rf"{_integer(rng)} \text{{ {body}}}{power}"


def _speed(rng: random.Random) -> str:
    return rf"{_integer(rng)} \, \mathrm{{{rng.choice(['m/s', 'km/h', 'kg'])}}}"


def _money(rng: random.Random) -> str:
    return rf"\${_integer(rng, 1, 9999)}.{_integer(rng, 10, 99)}"


def _percent(rng: random.Random) -> str:
    return rf"{_integer(rng)}\%"


def _based(rng: random.Random) -> str:
    return "".join(rng.choice("1234") for _ in range(4)) + f"_{rng.choice('5678')}"


def _ratio(rng: random.Random) -> str:
    return f"{_integer(rng)}:{_integer(rng, 2, 9)}"


def _plain_number(rng: random.Random) -> str:
    forms = [f"{_integer(rng, 1000, 10**7):,}", str(_integer(rng, 1, 10**5)), f"{_integer(rng)}.{_integer(rng, 10, 99)}"]
    return rng.choice(forms)


def _number_with_unit(rng: random.Random) -> str:
    return f"{_integer(rng)} {rng.choice(['dollars', 'cm', 'kg', 'hours', 'miles', 'apples', 'km/h', 'pounds'])}"


_NUMBER_MAKERS = (_plain_number, _number_with_unit)
_MAKERS = (
    _polynomial, _fraction, _surd, _interval, _half_line, _inequality, _between, _tuple, _pair, _set, _list, _matrix, _line,
    _circle, _function, _power, _small_power, _letters, _named, _angle, _with_unit, _speed, _money, _percent, _based, _ratio,
    *_NUMBER_MAKERS,
)  # fmt: skip
