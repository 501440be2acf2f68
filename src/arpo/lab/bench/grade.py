"""`arpo bench grade`: speed of the graders, the cost of hostile formulas, and the proof that meanings are told apart."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arpo.lab.bench.machine import machine
from arpo.lab.bench.meaning.proof import prove
from arpo.lab.bench.meaning.references import made_references, released_references
from arpo.lab.bench.report import Report
from arpo.rewards import maths
from arpo.rewards.formulas import compare_formulas
from arpo.rewards.graders import GRADERS
from arpo.tracking.progress import Progress

GRADE_REPORT = Report(
    command="arpo bench grade",
    title="Graders: meanings told apart, and speed",
    explanation="""\
Made-up answers, half of them right, one after another in one thread. *Numbers* are integers, decimals, fractions and lists of
them in different spellings, *names* are names and sentences with them, *formulas* are compared at points. *Hostile* formulas
are compared with 1 under the limit of 2 seconds of computing each; *next* is the comparison after it.

The last tables prove by properties that graders tell meanings apart. Every distinct reference of the release's training data
and of its benchmarks' files, and made-up ones in the styles of MATH and GSM8K, is *rewritten* in every way that keeps its
meaning, and *changed* in every way: one sign, digit, operator, relation, bracket, name, unit, function, item, letter or word.
A rewriting that is graded wrong is a false negative, a change that is graded right a false positive. The policy is `strict`.
A second reader, which shares nothing with the graders, decides whether a change of a formula changed its meaning; *unread*
are changes it could not read, which are left out, and changes without another meaning are no pairs. Words and units are
another meaning where their text is.""",
    columns={
        "cases": {"grader": "grader", "answers": "answers", "graded": "graded", "per_second": "answers/s"},
        "hostile": {"formula": "formula", "verdict": "verdict", "seconds": "seconds", "next_seconds": "next, s"},
        "totals": {"what": "", "number": "number"},
        "rewritings": {"kind": "rewriting", "pairs": "pairs", "wrong": "graded wrong"},
        "changes": {"kind": "change", "pairs": "pairs", "wrong": "graded right", "unread": "unread"},
    },
)

HOSTILE = {
    "9^{9^{9^9}}": "9^{9^{9^9}}",
    "200 open brackets": "(" * 200,
    "an integral without an end": r"\int e^{x^x}\sin(x^x) dx",
    "a sum of 10^8 terms": r"\sum_{n=1}^{100000000} \frac{1}{n}",
    "binomial of 10^6": r"\binom{1000000}{500000}",
    "(x+y)^5000": "(x+y)^{5000}",
    "100000!": "100000!",
}

NUM_MADE = 4_000
"""Made-up references."""
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeBenchOptions:
    """What to measure."""

    num_answers: int = 20_000
    """Answers per grader; those that need algebra are a hundredth of it."""
    has_hostile: bool = True
    """Whether to measure hostile formulas, which takes about half a minute."""
    num_references: int | None = None
    """References to rewrite and change, drawn; None: all; 0: none."""
    data: Path | None = None
    """Folder with the release's `train_10k.parquet`, `valid.parquet` and `benchmarks/`; None: made-up references alone."""


def run(options: GradeBenchOptions, progress: Progress) -> dict[str, Any]:
    """Measure every grader; return the content of the JSON file."""
    rng = random.Random(0)
    cases = [
        *((name, "names", _names) for name in ("exact_match", "f1", "substring", "released_f1")),
        ("numeric", "numbers", _numbers), ("multiple_choice", "letters", _letters), ("math", "numbers", _numbers),
        ("released_math_equal", "numbers", _numbers), ("math", "formulas", _formulas),
    ]  # fmt: skip
    rows: list[dict[str, Any]] = []
    hostile = HOSTILE if options.has_hostile else {}
    maths.compare("2+2", "4")
    with progress.phase("bench", total=len(cases) + len(hostile), unit="case") as phase:
        for name, answers, make in cases:
            number = max(1, options.num_answers // (100 if answers == "formulas" else 1))
            rows.append({"grader": name, "answers": answers, **_measure(name, [make(rng, i) for i in range(number)])})
            phase.advance(answers_per_s=rows[-1]["per_second"])
        costs: list[dict[str, Any]] = []
        for label, formula in hostile.items():
            costs.append({"formula": label, **_cost(formula)})
            phase.advance(seconds=costs[-1]["seconds"])
    return {"machine": machine(), "cases": rows, "hostile": costs, **_prove(options, progress)}


def _prove(options: GradeBenchOptions, progress: Progress) -> dict[str, Any]:
    references = [*(released_references(options.data) if options.data else ()), *made_references(NUM_MADE, seed=0)]
    random.Random(0).shuffle(references)
    references = references[: options.num_references]
    with progress.phase("proof", total=len(references), unit="reference") as phase:
        proof = prove(references, seed=0, on_reference=phase.advance)
    figures = {
        "distinct references": proof.num_references,
        "rewritings": sum(c.pairs for c in proof.rewritings), "false negatives": sum(c.wrong for c in proof.rewritings),
        "changes": sum(c.pairs for c in proof.changes), "false positives": sum(c.wrong for c in proof.changes),
    }  # fmt: skip
    return {"totals": [{"what": what, "number": number} for what, number in figures.items()], **proof.rows()}


def _measure(name: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    grade_answer = GRADERS[name].grade_answer
    started = time.perf_counter()
    for answer, reference in pairs:
        grade_answer(answer, [reference])
    seconds = time.perf_counter() - started
    return {"graded": len(pairs), "seconds": seconds, "per_second": len(pairs) / seconds}


def _cost(formula: str) -> dict[str, Any]:
    maths.compare.cache_clear()
    verdict, seconds = _timed(lambda: compare_formulas(formula, "1").verdict)
    _, next_seconds = _timed(lambda: compare_formulas("3+3", "6").verdict)
    return {"verdict": verdict, "seconds": seconds, "next_seconds": next_seconds}


def _timed(call: Callable[[], str]) -> tuple[str, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def _numbers(rng: random.Random, index: int) -> Pair:
    a, b = rng.randint(-5000, 500_000), rng.randint(2, 99)
    right = [
        (f"{a:,}", str(a)), (f"{a}.0", str(a)), (rf"\dfrac{{{a}}}{{{b}}}", f"{a}/{b}"), (f"({a}, {b})", f"({a},{b})"),
        (rf"\{{{a},{b}\}}", rf"\{{{b},{a}\}}"), (f"${a}$", f"{a}.00"),
    ]  # fmt: skip
    wrong = [
        (f"{-a - 1}", str(a)),
        (f"{a}.5", f"{a}"),
        (f"{a}%", str(a)),
        (f"[{a}, {b})", f"[{a},{b}]"),
        (f"{a},{b}", f"{a},{b + 1}"),
    ]
    return rng.choice(wrong if index % 2 else right)


def _names(rng: random.Random, index: int) -> Pair:
    def name() -> str:
        return " ".join("".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 9))).title() for _ in range(3))

    right = name()
    return (name() if index % 2 else rng.choice([right.lower(), f"The {right}.", f"it was {right} in {index}"]), right)


def _letters(rng: random.Random, index: int) -> Pair:
    right, other = rng.sample("ABCDEFGH", 2)
    return rng.choice([f"({other if index % 2 else right})", f"{other if index % 2 else right}. option {index}"]), right


def _formulas(rng: random.Random, index: int) -> Pair:
    a, b = rng.randint(2, 10_000), rng.randint(2, 99)
    return rf"{a}\sqrt{{x}} + {b}", rf"{b + index % 2} + {a}\sqrt{{x}}"
