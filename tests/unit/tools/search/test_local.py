"""The search tool: ranking, ties, hostile queries, the form of a result."""

import asyncio
import json
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from arpo.config import load_config
from arpo.errors import ConfigError
from arpo.tools.base import Tool
from arpo.tools.config import ToolsConfig
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.hits import NO_RESULTS
from arpo.tools.search.index import build_index
from arpo.tools.search.local import LocalIndex, LocalSearch

DOCUMENTS = [
    {"title": "Mira Tolvan", "text": "Registry: Mira Tolvan, born in Kelford, birthday 1931-04-02, employer Moor Mills."},
    {"title": "Mira Tolvan", "text": "Almanac: Mira Tolvan, born in Dunmere."},
    {"title": "Kelford", "text": "Registry: Kelford, region Osmark, inhabitants 412, mayor Ada Moor."},
    {"title": "Ada Moor", "text": "Registry: Ada Moor, born in Dunmere,\n birthday 1940-12-01, employer Moor Mills."},
]


def open_search(folder: Path, documents: list[dict[str, str]], **settings: Any) -> LocalSearch:
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(d) + "\n" for d in documents))
    build_index([corpus], folder / "index")
    return LocalSearch(LocalSearchConfig(index=folder / "index", **settings))


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


async def test_many_queries_at_a_time_find_what_each_finds_alone_on_as_many_threads_as_cores(tmp_path: Path) -> None:
    open_search(tmp_path, DOCUMENTS)
    index = LocalIndex(LocalSearchConfig(index=tmp_path / "index"))
    queries = ["Mira Tolvan born", "Kelford", "Ada Moor birthday", "zebra"] * 25
    before = set(threading.enumerate())
    results = await asyncio.gather(*(index.find(query, 3) for query in queries))
    started = set(threading.enumerate()) - before
    assert results == [index.find_now(query, 3) for query in queries]
    assert 1 <= len(started) <= (os.cpu_count() or 1)
    await index.aclose()
    assert not any(thread.is_alive() for thread in started)


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


async def test_weights_multiply_the_scores_of_a_field(tmp_path: Path) -> None:
    documents = [{"title": "moor", "text": "about mills and weather"}, {"title": "mills", "text": "moor and heath and moor"}]
    corpus = tmp_path / "c.jsonl"
    corpus.write_text("".join(json.dumps(d) + "\n" for d in documents))
    build_index([corpus], tmp_path / "index")

    def scores(title_weight: float, text_weight: float) -> dict[str, float]:
        config = LocalSearchConfig(index=tmp_path / "index", title_weight=title_weight, text_weight=text_weight)
        return {hit.title: hit.score or 0 for hit in LocalIndex(config).find_now("moor", 5)}

    title_only, text_only = scores(1, 0), scores(0, 1)
    assert (list(title_only), list(text_only)) == (["moor"], ["mills"])
    weighted = scores(3, 0.5)
    assert weighted["moor"] == pytest.approx(3 * title_only["moor"])
    assert weighted["mills"] == pytest.approx(0.5 * text_only["mills"])
    assert list(scores(3, 0.5)) == ["moor", "mills"]
    assert list(scores(0.5, 3)) == ["mills", "moor"]


async def test_the_best_snippet_holds_the_query_s_words(tmp_path: Path) -> None:
    text = "filler words " * 40 + "the mayor of Kelford is Ada Moor " + "more filler " * 40
    documents = [{"title": "Osmark", "text": text}, {"title": "Ada Moor", "text": "nothing of it here " * 20}]
    for snippets, shows in (("start", False), ("best", True)):
        (tmp_path / snippets).mkdir()
        search = open_search(tmp_path / snippets, documents, top_k=2, max_snippet_chars=80, snippets=snippets)
        result = await search.run({"query": "mayor Ada Moor"})
        assert ("mayor of Kelford is Ada Moor" in result.content) == shows
        assert result.truncated
        assert all(len(line) <= len("Page 1: ") + 80 for line in result.content.splitlines())
        assert "nothing of it here" in result.content, "found by its title alone, a text is shown from its start"


async def test_a_configuration_without_a_type_is_a_local_one(tmp_path: Path) -> None:
    config = load_config(ToolsConfig, None, [f"search.index={tmp_path}", "search.top_k=7"])
    assert config.search == LocalSearchConfig(index=tmp_path, top_k=7)
    with pytest.raises(ConfigError, match=r"search\.index is missing; write e\.g\. index = "):
        load_config(ToolsConfig, None, ["search={}"])
    with pytest.raises(ConfigError, match="nothing to search"):
        load_config(ToolsConfig, None, ["search.index=x", "search.title_weight=0", "search.text_weight=0"])
