"""A key of TRL or verl is recognised wherever it is written, and answered with ours or with what arpo does instead."""

from collections import Counter
from pathlib import Path

import pytest

from arpo.cli.kinds import config_class
from arpo.config import config_keys, load_config
from arpo.config.other_trainers import OtherKey, find_other_key, other_keys, other_keys_markdown
from arpo.errors import ConfigError
from arpo.training.config import RlRun, SftRun

ROWS = [row for rows in other_keys().values() for row in rows]
NAMES = [name for row in ROWS for name in row.names]
PAGE = Path(__file__).parents[3] / "docs" / "coming_from.md"


def known(kind: str) -> set[str]:
    """The keys of a command and their sections."""
    keys = [key for key, *_ in config_keys(config_class(kind))]
    return {".".join(key.split(".")[:n]) for key in keys for n in range(1, key.count(".") + 2)}


def test_every_name_stands_once_and_every_row_has_an_answer() -> None:
    assert [name for name, n in Counter(NAMES).items() if n > 1] == []
    assert [row.names for row in ROWS if not row.ours and not row.note] == []
    assert {row.trainer for row in ROWS} == {"TRL", "verl", "TRL and verl"}


def test_every_answer_is_a_key_that_there_is() -> None:
    ours = {key for row in ROWS for key in row.ours}
    assert ours - known("rl") - known("sft") - known("eval") == set()


PLACES = ("", "trainer.", "actor_rollout_ref.actor.", "training.deep.er.")


@pytest.mark.parametrize("place", PLACES)
def test_every_name_is_recognised_wherever_it_is_written(place: str) -> None:
    """Unless a key of ours has that very name there."""
    for number, name in enumerate(NAMES, start=PLACES.index(place)):  # each name in each kind of run, at two of the places
        cls, kind = ((RlRun, "rl"), (SftRun, "sft"))[number % 2]
        if f"{place}{name}" in known("rl") | known("sft"):
            continue
        with pytest.raises(ConfigError) as error:
            load_config(cls, None, [f"{place}{name}=1"])
        row = find_other_key(name)
        assert row is not None
        line = next(
            (line for line in str(error.value).splitlines() if f"{place}{name} is a key of {row.trainer}" in line), None
        )
        assert line is not None, str(error.value)
        ours = [key for key in row.ours if key in known(kind)]
        assert all(key in line for key in ours)
        assert ("instead" in line) == bool(ours)
        assert ("leave it out" in line) == (not ours)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "num_generations=8",
            "num_generations is a key of TRL and verl; set rollout.group_size instead (trajectories of a task)",
        ),
        (
            "actor_rollout_ref.rollout.n=8",
            "actor_rollout_ref.rollout.n is a key of TRL and verl; set rollout.group_size instead",
        ),
        ("model.actor.grad_clip=1", "set optimizer.max_grad_norm instead"),
        ("gradient_checkpointing=true", "set model.gradient_checkpointing instead"),
        ("trainer.gradient_checkpointing=true", "set model.gradient_checkpointing instead"),
        (
            "trainer.n_gpus_per_node=8",
            "trainer.n_gpus_per_node is a key of TRL and verl that arpo does not need; leave it out (`torchrun",
        ),
        ("algorithm.gamma=1", "there is no critic"),
        ("algorithm.kl_ctrl.kl_coef=0.1", "set loss.kl.coefficient instead"),
        ("beta=0.04", "set loss.kl.coefficient instead"),
        ("rollout.beta=0.2", "did you mean 'rollout.rule.beta'"),
        ("optimizer.lr=1e-6", "set optimizer.learning_rate instead"),
        ("trainer.temperature=1", "set rollout.temperature instead"),
    ],
)
def test_common_keys(override: str, said: str) -> None:
    base = [] if override.startswith("algorithm") else ["algorithm=grpo"]
    with pytest.raises(ConfigError) as error:
        load_config(RlRun, None, [*base, "out=o", "model=m", "tasks=t", "agent.tools.python={}", override])
    assert said in str(error.value)


def test_a_section_of_another_trainer_is_answered_key_by_key() -> None:
    keys = ["actor_rollout_ref.rollout.n=8", "actor_rollout_ref.actor.optim.lr=1e-6", "actor_rollout_ref.hybrid_engine=true"]
    with pytest.raises(ConfigError) as error:
        load_config(RlRun, None, ["out=o", "model=m", "tasks=t", "agent.tools.python={}", *keys])
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert [line for line in lines if "hybrid_engine: unknown key" in line]


def test_a_key_of_another_command_is_not_promised() -> None:
    with pytest.raises(ConfigError, match=r"num_generations is a key of .* for rollout\.group_size, .* leave it out"):
        load_config(SftRun, None, ["num_generations=8"])


def test_the_longest_ending_decides() -> None:
    row = find_other_key("trainer.reward_model.path")
    assert isinstance(row, OtherKey)
    assert "reward_model.path" in row.names
    assert find_other_key("n") is None


def test_the_page_has_the_table() -> None:
    assert other_keys_markdown().strip() in PAGE.read_text(encoding="utf-8"), "run `make docs`"
