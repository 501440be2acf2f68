"""The cache: what is put comes back, from any process, and a key tells apart all that differs."""

import multiprocessing
from pathlib import Path

import pytest

from arpo.cache import Cache, CacheConfig, cache_key
from arpo.errors import DataError


def test_key_ignores_the_order_of_arguments_and_nothing_else():
    key = cache_key("search", "1", {"query": "x", "k": 3})
    assert key == cache_key("search", "1", {"k": 3, "query": "x"})
    others = [
        cache_key("browse", "1", {"query": "x", "k": 3}),
        cache_key("search", "2", {"query": "x", "k": 3}),
        cache_key("search", "1", {"query": "x ", "k": 3}),
        cache_key("search", "1", {"query": "x", "k": "3"}),
        cache_key("search", "1", {"query": "x"}),
    ]
    assert len({key, *others}) == 6


def test_value_survives_reopening_and_lookups_are_counted(tmp_path: Path):
    path = tmp_path / "deep" / "cache.sqlite"
    first = Cache(path)
    assert first.get("a") is None
    first.put("a", {"content": "Köln\n", "truncated": False})
    first.close()
    second = Cache(path)
    assert second.get("a") == {"content": "Köln\n", "truncated": False}
    assert (first.hits, first.misses, second.hits, second.misses) == (0, 1, 1, 0)


def test_first_value_of_a_key_stays(tmp_path: Path):
    cache = Cache(tmp_path / "cache.sqlite")
    cache.put("a", 1)
    cache.put("a", 2)
    assert cache.get("a") == 1


def test_none_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="None"):
        Cache(tmp_path / "cache.sqlite").put("a", None)


def _write(cache: Cache, start: int) -> None:
    for i in range(start, start + 50):
        cache.put(f"k{i}", i)


def test_forked_processes_share_one_file(tmp_path: Path):
    cache = Cache(tmp_path / "cache.sqlite")  # its connection crosses the fork, which must not be used there
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(cache, 30 * n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert [cache.get(f"k{i}") for i in range(140)] == list(range(140))  # 3 * 30 + 50


@pytest.mark.parametrize("content", [b"this is a text, not a database at all", None])
def test_bad_file_is_an_error_that_names_it(tmp_path: Path, content: bytes | None):
    path = tmp_path / "cache.sqlite"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"cache\.path = .*cache\.sqlite"):
        Cache(path)


def test_no_path_means_no_cache(tmp_path: Path):
    assert Cache.from_config(CacheConfig()) is None
    assert isinstance(Cache.from_config(CacheConfig(path=tmp_path / "c")), Cache)
