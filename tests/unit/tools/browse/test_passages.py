"""Finding the part of a text that matters."""

import random

import pytest

from arpo.tools.browse.passages import Span, find_densest, find_snippet, widen

TEXT = "Osmark is a region. In 1931 the town of Kélford, founded by Ada Moor, had 412 inhabitants. The mayor moved away."


@pytest.mark.parametrize(
    ("snippet", "part"),
    [
        ("the town of kelford", "the town of Kélford"),
        ("Nov 3 ... founded by Ada Moor, had 412 … x", "founded by Ada Moor, had 412"),
        ("had founded 412 Moor by Ada", "founded by Ada Moor, had 412"),  # six words in another order
        ("The mayor moved away.", "The mayor moved away"),
    ],
)
def test_a_snippet_is_found_where_it_comes_from(snippet: str, part: str):
    span = find_snippet(TEXT, snippet)
    assert span is not None
    assert TEXT[span.start : span.end] == part


@pytest.mark.parametrize(
    "snippet", ["", "...", "zebra stripes seen in town", "a completely different sentence about something else"]
)
def test_a_snippet_from_elsewhere_is_not_found(snippet: str):
    assert find_snippet(TEXT, snippet) is None
    assert find_snippet("", "x") is None


def test_the_exact_place_wins_over_one_with_the_same_words_in_another_order():
    text = "moor ada by founded. " * 3 + "founded by ada moor. " + "founded by ada moor. "
    span = find_snippet(text, "founded by Ada Moor")
    assert span == Span(text.index("founded by"), text.index("founded by") + 19)


def test_the_sliding_count_is_that_of_each_window_counted_anew():
    rng = random.Random(0)
    for _ in range(200):
        words = [rng.choice("abcde") for _ in range(30)]
        snippet = [rng.choice("abcdef") for _ in range(rng.randint(1, 6))]

        def overlap(window: list[str], snippet: list[str] = snippet) -> int:
            return sum(min(window.count(w), snippet.count(w)) for w in set(snippet))

        best = max(overlap(words[i : i + len(snippet)]) for i in range(30 - len(snippet) + 1))
        span = find_snippet(" ".join(words), " ".join(snippet))
        if best < 0.5 * len(snippet):
            assert span is None
        else:
            assert span is not None
            assert overlap(" ".join(words)[span.start : span.end].split()) == best


def test_the_densest_stretch_has_most_different_words_then_most_words_then_is_first():
    text = "moor moor moor . " + "x " * 30 + "ada moor " + "x " * 30 + "ada moor ada"
    span = find_densest(text, "Ada Moor", 15)
    assert span == Span(text.rindex("ada moor ada"), len(text))
    assert find_densest(text, "zebra", 15) is None
    assert find_densest("ada " + "x " * 30 + "moor", "ada moor", 15) == Span(0, 3)


def test_a_span_is_widened_evenly_between_words_and_never_beyond_the_text():
    text = "aaa bbb ccc ddd eee fff"
    middle = Span(8, 11)
    assert widen(text, middle, 11) == Span(4, 15)  # bbb ccc ddd
    assert widen(text, middle, 12) == Span(4, 15), "4 characters of eee are not enough"
    assert widen(text, middle, 100) == Span(0, 23)
    assert widen(text, Span(0, 3), 7) == Span(0, 7)
    assert widen(text, Span(20, 23), 7) == Span(16, 23)
    assert widen(text, middle, 1) == middle
