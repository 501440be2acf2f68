"""Work the zygote does once so that no program has to: imports, and first uses that are slow."""

import importlib
import io
import os
import random
import sys
from contextlib import redirect_stdout

from . import program

_SIZE_STEP, _MAX_SIZE, _POOL_BYTES = 16, 512, 16_384  # of the interpreter's allocator for small objects
_BYTES_HEADER = b"".__sizeof__()

_COMMON_MODULES = ("collections", "datetime", "decimal", "fractions", "itertools", "json", "math", "re", "statistics", "string")

# A program's first write to a page copies the page, and a first use writes to many: late imports, caches, types.
_FIRST_USES = {
    "": "import re, math, random, json\n[print(f'{i:.2f}', end='') for i in range(2)]\nmath.sqrt(2), re.sub('a', 'b', 'a')",
    "numpy": """
import numpy as np
a = np.arange(4.0).reshape(2, 2)
print(a @ a, a.sum(), a.mean(axis=0), np.linalg.inv(np.eye(2)), np.sqrt(a), np.array([1, 2])[0])
""",
    "sympy": """
import sympy
from sympy import symbols, solve, simplify, expand, factor, diff, integrate, sqrt, Rational, Eq, pi, N, Matrix, factorint
x, y = symbols('x y')
print(solve(x**2 - 2, x), solve([x + y - 3, x - y - 1], [x, y]), simplify((x**2 - 1) / (x - 1)), factor(expand((x + 1)**2)))
print(diff(x**3, x), integrate(x**2, x), sqrt(8) + Rational(1, 3), N(pi, 20), Matrix([[1, 2], [3, 4]]).det(), factorint(12))
print(sympy.Integer(3) ** 2, sympy.gcd(12, 18), sympy.isprime(7), sympy.binomial(5, 2), Eq(x, 1).subs(x, 1))
""",
}


def preload(names: list[str]) -> str | None:
    """Import `names` and use them once; the fault of one of them, None when there is none."""
    for name in (*_COMMON_MODULES, *names):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"preload: cannot import {name!r} in the sandbox ({error})"
    for name in ("", *names) * 2:  # the second use warms what the first one cached
        if name in _FIRST_USES:
            _use(_FIRST_USES[name])
    random.seed(0)  # every program draws the same numbers
    if "numpy" in names:
        importlib.import_module("numpy.random").seed(0)
    return None


def fill_holes() -> list[bytes]:
    """Objects that fill every gap that importing left between small objects; the caller keeps them alive.

    A program's objects then lie together on new pages, not in gaps of hundreds of pages that would have to be copied.
    """
    fillers: list[bytes] = []
    for size in range(_BYTES_HEADER // _SIZE_STEP * _SIZE_STEP + _SIZE_STEP, _MAX_SIZE + 1, _SIZE_STEP):
        in_a_row, last = 0, 0
        while in_a_row < _POOL_BYTES // size - 2:  # a pool without gaps
            fillers.append(bytes(size - _BYTES_HEADER))
            in_a_row = in_a_row + 1 if id(fillers[-1]) == last + size else 0
            last = id(fillers[-1])
    return fillers


def _use(source: str) -> None:
    main = sys.modules["__main__"]
    report = os.memfd_create("report")
    with redirect_stdout(io.StringIO()):
        code = program.Notebook(report).run(source)
    sys.modules["__main__"] = main
    if code != 0:
        text = os.pread(report, 2000, 0).decode()
        raise RuntimeError(f"a preloaded library fails at its first use: {text}")
    os.close(report)
