"""The cache: what is put comes back, from any process, and a key tells apart all that differs."""

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from arpo.cache import ANY_VERSION, Cache, CacheConfig, CacheKey, cache_key
from arpo.config import parse_config
from arpo.errors import ConfigError, DataError


def key(name: str, tool: str = "t", version: str = "1") -> CacheKey:
    return cache_key(tool, version, {"x": name})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_key_ignores_the_order_of_arguments_and_nothing_else():
    first = cache_key("search", "1", {"query": "x", "k": 3})
    assert first.digest == cache_key("search", "1", {"k": 3, "query": "x"}).digest
    different = [
        cache_key("browse", "1", {"query": "x", "k": 3}),
        cache_key("search", "2", {"query": "x", "k": 3}),
        cache_key("search", "1", {"query": "x ", "k": 3}),
        cache_key("search", "1", {"query": "x", "k": "3"}),
        cache_key("search", "1", {"query": "x"}),
    ]
    assert len({k.digest for k in (first, *different)}) == 6


def test_call_path_tells_apart_the_calls_before():
    a, b = key("a"), key("b")
    assert a.after("") == a.after("")
    assert len({a.after(""), b.after(""), b.after(a.after("")), a.after(b.after("")), a.after(a.after(""))}) == 5


def test_value_survives_reopening_and_lookups_are_counted(tmp_path: Path):
    path = tmp_path / "deep" / "cache.sqlite"
    first = Cache(path)
    assert first.get(key("a")) is None
    assert first.put(key("a"), {"content": "Köln\n\ud800", "truncated": False})
    first.close()
    second = Cache(path)
    assert second.get(key("a")) == {"content": "Köln\n\ud800", "truncated": False}
    assert (first.hits, first.misses, second.hits, second.misses) == (0, 1, 1, 0)


def test_first_value_of_a_key_stays(tmp_path: Path):
    cache = Cache(tmp_path / "cache.sqlite")
    assert (cache.put(key("a"), 1), cache.put(key("a"), 2)) == (True, False)
    assert cache.get(key("a")) == 1


def test_none_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="None"):
        Cache(tmp_path / "cache.sqlite").put(key("a"), None)


def test_value_for_any_version_answers_until_there_is_one_of_the_version_itself(tmp_path: Path):
    cache = Cache(tmp_path / "cache.sqlite")
    cache.put(key("a", version=ANY_VERSION), "imported")
    assert (cache.get(key("a")), cache.get(key("a", tool="u"))) == ("imported", None)
    cache.put(key("a"), "own")
    assert (cache.get(key("a")), cache.get(key("a", version="2"))) == ("own", "imported")


def test_value_expires_and_its_place_is_free_again(tmp_path: Path):
    clock = Clock()
    cache = Cache(tmp_path / "cache.sqlite", max_age_s=60, clock=clock)
    cache.put(key("a"), "old")
    clock.now += 60
    assert cache.get(key("a")) == "old"
    clock.now += 1
    assert cache.get(key("a")) is None
    assert cache.put(key("a"), "new")
    assert cache.get(key("a")) == "new"
    clock.now += 1000
    offline = Cache(tmp_path / "cache.sqlite", "offline", max_age_s=60, clock=clock)
    assert offline.get(key("a")) == "new"  # better stale than nothing


def test_over_its_size_the_cache_drops_what_was_unused_for_longest(tmp_path: Path):
    clock = Clock()
    # '{"x":"a"}' has 9 bytes and a string of 89 letters 91 as JSON: 100 an entry; ten fit into 1000.
    cache = Cache(tmp_path / "cache.sqlite", max_bytes=1000, clock=clock)
    for i, name in enumerate("abcdefghij"):
        clock.now += 1
        assert cache.put(key(name), str(i) * 89)
    clock.now += 1
    assert cache.get(key("a")) == "0" * 89  # used again: it outlives b
    clock.now += 1
    cache.put(key("k"), "k" * 89)  # 1100: down to 900, so the two unused for longest go
    assert [name for name in "abcdefghijk" if cache.get(key(name)) is None] == ["b", "c"]
    assert cache.statistics()["t"].bytes == 900
    assert not cache.put(key("l"), "l" * 1000)  # alone too large
    assert cache.statistics()["t"].entries == 9


def test_statistics_are_by_tool_and_hits_are_of_all_runs(tmp_path: Path):
    path = tmp_path / "cache.sqlite"
    first = Cache(path)
    first.put(key("a"), 1)
    first.put(key("b"), 22)
    first.put(key("a", tool="u"), 3)
    first.record("call path", key("a", tool="v"), {})
    for _ in range(2):
        first.get(key("a"))
    Cache(path).get(key("b"))
    statistics = Cache(path).statistics()
    assert {n: (s.entries, s.bytes, s.hits, s.recorded) for n, s in statistics.items()} == {
        "t": (2, 2 * 9 + 1 + 2, 3, 0),
        "u": (1, 10, 0, 0),
        "v": (0, 0, 0, 1),
    }


def test_pruning_by_age_size_and_tool(tmp_path: Path):
    clock = Clock()
    cache = Cache(tmp_path / "cache.sqlite", clock=clock)
    for name in "abcd":
        cache.put(key(name), 1)
        cache.put(key(name, tool="u"), 1)
        clock.now += 10
    # written at 1000, 1010, 1020, 1030; now 1040
    assert cache.prune(max_age_s=25, tool="t") == 2
    assert cache.prune(max_age_s=25) == 2
    assert cache.prune(max_bytes=20) == 2  # four of 10 bytes
    assert cache.prune(tool="u") == 1
    cache.record("place", key("a"), {})
    assert cache.prune(recordings=True) == 1
    assert [entry.key.name for entry in cache.entries()] == ["t"]


def test_recording_keeps_the_first_and_tells_places_apart(tmp_path: Path):
    cache = Cache(tmp_path / "cache.sqlite", "record")
    assert cache.record("p", key("a"), {"content": "1"}) == {"content": "1"}
    assert cache.record("p", key("a"), {"content": "2"}) == {"content": "1"}
    assert (cache.recorded("p"), cache.recorded("q")) == ({"content": "1"}, None)
    assert cache.get(key("a")) is None


def _write(path: Path, start: int, opened: Cache | None = None) -> None:
    cache = opened or Cache(path, max_bytes=10**6)
    for i in range(start, start + 50):
        cache.put(key(f"k{i}"), f"v{i}")
        assert cache.get(key(f"k{i}")) == f"v{i}"


@pytest.mark.parametrize("is_open", [True, False])
def test_many_processes_share_one_file(is_open: bool, tmp_path: Path):
    path = tmp_path / "cache.sqlite"
    context = multiprocessing.get_context("fork")
    # A connection that crossed the fork must not be used there; without one, all make the file at the same moment.
    opened = Cache(path) if is_open else None
    writers = [context.Process(target=_write, args=(path, 30 * n, opened)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    cache = Cache(path)
    assert cache.statistics()["t"].entries == 140  # 3 * 30 + 50
    assert cache.statistics()["t"].hits == 200  # not one lost
    assert [cache.get(key(f"k{i}")) for i in range(140)] == [f"v{i}" for i in range(140)]


def _put_until_killed(path: Path) -> None:
    cache, i = Cache(path), 0
    while True:
        cache.put(key(f"{i}"), {"content": "x" * 5000, "end": i})
        i += 1


def test_killed_writer_leaves_whole_values_and_true_totals(tmp_path: Path):
    path = tmp_path / "cache.sqlite"
    writer = multiprocessing.get_context("fork").Process(target=_put_until_killed, args=(path,))
    writer.start()
    cache = Cache(path)
    while cache.get(key("20")) is None:
        pass
    writer.kill()
    writer.join()
    entries = list(cache.entries())
    assert len(entries) > 20
    assert all(e.value == {"content": "x" * 5000, "end": e.value["end"]} for e in entries)
    with sqlite3.connect(path) as connection:
        assert (
            connection.execute("SELECT bytes FROM totals").fetchone()
            == connection.execute("SELECT sum(length(value) + length(arguments)) FROM entries").fetchone()
        )
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    cache.put(key("after"), 1)


@pytest.mark.parametrize("content", [b"this is a text, not a database at all", None])
def test_bad_file_is_an_error_that_names_it(tmp_path: Path, content: bytes | None):
    path = tmp_path / "cache.sqlite"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"cache\.path = .*cache\.sqlite"):
        Cache(path)


def test_another_program_s_database_is_left_alone(tmp_path: Path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE entries (a)")
    with pytest.raises(DataError, match="is no cache"):
        Cache(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("entries",)]


@pytest.mark.parametrize("mode", ["replay", "offline"])
def test_reading_modes_need_the_file_and_never_write_it(mode: str, tmp_path: Path):
    path = tmp_path / "cache.sqlite"
    config = parse_config(CacheConfig, {"path": str(path), "mode": mode}, "test")
    with pytest.raises(DataError, match="cannot open"):
        Cache.from_config(config)
    assert not path.exists()
    writer = Cache(path)
    writer.put(key("a"), 1)
    reader = Cache.from_config(config)
    assert reader is not None
    assert reader.get(key("a")) == 1
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.put(key("b"), 1)
    assert writer.statistics()["t"].hits == 0


def test_no_path_means_no_cache(tmp_path: Path):
    assert Cache.from_config(CacheConfig()) is None
    assert isinstance(Cache.from_config(CacheConfig(path=tmp_path / "c")), Cache)


@pytest.mark.parametrize("settings", [{"mode": "replay"}, {"max_mb": 3.0}, {"max_age_s": 3.0}])
def test_setting_without_a_file_is_an_error(settings: dict[str, object]):
    with pytest.raises(ConfigError, match="set path"):
        parse_config(CacheConfig, settings, "test")


def test_what_the_tools_were_is_recorded_replaced_and_pruned_with_the_recordings(tmp_path: Path):
    cache = Cache(tmp_path / "c.sqlite", "record")
    cache.record_tool("search", "1", {"type": "object"})
    cache.record_tool("search", "2", {"type": "array"})
    assert Cache(tmp_path / "c.sqlite", "replay").recorded_tools() == {"search": ("2", {"type": "array"})}
    cache.prune(recordings=True)
    assert cache.recorded_tools() == {}


def test_a_file_from_before_tools_were_recorded_is_a_cache_without_any(tmp_path: Path):
    Cache(tmp_path / "c.sqlite").close()
    with sqlite3.connect(tmp_path / "c.sqlite") as connection:
        connection.execute("DROP TABLE tools")
    connection.close()
    assert Cache(tmp_path / "c.sqlite", "replay").recorded_tools() == {}
    assert Cache(tmp_path / "c.sqlite", "record").recorded_tools() == {}
