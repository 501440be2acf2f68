import tomllib
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from arpo.config import dump_config, load_config, parse_config
from arpo.errors import ConfigError
from arpo.rollout.config import ArpoRuleConfig, BranchRuleConfig, NoBranchingConfig
from arpo.training.algorithm_config import MismatchConfig
from arpo.training.config import RlRun, SftRun
from arpo.training.presets import preset_names

VLLM = {"engine": {"type": "vllm"}, "rollout": {"deterministic": False}}
BASE = {"out": "o", "model": {"path": "m"}, "tasks": "t.parquet", "agent": {"tools": {"python": {}}}}


def run(**values: object) -> RlRun:
    return parse_config(RlRun, BASE | values, "test")


def test_what_is_set_overrides_the_preset_and_leaves_the_rest():
    config = run(rollout={"group_size": 8, "rule": {"tau": 0.7}})
    assert (config.rollout.group_size, config.rollout.num_initial_trajectories) == (8, 4)
    assert config.rollout.rule == ArpoRuleConfig(tau=0.7)


def test_another_type_replaces_the_presets_section():
    """The preset's alpha, beta and tau do not belong to the rule `none`."""
    assert run(rollout={"rule": {"type": "none"}}).rollout.rule == NoBranchingConfig()
    assert run(algorithm="grpo", rollout={"rule": {"type": "arpo", "tau": 0.6}}).rollout.rule == ArpoRuleConfig(tau=0.6)


def test_another_type_of_loss_keeps_what_every_loss_has():
    """Dr. GRPO's constant denominator stays, its clip bounds do not belong to `reinforce`."""
    loss = run(algorithm="dr_grpo", loss={"type": "reinforce"}).loss
    assert loss.model_dump(exclude={"kl"}) == {"type": "reinforce", "aggregation": "constant", "entropy_coefficient": 0.0}


def test_another_type_of_advantage_keeps_what_every_advantage_has():
    advantage = run(algorithm="dr_grpo", advantage={"type": "gigpo"}).advantage
    assert (advantage.type, advantage.scale) == ("gigpo", "none")


def test_the_correction_is_on_where_the_engine_is_not_the_trainers_own_model():
    assert run().mismatch.level == "none"
    assert run(**VLLM).mismatch == MismatchConfig(level="token")
    assert run(algorithm="gspo", **VLLM, mismatch={"cap": 3}).mismatch == MismatchConfig(level="sequence", cap=3)
    assert run(**VLLM, mismatch={"level": "none"}).mismatch.level == "none"
    assert run(mismatch={"level": "sequence"}).mismatch.cap == 2


def test_an_unknown_algorithm_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"algorithm = 'grop': there is no such preset; choose one of .*grpo"):
        run(algorithm="grop")


@pytest.mark.parametrize("name", preset_names())
def test_a_resolved_run_read_back_is_the_same_run(name: str, tmp_path: Path):
    config = run(algorithm=name, validation={"tasks": "v.parquet"})
    (tmp_path / "rl.toml").write_text(dump_config(config))
    assert load_config(RlRun, tmp_path / "rl.toml") == config


RULES = (None, *(kind.model_fields["type"].default for kind in get_args(get_args(BranchRuleConfig)[0])))
LOSSES = (None, "ppo_clip", "cispo", "gspo", "reinforce")
ADVANTAGES = (None, "outcome", "gigpo", "tree_grpo", "appo")


@pytest.mark.parametrize("name", preset_names())
def test_what_is_printed_loads_again_unchanged(name: str):
    """Under every preset, with every rule, and every loss with every advantage, where they go together, on both engines."""
    accepted = set[tuple[str | None, ...]]()
    kinds = [(rule, None, None) for rule in RULES] + [(None, *pair) for pair in product(LOSSES, ADVANTAGES)]
    for (rule, loss, advantage), values in product(kinds, ({"updates_per_step": 2}, VLLM)):
        chosen = {"loss": {"type": loss}} if loss else {}
        chosen |= {"advantage": {"type": advantage}} if advantage else {}
        rollout = values.get("rollout", {}) | ({"rule": {"type": rule}} if rule else {})
        try:
            config = run(**values | chosen | {"rollout": rollout, "algorithm": name})
        except ConfigError:
            continue
        printed = dump_config(config)
        assert parse_config(RlRun, tomllib.loads(printed), "printed") == config
        assert dump_config(parse_config(RlRun, tomllib.loads(printed), "printed")) == printed
        accepted.add((rule, loss, advantage))
    refused = {rule for rule in RULES if (rule, None, None) not in accepted}
    own_plan = {"none", "mixed_outcomes"}  # a preset with an N of its own takes neither no branches nor another plan
    assert refused <= own_plan | ({"appo"} if name == "treerl" else set()), "appo needs entropies, treerl has surprisals"
    assert len({loss for _, loss, _ in accepted}) >= 4


def test_the_printed_configuration_shows_the_values_in_force():
    printed = tomllib.loads(dump_config(run(rollout={"group_size": 6, "rule": {"type": "arpo_released"}})))
    assert printed["rollout"]["num_initial_trajectories"] == 3
    assert (printed["rollout"]["entropy_estimator"], printed["rollout"]["entropy_top_k"]) == ("top_k", 10)
    assert (printed["mismatch"], printed["advantage"]["epsilon"]) == ({"level": "none"}, 1e-6)
    assert "mix" not in printed["advantage"]
    assert printed["loss"]["kl"] == {"coefficient": 0.0}
    printed = tomllib.loads(dump_config(run(**VLLM, loss={"kl": {"coefficient": 0.1}}, overlong={"penalty": 1.0})))
    assert printed["mismatch"] == {"level": "token", "cap": 2.0}
    assert printed["loss"]["kl"] == {"coefficient": 0.1, "estimator": "k3"}
    assert printed["overlong"] == {"penalty": 1.0, "buffer": 0.2}


def test_a_configuration_that_the_former_version_printed_still_loads():
    """It printed every default, in force or not, and nothing where a key was left to mean the paper's."""
    former = {
        "optimizer": {"schedule": "constant", "final_fraction": 0.0}, "mismatch": {}, "overlong": {"penalty": 0.0},
        "tracking": {"sinks": [], "project": "arpo", "wandb_mode": "offline"},
        "agent": {"tools": {"python": {"mode": "fresh", "live_sessions": 32}, "cache": {"mode": "normal"}}},
        "advantage": {"type": "outcome", "attribution": "soft"}, "loss": {"type": "ppo_clip", "kl": {"coefficient": 0.0}},
    }  # fmt: skip
    assert run(**former) == run()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rollout": {"temperature": 0}}, "use a temperature above 0"),
        ({"updates_per_step": 9, "tasks_per_step": 8}, "a mini-batch holds at least one tree"),
    ],
)
def test_contradictions(values: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        run(**values)


def test_sections_may_be_plain_dictionaries_or_objects():
    from arpo.models.config import TrainedModelConfig

    given = {"out": Path("o"), "data": Path("d.jsonl")}
    assert SftRun(model={"path": "m"}, **given) == SftRun(model=TrainedModelConfig(path=Path("m")), **given)


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ({"algorithm": "reinforce_pp"}, "token"),
        ({"algorithm": "reinforce_pp", "advantage": {"baseline": "group_mean"}}, "token"),
        ({"algorithm": "rloo"}, "sequence"),
        ({"algorithm": "grpo"}, "sequence"),
        ({"algorithm": "arpo", "advantage": {"baseline": "none", "scale": "none"}}, "token"),
        ({"algorithm": "gspo", "advantage": {"baseline": "none", "scale": "none"}}, "sequence"),
    ],
)
def test_the_kl_in_the_reward_is_taken_off_as_the_algorithms_paper_does(values: dict, level: str):
    kl = {"coefficient": 0.1, "estimator": "k1"}
    config = run(**values, loss={"kl": kl})
    assert config.loss.kl.level == level
    assert tomllib.loads(dump_config(config))["loss"]["kl"]["level"] == level
    for chosen in ("token", "sequence"):
        if (values["algorithm"], chosen) != ("gspo", "token"):
            assert run(**values, loss={"kl": kl | {"level": chosen}}).loss.kl.level == chosen
