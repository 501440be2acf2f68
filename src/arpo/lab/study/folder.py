"""The paths in a study's folder.

worlds/<world>/{world,train_index,index,demos,sft} · configs/ · runs/<arm>/rate_<learning rate>/<world>-<seed> · timing/<arm> ·
tests/<arm>/<world>-<seed>/step_NNNNNN · logs/ · results.json · questions.parquet · table.md · report.html · figures/
"""

from dataclasses import dataclass
from pathlib import Path

Run = tuple[int, int]
"""(world, seed)"""


@dataclass(slots=True, frozen=True)
class StudyFolder:
    """Paths below a study's folder."""

    path: Path

    def world(self, world: int) -> Path:
        """A world with its indexes, demonstrations and cold start, laid out as by `arpo quickstart`."""
        return self.path / "worlds" / str(world)

    def cold_start(self, world: int) -> Path:
        """The policy all arms of a world start from."""
        return self.world(world) / "sft" / "final"

    def training(self, arm: str, run: Run, rate: float | None) -> Path:
        """The run directory of a training at a learning rate; None: at that of the recipe or of the arm's `rl` keys."""
        return self.path / "runs" / arm / ("own_rate" if rate is None else f"rate_{rate:g}") / name_of(run)

    def samples(self, arm: str, run: Run) -> Path:
        """Trajectories of the cold start for rejection sampling."""
        return self.path / "runs" / arm / "samples" / name_of(run)

    def timing(self, arm: str) -> Path:
        """The run directory of an arm's timed training."""
        return self.path / "timing" / arm

    def test(self, arm: str, run: Run, step: int) -> Path:
        """The evaluation of a checkpoint; step 0 is the final policy of a control."""
        return self.path / "tests" / arm / name_of(run) / f"step_{step:06d}"

    def cold_test(self, world: int) -> Path:
        """The evaluation of a cold start."""
        return self.path / "tests" / "cold_start" / str(world)

    def tool_cache(self, world: int) -> Path:
        """Results of the deterministic tools that all tests of a world share."""
        return self.world(world) / "tool_results.sqlite"

    def config(self, command: str, out: Path | str) -> Path:
        """The TOML file of the command that writes `out`."""
        parts = Path(out).relative_to(self.path).parts
        return self.path / "configs" / f"{command}_{'_'.join(parts)}.toml"

    def log(self, name: str) -> Path:
        """The output of a job's commands."""
        return self.path / "logs" / f"{name.replace(' ', '_')}.log"


def name_of(run: Run) -> str:
    """World 1 and seed 2: 1-2."""
    return f"{run[0]}-{run[1]}"
