"""The actions of a study's jobs: each runs a few arpo commands, which resume where they stopped."""

import json
import shutil
import tomllib
from itertools import product
from pathlib import Path

import tomli_w

from arpo.config import parse_config, read_toml
from arpo.data.conversations import trajectory_to_conversation, write_conversations
from arpo.errors import RunError
from arpo.files.whole import whole
from arpo.lab.study.config import Keys, StudyConfig
from arpo.lab.study.configs import StudyConfigs, to_toml, write_config
from arpo.lab.study.finished_runs import FinishedRuns
from arpo.lab.study.folder import Run, StudyFolder, name_of
from arpo.lab.study.jobs import Commands
from arpo.lab.study.provenance import check_provenance
from arpo.tree import RolloutTree, Trajectory, read_trees
from arpo.world.config import WorldConfig

_RIGHT_PER_QUESTION = 2
"""Right answers of one question that rejection sampling keeps."""
_SAMPLES_PER_QUESTION = 8
_RESUMABLE = ("sft", "train", "eval", "rollout")
"""Commands that take `--resume`."""


class JobActions:
    """Carries out the jobs of one study in one folder."""

    def __init__(self, study: StudyConfig, folder: StudyFolder, commands: Commands, num_threads: int):
        self.folder = folder
        self.finished = FinishedRuns(study, folder)
        self._study = study
        self._commands = commands
        self._configs = StudyConfigs(study, folder, num_threads)

    def check(self) -> None:
        """Make every configuration that is known in advance, and compare it with what the folder holds.

        Raises:
            ConfigError: an arm is no run, or was made from other keys; the arm or file and the key are named.
        """
        for world in dict.fromkeys(world for world, _ in self._study.runs):
            self._check_world(world)
            self._check("demos", self._configs.demonstrations(world))
            self._check("sft", self._configs.cold_start(world))
            self._check("eval", self._configs.cold_test(world))
        for name, arm in self._study.arms.items():
            if arm.kind == "rl":
                rates_by_turn = None if arm.rates_of is None else [0.5]  # known once that arm has run; these stand in for them
                for run, rate in product(self._study.runs_of(name), self._study.learning_rates_of(name) or (None,)):
                    self._check("train", self._configs.training(name, run, rate, rates_by_turn), measured=rates_by_turn)

    def _check(self, command: str, keys: Keys, *, measured: list[float] | None = None) -> None:
        recorded = self.folder.config(command, keys["out"])
        if recorded.is_file():
            ignored = ["num_threads"] if measured is None else ["num_threads", "rollout.rule.rate"]
            now = tomllib.loads(tomli_w.dumps(keys))  # as it would be read again
            check_provenance(read_toml(recorded), now, Path(keys["out"]), ignored)

    def _check_world(self, world: int) -> None:
        config = parse_config(WorldConfig, self._world_keys(world), "world")
        made = self.folder.world(world) / "world"
        if made.exists():
            check_provenance(json.loads((made / "world.json").read_text())["config"], config.model_dump(mode="json"), made)

    def _world_keys(self, world: int) -> Keys:
        return {"seed": world, "num_test": self._study.num_test} | self._study.world

    def make_cold_start(self, world: int) -> None:
        """A world, its indexes, demonstrations and imitation, with the same seed for all."""
        log_name, where = f"cold start {world}", self.folder.world(world)
        log, made = self.folder.log(log_name), where / "world"
        if not made.exists():
            options = [f"--{key}={to_toml(value)}" for key, value in self._world_keys(world).items()]
            with whole(made) as partial:
                self._commands.arpo("world", "make", "--out", partial, *options, log=log)
        for corpus, index in (("train_corpus.jsonl", "train_index"), ("corpus.jsonl", "index")):
            self._commands.arpo("index", "build", made / corpus, "--out", where / index, log=log)
        self._run("demos", self._configs.demonstrations(world), log_name)
        self._run("sft", self._configs.cold_start(world), log_name)

    def test_cold_start(self, world: int) -> None:
        """Test the policy that every arm of the world starts from."""
        self._run("eval", self._configs.cold_test(world), f"test cold start {world}")

    def time_steps(self, arm: str) -> None:
        """Train an arm for a few steps."""
        source = self._study.arms[arm].rates_of
        rates = None if source is None else self.finished.rates_by_turn(source, self._study.runs[0])
        self._run("train", self._configs.timing(arm, rates), f"time {arm}")

    def train_at_best(self, arm: str, run: Run) -> None:
        """Train at the best learning rate; a control imitates instead."""
        if self._study.arms[arm].kind == "rl":
            self.train(arm, run, self.finished.best_rate(arm))
        else:
            self._imitate(arm, run)

    def train(self, arm: str, run: Run, rate: float | None) -> None:
        """Train at a learning rate."""
        source = self._study.arms[arm].rates_of
        rates = None if source is None else self.finished.rates_by_turn(source, run)
        self._run("train", self._configs.training(arm, run, rate, rates), f"train {arm} {name_of(run)}")

    def test(self, arm: str, run: Run) -> None:
        """Test the policy at equal steps and at every budget."""
        for step, model in self._tested(arm, run):
            self._run("eval", self._configs.test(arm, run, step, model), f"test {arm} {name_of(run)}")

    def is_tested(self, arm: str, run: Run) -> bool:
        """Whether every policy of the run that needs a test has one."""
        if not all(self.finished.is_trained(name, run) for name in (arm, self._study.budget_arm)):
            return False
        steps = [step for step, _ in self._tested(arm, run)]
        return all((self.folder.test(arm, run, step) / "summary.json").is_file() for step in steps)

    def _tested(self, arm: str, run: Run) -> list[tuple[int, Path]]:
        """(step, policy directory) of each policy to test."""
        where = self.finished.training(arm, run)
        if self._study.arms[arm].kind != "rl":
            return [(0, where / "final")]
        reached = self.finished.budgets(arm, run).values()
        steps = {self._study.num_steps, *(checkpoint.step for checkpoint in reached if checkpoint is not None)}
        return [(step, where / "checkpoints" / f"step_{step:06d}" / "model") for step in sorted(steps)]

    def _imitate(self, arm: str, run: Run) -> None:
        """A control: imitation from the cold start, of the demonstrations or of what the cold start itself gets right."""
        seconds = self.finished.seconds(self._study.budget_arm, run)
        if self._study.arms[arm].kind == "rejection":
            keys = self._configs.imitation(arm, run, self._sample_right(arm, run), seconds.update)
        else:
            keys = self._configs.imitation(arm, run, self.folder.world(run[0]) / "demos" / "conversations.jsonl", seconds.total)
        self._run("sft", keys, f"train {arm} {name_of(run)}")

    def _sample_right(self, arm: str, run: Run) -> Path:
        """Conversations with right answers, from as many trajectories of the cold start as the budget arm sampled."""
        num_questions = self._configs.num_trajectories(self._study.budget_arm, run) // _SAMPLES_PER_QUESTION
        keys = self._configs.sampling(arm, run, num_questions, _SAMPLES_PER_QUESTION)
        self._run("rollout", keys, f"train {arm} {name_of(run)}")
        parts = sorted((Path(keys["out"]) / "rollouts").glob("part_*.jsonl.zst"))
        right = [t for part in parts for tree in read_trees(part) for t in right_answers(tree)]
        if not right:
            raise RunError(
                f"arms.{arm}: none of the {num_questions * _SAMPLES_PER_QUESTION} trajectories sampled from the cold start is "
                f"right, so that there is nothing to imitate; leave this arm out, or make a better cold start ([demos], [sft])"
            )
        path = Path(keys["out"]) / "conversations.jsonl"
        write_conversations(path, map(trajectory_to_conversation, right))
        return path

    def _run(self, command: str, keys: Keys, log_name: str) -> None:
        """Run a command that leaves a summary, unless it is done; resume it where it can resume, else start over."""
        out, log = Path(keys["out"]), self.folder.log(log_name)
        if (out / "summary.json").is_file():
            return
        if command in _RESUMABLE and (out / "config.toml").is_file():
            self._commands.arpo(command, "--resume", out, log=log)
            return
        if command not in _RESUMABLE:
            shutil.rmtree(out, ignore_errors=True)
        self._commands.arpo(command, write_config(self.folder.config(command, out), keys), log=log)


def right_answers(tree: RolloutTree) -> list[Trajectory]:
    """The trajectories of a sampled tree that are imitated: those with a right answer, the first two of them at most."""
    return [t for t in tree.trajectories() if t.leaf.is_correct][:_RIGHT_PER_QUESTION]
