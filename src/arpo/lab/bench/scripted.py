"""A protocol and a tool that give every turn fixed work, whatever a random model samples."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from arpo.lab.bench.workload import Workload
from arpo.types import Message, Observation, Parse, Task, ToolCall, ToolResult

TOOL_NAME = "wait"


class FixedTurns:
    """A `ToolProtocol` that reads a tool call in every completion and answers each with the workload's observation.

    With a single turn it reads none.

    A random model does not write the stop string, so that the engine looks for it and never finds it.
    """

    stop_strings: tuple[str, ...] = ("</benchmark-tool-call>",)
    turn_end = ""

    def __init__(self, workload: Workload):
        self._calls = (ToolCall(name=TOOL_NAME, arguments={}),) if workload.num_calls else ()
        self._prompts = workload.prompts.tolist()
        self._observation = workload.observation.tolist()

    def encode_prompt(self, task: Task) -> list[int]:
        """As `ToolProtocol.encode_prompt`."""
        return self._prompts[int(task.id)]

    def parse(self, completion: str, *, is_truncated: bool = False) -> Parse:
        """As `ToolProtocol.parse`."""
        return Parse(calls=self._calls)

    def encode_observation(self, *observations: Observation) -> list[int]:
        """As `ToolProtocol.encode_observation`."""
        return self._observation


class WaitingTool:
    """A `Tool` with the delays of the workload; each fork is the tool of the next trajectory."""

    name = TOOL_NAME
    schema: Mapping[str, Any] = {"type": "object", "properties": {}, "required": []}
    version = "1"
    is_cacheable = False

    def __init__(self, trajectories: Iterator[Iterator[float]], delays: Iterator[float]):
        self._trajectories = trajectories
        self._delays = delays

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """As `Tool.run`."""
        if delay := next(self._delays):
            await asyncio.sleep(delay)
        return ToolResult(content="done")

    def fork(self) -> "WaitingTool":
        """The tool of the next trajectory."""
        return WaitingTool(self._trajectories, next(self._trajectories))

    async def aclose(self) -> None:
        """Nothing to free."""


def waiting_tool(workload: Workload) -> WaitingTool:
    """The tool whose forks take the workload's delays, trajectory by trajectory."""
    return WaitingTool(map(iter, workload.delays.tolist()), iter(()))


def tasks(workload: Workload) -> list[Task]:
    """The workload's tasks; the id is the index of the prompt."""
    message = Message(role="user", content="?")
    return [Task(id=str(i), messages=(message,), references=("",), source="bench") for i in range(workload.num_tasks)]
