"""Objects of one loop, bounds, equal calls carried out once, streams and their errors."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from arpo.clients.concurrency import ConcurrencyLimit, PerLoop, SingleFlight, first_error, stream


def test_each_event_loop_has_an_object_of_its_own_which_is_made_once():
    made = iter(range(9))
    per_loop = PerLoop(lambda: next(made))

    async def twice() -> tuple[int, int]:
        return per_loop.get(), per_loop.get()

    async def taken() -> int | None:
        return per_loop.take()

    assert asyncio.run(twice()) == (0, 0)
    assert asyncio.run(twice()) == (1, 1)
    assert asyncio.run(taken()) is None, "that of another loop, which has ended"
    assert asyncio.run(twice()) == (2, 2)


async def test_no_more_hold_it_at_once_than_the_limit():
    limit, live, most = ConcurrencyLimit(2), 0, 0

    async def hold() -> None:
        nonlocal live, most
        async with limit.get():
            live += 1
            most = max(most, live)
            await asyncio.sleep(0)
            live -= 1

    await asyncio.gather(*(hold() for _ in range(7)))
    assert most == 2


async def test_equal_calls_share_one_and_a_later_one_begins_anew():
    flights: SingleFlight[int] = SingleFlight()
    runs: list[str] = []
    go = asyncio.Event()

    async def call() -> int:
        runs.append("run")
        await go.wait()
        return len(runs)

    waiting = [asyncio.create_task(flights.run("a", call)) for _ in range(3)]
    await asyncio.sleep(0)
    assert "a" in flights
    go.set()
    assert await asyncio.gather(*waiting) == [(1, False), (1, True), (1, True)]
    assert "a" not in flights
    assert await flights.run("a", call) == (2, False)


async def test_only_the_last_to_give_up_ends_the_call():
    flights: SingleFlight[int] = SingleFlight()
    ended: list[str] = []

    async def call() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return 0

    first, second = (asyncio.create_task(flights.run("a", call)) for _ in range(2))
    for _ in range(3):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.sleep(0)
    assert ended == []
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.sleep(0)
    assert ended == ["cancelled"]


async def test_a_stream_yields_what_is_produced_while_it_is_produced_and_ends_with_its_error():
    produced: list[int] = []

    async def produce(emit: Callable[[int], None]) -> None:
        for number in range(3):
            produced.append(number)
            emit(number)
            await asyncio.sleep(0)
        raise KeyError("the fourth")

    received: list[int] = []

    async def receive() -> None:
        async for number in stream(produce):
            received.append(number)
            assert produced[-1] <= number + 1, "nothing waits for the end"

    with pytest.raises(KeyError, match="the fourth"):
        await receive()
    assert received == [0, 1, 2]


async def test_closing_a_stream_early_ends_its_producer_first():
    ended: list[str] = []

    async def produce(emit: Callable[[int], None]) -> None:
        try:
            emit(1)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("producer")

    async with aclosing(stream(produce)) as numbers:
        async for _ in numbers:
            break
    assert ended == ["producer"]


def test_of_a_group_the_first_error_is_raised_and_those_that_come_last_only_without_others():
    cause = ValueError("cause")
    first, second = OSError("a"), KeyError("b")
    first.__cause__ = cause
    with pytest.raises(OSError, match="a") as raised, first_error():
        raise ExceptionGroup("both", [first, second])
    assert raised.value.__cause__ is cause
    with pytest.raises(KeyError), first_error(last=OSError):
        raise ExceptionGroup("both", [first, second])
    with pytest.raises(OSError, match="a"), first_error(last=OSError):
        raise ExceptionGroup("one", [first])
