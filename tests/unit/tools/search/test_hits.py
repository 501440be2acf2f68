"""The text a model reads of what a search found."""

import json

from arpo.tools.search.config import ResultConfig
from arpo.tools.search.hits import NO_RESULTS, Hit, render


def test_pages_are_lines_and_name_what_they_are_about():
    hits = [Hit(title="Kelford", text="A town\n in  Osmark."), Hit(title="Ada Moor", text="ada moor, mayor."), Hit(text="x")]
    assert render(hits, ResultConfig()).content == "Page 1: Kelford: A town in Osmark.\nPage 2: ada moor, mayor.\nPage 3: x"


def test_json_is_one_object_a_line():
    hits = [Hit(title="Kélford", text="a\nb", url="http://k/"), Hit(text="c", id="7"), Hit(text="d")]
    lines = [json.loads(line) for line in render(hits, ResultConfig(format="json")).content.splitlines()]
    assert lines == [
        {"rank": 1, "title": "Kélford", "url": "http://k/", "text": "a b"},
        {"rank": 2, "title": "", "id": "7", "text": "c"},
        {"rank": 3, "title": "", "text": "d"},
    ]


def test_what_is_too_long_is_cut_and_marked():
    result = render([Hit(title="T", text="y" * 30)], ResultConfig(max_snippet_chars=20))
    assert result.content == "Page 1: T: " + "y" * 17  # 20 characters with the title
    assert result.truncated
    assert render([Hit(text="part", is_truncated=True)], ResultConfig()).truncated
    assert not render([Hit(text="y" * 20)], ResultConfig(max_snippet_chars=20)).truncated


def test_no_hits_and_half_surrogate_pairs():
    assert render([], ResultConfig()).content == NO_RESULTS
    for form in ("pages", "json"):
        render([Hit(title="\ud800", text="a\ud800b")], ResultConfig(format=form)).content.encode()
