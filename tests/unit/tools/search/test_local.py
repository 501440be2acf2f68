"""The search tool: ranking, ties, hostile queries, the form of a result."""

import json
import math
from pathlib import Path

import pytest

from arpo.tools.base import Tool
from arpo.tools.search.config import SearchConfig
from arpo.tools.search.index import build_index
from arpo.tools.search.local import NO_RESULTS, LocalSearch

DOCUMENTS = [
    {"title": "Mira Tolvan", "text": "Registry: Mira Tolvan, born in Kelford, birthday 1931-04-02, employer Moor Mills."},
    {"title": "Mira Tolvan", "text": "Almanac: Mira Tolvan, born in Dunmere."},
    {"title": "Kelford", "text": "Registry: Kelford, region Osmark, inhabitants 412, mayor Ada Moor."},
    {"title": "Ada Moor", "text": "Registry: Ada Moor, born in Dunmere,\n birthday 1940-12-01, employer Moor Mills."},
]


def open_search(folder: Path, documents: list[dict[str, str]], **settings: int) -> LocalSearch:
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(d) + "\n" for d in documents))
    build_index(corpus, folder / "index")
    return LocalSearch(SearchConfig(index=folder / "index", **settings))


async def test_shorter_page_about_the_same_entity_ranks_first(tmp_path: Path) -> None:
    search = open_search(tmp_path, DOCUMENTS, top_k=2)
    assert isinstance(search, Tool)
    result = await search.run({"query": "Mira Tolvan born"})
    assert result.status == "success"
    assert result.content == (
        "Page 1: Almanac: Mira Tolvan, born in Dunmere.\n"
        "Page 2: Registry: Mira Tolvan, born in Kelford, birthday 1931-04-02, employer Moor Mills."
    )


async def test_a_page_is_one_line_and_a_long_one_is_cut_and_marked(tmp_path: Path) -> None:
    search = open_search(tmp_path, DOCUMENTS, top_k=1, max_snippet_chars=40)
    result = await search.run({"query": "Ada Moor birthday"})
    assert result.content == "Page 1: Registry: Ada Moor, born in Dunmere, bir"  # 40 characters after the prefix
    assert result.truncated
    assert not (await search.run({"query": "Mira Tolvan born"})).truncated


async def test_scores_are_bm25(tmp_path: Path) -> None:
    # "rare" in 1 of 3 texts, "common" in 2 of 3; lengths 2, 4 and 3, mean 3; no titles.
    documents = [{"text": "common filler"}, {"text": "rare filler filler filler"}, {"text": "common common filler"}]
    search = open_search(tmp_path, documents)

    def bm25(frequency: int, length: int, holders: int) -> float:
        idf = math.log(1 + (3 - holders + 0.5) / (holders + 0.5))
        return idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length / 3))

    scores = {"common filler": bm25(1, 2, 2), "common common filler": bm25(2, 3, 2), "rare filler filler filler": bm25(1, 4, 1)}
    expected = sorted(scores, key=lambda text: -scores[text])
    result = await search.run({"query": "rare common"})
    assert [line.partition(": ")[2] for line in result.content.splitlines()] == expected


async def test_ties_keep_the_order_of_the_corpus_even_across_the_cut(tmp_path: Path) -> None:
    documents = [{"text": f"same words number{i}"} for i in range(50)]
    search = open_search(tmp_path, documents, top_k=3)
    result = await search.run({"query": "same words"})
    assert [line[-7:] for line in result.content.splitlines()] == ["number0", "number1", "number2"]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "AND OR NOT",
        "title:Kelford^9",
        "[a TO z]",
        "Kelford)",
        "*",
        "\\",
        "a" * 10_000,
        "Kelford " * 5_000,
        "\x00\ud800",
        "😀 ~ -",
    ],
)
async def test_every_query_is_plain_words(tmp_path: Path, query: str) -> None:
    search = open_search(tmp_path, DOCUMENTS)
    result = await search.run({"query": query})
    assert result.status == "success"
    assert ("Kelford" in result.content) == ("Kelford" in query)


async def test_case_and_accents_do_not_matter(tmp_path: Path) -> None:
    search = open_search(tmp_path, DOCUMENTS, top_k=1)
    assert (await search.run({"query": "KÉLFORD osmark"})).content.startswith("Page 1: Registry: Kelford")


async def test_nothing_found_and_empty_queries_say_so(tmp_path: Path) -> None:
    search = open_search(tmp_path, DOCUMENTS)
    assert (await search.run({"query": "zebra"})).content == NO_RESULTS
    for arguments in ({"query": "  "}, {}, {"query": None}, {"query": 3}):
        result = await search.run(arguments)
        assert result.status == "error"
        assert "empty" in result.content


def test_version_follows_documents_and_settings(tmp_path: Path) -> None:
    versions = []
    for name, documents, settings in (
        ("a", DOCUMENTS, {}),
        ("b", DOCUMENTS, {}),
        ("c", DOCUMENTS[:3], {}),
        ("d", DOCUMENTS, {"top_k": 2}),
        ("e", DOCUMENTS, {"max_snippet_chars": 50}),
    ):
        (tmp_path / name).mkdir()
        versions.append(open_search(tmp_path / name, documents, **settings).version)
    assert versions[0] == versions[1]
    assert len(set(versions)) == 4
