"""Rewritten answers are right, answers with one change are wrong; some thousand here, all of them in `make bench-grade`."""

import random
from collections import Counter
from pathlib import Path

import pytest

from arpo.lab.bench.meaning.proof import Proof, prove
from arpo.lab.bench.meaning.references import Reference, made_references, released_references
from arpo.lab.bench.meaning.second_reader import changes_meaning

RELEASED = Path(__file__).parents[4].parent / "shared" / "data"
NUM_REFERENCES = 120


def _check(references: list[Reference]) -> Proof:
    proof = prove(references, seed=1)
    taken_for_the_same = [(c.kind, *pair) for c in proof.changes for pair in c.examples]
    assert taken_for_the_same == []
    num_wrong = sum(c.wrong for c in proof.rewritings)
    assert num_wrong <= 0.01 * sum(c.pairs for c in proof.rewritings), [
        (c.kind, c.examples) for c in proof.rewritings if c.wrong
    ]
    return proof


def test_made_up_references():
    proof = _check(made_references(NUM_REFERENCES, seed=1))
    assert sum(c.pairs for c in proof.rewritings) > 500
    assert sum(c.pairs for c in proof.changes) > 500


def test_references_of_the_release():
    references = released_references(RELEASED)
    if not references:
        pytest.skip("the release's data is not beside the project")
    assert len(references) > 5000
    _check(random.Random(1).sample(references, NUM_REFERENCES))


def test_made_up_references_are_distinct_and_of_every_style():
    references = made_references(500, seed=2)
    assert len(set(references)) == 500
    assert Counter(r.style for r in references).keys() == {"math", "number"}
    assert made_references(500, seed=2) == references


@pytest.mark.parametrize(
    ("text", "changed", "is_another"),
    [
        ("x+1", "x-1", True), ("x+1", "1+x", False), (r"\frac{1}{2}", "0.5", False), ("(1,2)", "[1,2)", True),
        ("1, 2", "2, 1", False), ("(1, 2)", "(2, 1)", True), ("x < 1", r"x \le 1", True), ("y = x", "2y = 2x", False),
        ("y = x", "y = -x", True), (r"\sqrt{8}", r"2\sqrt{2}", False), (r"\alpha", r"\beta", True), (r"\tau", r"\mu", None),
        ("2^{900}", "2^{901}", None),
        (r"5 \text{ cm}", r"5 \text{ m}", True), (r"\pm 3", "3", True), ("9^5", "9^{5}", False),
    ],
)  # fmt: skip
def test_the_second_reader(text: str, changed: str, is_another: bool | None):
    assert changes_meaning(text, changed) is is_another
