"""The task that steps an engine: one step after the other while there is work, on whatever loop asks."""

import asyncio

import pytest

from arpo.errors import EngineError
from arpo.inference.pump import Pump


class Worker:
    """Has some work; each step takes one off, and the step that reaches `broken` fails."""

    def __init__(self, broken: int | None = None) -> None:
        self.work, self.errors, self.broken = 0, [], broken
        self.pump = Pump(lambda: self.work > 0, self.step, lambda error: self.errors.append(str(error)))

    async def step(self) -> None:
        self.work -= 1
        if self.work == self.broken:
            raise ZeroDivisionError("broken")
        await asyncio.sleep(0)

    async def do(self, work: int) -> None:
        self.pump.start()
        self.work += work
        self.pump.wake()
        while self.work:
            await asyncio.sleep(0)


async def test_an_error_of_a_step_is_handed_on_and_the_next_step_follows():
    worker = Worker(broken=2)
    await worker.do(4)
    assert worker.errors == ["broken"]
    await worker.do(2)
    await worker.pump.aclose()
    assert worker.errors == ["broken", "it was closed"]
    with pytest.raises(EngineError, match="the inference engine is closed; build a new one"):
        worker.pump.start()


def test_each_event_loop_gets_its_own_task_and_any_may_close():
    worker = Worker()
    asyncio.run(worker.do(3))
    asyncio.run(worker.do(2))
    asyncio.run(worker.pump.aclose())
    assert (worker.work, worker.errors) == (0, ["it was closed"])
