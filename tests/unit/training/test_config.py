from pathlib import Path

import pytest

from arpo.config import dump_config, load_config, parse_config
from arpo.errors import ConfigError
from arpo.rollout.config import (
    AepoReleasedRuleConfig,
    AepoRuleConfig,
    ArpoReleasedRuleConfig,
    ArpoRuleConfig,
    NoBranchingConfig,
)
from arpo.training.config import RlRun, SftRun, read_preset

BASE = {"out": "o", "model": {"path": "m"}, "tasks": "t.parquet", "agent": {"tools": {"python": {}}}}


def run(**values: object) -> RlRun:
    return parse_config(RlRun, BASE | values, "test")


def test_the_preset_of_arpo_is_the_paper():
    """M = 16, N = 8, Z = 1, alpha = tau = 0.5, beta = 0.2; clip 0.2; group-normalised."""
    config = run()
    assert config.algorithm == "arpo"
    assert (config.rollout.group_size, config.rollout.num_initial) == (16, 8)
    assert config.rollout.rule == ArpoRuleConfig(alpha=0.5, beta=0.2, tau=0.5, branch_factor=1)
    assert (config.loss.clip_low, config.loss.clip_high, config.loss.aggregation) == (0.2, 0.2, "token_mean")
    assert config.advantage.normalize_std


def test_grpo_is_the_same_without_branching():
    arpo, grpo = run(), run(algorithm="grpo")
    assert grpo.rollout.rule == NoBranchingConfig()
    assert grpo.rollout.num_initial == grpo.rollout.group_size == arpo.rollout.group_size
    assert (grpo.loss, grpo.advantage) == (arpo.loss, arpo.advantage)


@pytest.mark.parametrize("name", ["arpo", "arpo_14b", "arpo_released", "aepo", "aepo_released", "grpo"])
def test_a_preset_says_nothing_a_run_does_not_know(name: str):
    """Every key a preset sets is found in the resolved run with the preset's value."""
    resolved = run(algorithm=name).model_dump(mode="json")

    def check(section: dict, found: dict) -> None:
        for key, value in section.items():
            if isinstance(value, dict):
                check(value, found[key])
            else:
                assert found[key] == value, key

    check(read_preset(name), resolved)


def test_the_other_presets_are_their_papers_and_scripts():
    """14B: M = 12, N = 6. AEPO: slopes 0.5 and 0.05, gamma 0.2, N from the probe. Released: 16, 8, top 10 of 20 tokens."""
    large, aepo = run(algorithm="arpo_14b").rollout, run(algorithm="aepo").rollout
    assert (large.group_size, large.num_initial, large.rule) == (12, 6, ArpoRuleConfig())
    assert (aepo.group_size, aepo.num_initial) == (16, None)
    assert aepo.rule == AepoRuleConfig(alpha=0.5, gamma=0.2, tau=0.5, penalty_slope=0.05, probe_slope=0.5)
    for name, rule in (("arpo_released", ArpoReleasedRuleConfig()), ("aepo_released", AepoReleasedRuleConfig())):
        released = run(algorithm=name).rollout
        assert (released.group_size, released.num_initial, released.rule) == (16, 8, rule)
        assert (released.estimator, released.top_k, released.entropy_window) == ("top_k", 10, 20)
        assert released.entropy_normalizer == "log_vocab"


def test_what_is_set_overrides_the_preset_and_leaves_the_rest():
    config = run(rollout={"group_size": 8, "rule": {"tau": 0.7}})
    assert (config.rollout.group_size, config.rollout.num_initial) == (8, 4)
    assert config.rollout.rule == ArpoRuleConfig(tau=0.7)


def test_another_type_replaces_the_presets_section():
    """The preset's alpha, beta and tau do not belong to the rule `none`."""
    assert run(rollout={"rule": {"type": "none"}}).rollout.rule == NoBranchingConfig()
    assert run(algorithm="grpo", rollout={"rule": {"type": "arpo", "tau": 0.6}}).rollout.rule == ArpoRuleConfig(tau=0.6)


def test_an_unknown_algorithm_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"algorithm = 'grop': there is no such preset; choose one of .*grpo"):
        run(algorithm="grop")


def test_a_resolved_run_read_back_is_the_same_run(tmp_path: Path):
    config = run(algorithm="grpo", rollout={"group_size": 4}, validation={"tasks": "v.parquet"})
    (tmp_path / "rl.toml").write_text(dump_config(config))
    assert load_config(RlRun, tmp_path / "rl.toml") == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rollout": {"group_size": 1}}, "set it to 2 or more"),
        ({"rollout": {"temperature": 0}}, "use a temperature above 0"),
        ({"updates_per_step": 9, "tasks_per_step": 8}, "a mini-batch holds at least one tree"),
    ],
)
def test_contradictions(values: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        run(**values)


def test_sections_may_be_plain_dictionaries_or_objects():
    from arpo.models.config import ModelConfig

    given = {"out": Path("o"), "data": Path("d.jsonl")}
    assert SftRun(model={"path": "m"}, **given) == SftRun(model=ModelConfig(path=Path("m")), **given)
