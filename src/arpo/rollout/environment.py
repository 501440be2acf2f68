"""The interface between a path and whatever answers the policy: tools, a game, a simulated user."""

from typing import Protocol

from arpo.ranks import Gather, alone
from arpo.types import Message, Step, Task, Turn


class Session(Protocol):
    """One episode: the environment state of one path."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """Messages added to the task's prompt; equal for every session of a task and seed."""
        ...

    async def step(self, turn: Turn) -> Step:
        """Answer a finished turn of the policy, with or without a call; calls never overlap."""
        ...

    def fork(self) -> "Session":
        """A session in the same state for a branch. It never waits; neither session affects the other afterwards.

        Raises:
            ToolError, EnvError: the state cannot be copied. A fork never shares state silently.
        """
        ...

    async def aclose(self) -> None:
        """Free the resources of this session alone."""
        ...


class Environment(Protocol):
    """Opens a session for each trajectory that begins at the prompt; branches fork one.

    `tools.executor.ToolExecutor` is one: it answers the calls of a turn and ends the episode at a turn without one.

    Example:
        session = await environment.open(task, seed=7)
        step = await session.step(Turn(text="I say 5.", parse=Parse(answer="I say 5."), index=0))
        # -> Step(observations=(Observation(role="user", content="higher"),))
    """

    @property
    def max_observations(self) -> int | None:
        """Most turns of one path that get an observation; None: no bound is known.

        The group starts a top-up as soon as no branch can fill its leaf; without a bound, once no path can branch.
        """
        ...

    async def open(self, task: Task, seed: int) -> Session:
        """A session with fresh state.

        Args:
            task: What the episode is about.
            seed: Seeds the session's random numbers; equal for every session of a task in a step, so that they start alike.
        """
        ...

    def drain_metrics(self, gather: Gather = alone) -> dict[str, float]:
        """Counts since the last call by the metric's full name, e.g. `environment/wins`; counting restarts at 0.

        Args:
            gather: Gives the counts of every process of the run for those of this one; the metrics are of their sum.
        """
        ...

    async def aclose(self) -> None:
        """Free the resources shared by all sessions."""
        ...
