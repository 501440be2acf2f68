"""Configuration of runs on several processes. Torch-free."""

from pydantic import Field

from arpo.config import Config


class DistributedConfig(Config):
    """How the processes of `torchrun` wait for each other; without torchrun there is one, and nothing here acts."""

    timeout_seconds: float = Field(default=1800.0, gt=0)
    """Seconds that a process waits for the others before the run ends. More than the slowest rank's rollouts of a step may take
    beyond the fastest's."""
