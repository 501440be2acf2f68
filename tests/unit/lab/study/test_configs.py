from pathlib import Path

import pytest

from arpo.config import load_config, parse_config
from arpo.errors import ConfigError
from arpo.lab.study.config import ArmConfig, StudyConfig, load_study
from arpo.lab.study.configs import StudyConfigs, to_toml
from arpo.lab.study.folder import StudyFolder
from arpo.recipes import find_recipe, find_study
from arpo.rollout.config import RandomRuleConfig
from arpo.training.config import RlRun
from arpo.training.presets import preset_names
from arpo.world.config import WorldConfig


@pytest.fixture
def configs(study: StudyConfig, folder: StudyFolder) -> StudyConfigs:
    return StudyConfigs(study, folder, num_threads=1)


def test_the_arm_lies_over_the_study_and_the_study_over_the_recipe(configs: StudyConfigs, folder: StudyFolder):
    run = parse_config(RlRun, configs.training("random", (1, 5), 6e-4, [0.5, 0.25]), "test")
    assert (run.algorithm, run.seed, run.num_threads, run.num_steps) == ("arpo", 5, 1, 6)
    assert run.updates_per_step == 2
    assert run.optimizer.learning_rate == 6e-4
    assert run.rollout.rule == RandomRuleConfig(rate=(0.5, 0.25))
    assert run.tasks_per_step == 8  # the recipe's
    assert run.out == folder.path / "runs" / "random" / "rate_0.0006" / "1-5"
    assert run.model.path == folder.path / "worlds" / "1" / "sft" / "final"
    assert (run.checkpoint.every, run.rollouts_every) == (2, 2)
    assert run.validation is not None
    assert run.validation.every == 4
    assert run.agent.tools.cache.path == run.out / "tool_results.sqlite"


def test_every_arm_has_the_window_of_20_tokens_unless_it_sets_another(folder: StudyFolder):
    """The public code's rules are named after that code, so their window is its 20 tokens."""
    shipped = load_study(
        [find_study(name) for name in ("main", "baselines", "parts", "controls", "frugal", "rates", "attribution")]
    )
    own = {"about": "own", "algorithm": "arpo_released", "rl": {"rollout": {"entropy_window": 7}}}
    config = shipped.model_copy(update={"arms": shipped.arms | {"own": ArmConfig.model_validate(own)}})
    for name, arm in config.arms.items():
        if arm.algorithm is not None:
            keys = StudyConfigs(config, folder, 1).training(name, (0, 0), None)
            assert parse_config(RlRun, keys, "test").rollout.entropy_window == (7 if name == "own" else 20), name


@pytest.mark.parametrize("algorithm", preset_names())
def test_the_quickstart_has_the_window_of_20_tokens_whatever_the_algorithm(algorithm: str):
    run = load_config(RlRun, find_recipe("quickstart", "rl"), [f"algorithm={algorithm}"])
    assert run.rollout.entropy_window == 20


def test_a_timed_run_has_the_machine_to_itself_and_does_nothing_else(configs: StudyConfigs):
    run = parse_config(RlRun, configs.timing("arpo"), "test")
    assert (run.num_steps, run.num_threads, run.validation, run.rollouts_every) == (3, None, None, 0)
    assert run.agent.tools.cache.path == run.out / "tool_results.sqlite"


def test_samples_are_drawn_at_the_compared_step_alone(configs: StudyConfigs, folder: StudyFolder):
    at_end, earlier = (configs.test("arpo", (0, 0), step, Path("policy")) for step in (4, 2))
    assert (at_end["num_samples"], earlier["num_samples"]) == (2, 0)
    assert at_end["tasks"] == str(folder.path / "worlds" / "0" / "world" / "test.parquet")
    assert at_end["num_tasks"] == 2000


def test_trajectories_are_those_of_the_compared_steps(configs: StudyConfigs):
    assert configs.num_trajectories("random", (0, 0)) == 4 * 8 * 16


def test_a_key_that_no_run_has_is_named_with_its_arm(study: StudyConfig, folder: StudyFolder):
    arms = study.arms | {"arpo": study.arms["arpo"].model_copy(update={"rl": {"rollout": {"group_sise": 4}}})}
    with pytest.raises(ConfigError, match=r"arms\.arpo: rollout\.group_sise: unknown key; did you mean 'rollout\.group_size'"):
        StudyConfigs(study.model_copy(update={"arms": arms}), folder, 1).training("arpo", (0, 0), None)


@pytest.mark.parametrize("key", ["num_persons", "kind_weights"])
def test_a_value_survives_the_command_line(key: str):
    value = getattr(WorldConfig(), key)
    assert getattr(load_config(WorldConfig, None, [f"{key}={to_toml(value)}"]), key) == value
