"""What stands between a path and whatever answers the policy: tools, a game, a simulated user."""

from typing import Protocol

from arpo.types import Message, Step, Task, Turn


class Session(Protocol):
    """One episode: the environment of one path."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """Added to the task's prompt when the session is opened; the same for each session of a task and seed."""
        ...

    async def step(self, turn: Turn) -> Step:
        """Answer a finished turn of the policy, whether it holds a call or not; never called twice at once."""
        ...

    def fork(self) -> "Session":
        """A session in the same state for a branch. It never waits, and what either does changes nothing for the other.

        Raises:
            ToolError, EnvError: the state cannot be copied; it is never silently shared.
        """
        ...

    async def aclose(self) -> None:
        """Free what belongs to this session alone."""
        ...


class Environment(Protocol):
    """Opens an episode for each trajectory that begins at the prompt; branches fork theirs.

    `tools.executor.ToolExecutor` is one: it answers the calls of a turn and ends the episode at a turn without one.

    Example:
        session = await environment.open(task, seed=7)
        step = await session.step(Turn(text="I say 5.", parse=Parse(answer="I say 5."), index=0))
        # -> Step(observations=(Observation(role="user", content="higher"),))
    """

    @property
    def max_observations(self) -> int | None:
        """Most turns of one path that get an observation; None: no bound is known.

        The group starts a top-up as soon as no branch can take its place. Without a bound that is once no path can branch.
        """
        ...

    async def open(self, task: Task, seed: int) -> Session:
        """A session with fresh state.

        Args:
            task: What the episode is about.
            seed: Of what is random in it: the same for every session of a task in a step, so that they start alike.
        """
        ...

    def drain_metrics(self) -> dict[str, float]:
        """What was counted since the last time, by the metric's full name, e.g. `environment/wins`; counting starts anew."""
        ...

    async def aclose(self) -> None:
        """Free what is held for all sessions."""
        ...
