"""A resumed run changes what cannot change its past; everything else is refused by name."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arpo.cli.main import main
from arpo.config import Config, config_keys, dotted, dump_config, load_config, merge_keys, parse_config, value_at
from arpo.errors import ConfigError
from arpo.training.config import OptimizerConfig, RlRun, SftRun
from arpo.training.optimizer import scheduled_rate
from arpo.training.resumption import CHANGEABLE, go_on, may_change

RL = {"model": "m", "tasks": "t", "agent": {"tools": {"python": {}}}, "validation": "v", "updates_per_step": 2}
SFT = {"model": "m", "data": "d", "validation": {"fraction": 0.1}, "optimizer": {"schedule": "constant"}}
CANDIDATES: tuple[Any, ...] = (
    7, 3, 2, 0.5, 0.3, 1.5, True, False, "bfloat16", "cpu", "cuda", "wandb", "offline", "online", "flat", "linear", "sharper",
    "grpo", "hermes", "other", ["python"], {"a": 1}, {"a": "b"}, [0.8, 0.9], 20000, 64, "none", "session", "landlock", "a.b:c",
    "gspo", "gigpo", "f1", "2024-01-01", "leave_one_out", "batch_std", "once", "sequence_mean", "gppo", "openai", "vllm",
)  # fmt: skip
NAMED = {"seed", "model.path", "model.dtype", "optimizer.learning_rate"}


def stored(cls: type[Config], keys: dict[str, Any], folder: Path) -> Config:
    """A configuration whose run has begun."""
    config = parse_config(cls, keys | {"out": str(folder)}, "t")
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(dump_config(config))
    return config


def others(config: Config, every: int) -> Iterator[tuple[str, Config]]:
    """For each key of a configuration, one like it with another value, where one is found that goes with the rest.

    With `every` above 1, of the keys that may not change only each so many.
    """
    keys = tomllib.loads(dump_config(config))
    for number, key in enumerate(dict.fromkeys(key for key, *_ in config_keys(type(config)) if "<name>" not in key)):
        if number % every and key not in NAMED and not may_change(type(config), key):
            continue
        for candidate in CANDIDATES:
            change: Any = candidate
            for name in reversed(key.split(".")):
                change = {name: change}
            try:
                other = parse_config(type(config), merge_keys(keys, change), "t")
            except ConfigError:
                continue
            if dotted(tomllib.loads(dump_config(other))) != dotted(keys):
                yield key, other
                break


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("cls", "keys"), [(RlRun, RL), (SftRun, SFT)])
def test_every_key_is_changed_and_told_or_refused_by_name(
    cls: type[Config], keys: dict[str, Any], every: int, tmp_path: Path
) -> None:
    config = stored(cls, keys, tmp_path / "run")
    accepted, refused = set[str](), set[str]()
    for key, other in others(config, every):
        lines = list[str]()
        if key == "out":
            continue
        if may_change(cls, key):
            assert go_on(other, lines.append) == other
            assert any(line.startswith(f"resumed with {key} = ") and "(so far " in line for line in lines), (key, lines)
            accepted.add(key)
        else:
            with pytest.raises(ConfigError, match=r"a resumed run keeps its own configuration, but for checkpoint, ") as error:
                go_on(other, lines.append)
            named = [key, *(key.rsplit(".", n)[0] for n in range(1, key.count(".") + 1))]  # a new section is named by its keys
            assert any(f"{name} = " in str(error.value) or f"{name}." in str(error.value) for name in named), str(error.value)
            assert lines == []
            refused.add(key)
    assert {key for key, *_ in config_keys(cls) if may_change(cls, key)} - accepted <= {
        "tracking.project",
        "tracking.wandb_mode",
    }
    assert refused >= NAMED
    assert len(refused) > 20 / every


def test_the_same_configuration_goes_on_without_a_word(tmp_path: Path) -> None:
    lines = list[str]()
    config = stored(RlRun, RL, tmp_path / "run")
    assert go_on(config, lines.append) == config
    assert go_on(load_config(RlRun, tmp_path / "run" / "config.toml"), lines.append) == config
    fresh = parse_config(RlRun, RL | {"out": str(tmp_path / "none")}, "t")
    assert go_on(fresh, lines.append) is fresh, "no run, nothing to compare"
    assert lines == []


def test_what_a_run_settled_at_its_start_holds(tmp_path: Path) -> None:
    """The commit of a hub model and the device that `auto` took; another one that is named is a change."""
    stored(RlRun, RL | {"model": {"path": "m", "revision": "abc", "device": "cuda"}}, tmp_path / "run")
    asked = parse_config(RlRun, RL | {"out": str(tmp_path / "run")}, "t")
    model = go_on(asked, print).model
    assert (model.revision, model.device) == ("abc", "cuda")
    lines = list[str]()
    elsewhere = parse_config(RlRun, RL | {"out": str(tmp_path / "run"), "model": {"path": "m", "device": "cpu"}}, "t")
    assert go_on(elsewhere, lines.append).model.device == "cpu"
    assert lines == ["resumed with model.device = 'cpu' (so far 'cuda'): sums may differ in their last bits"]
    with pytest.raises(ConfigError, match=r"model\.revision = 'def' \(so far 'abc'\)"):
        go_on(asked.model_copy(update={"model": asked.model.model_copy(update={"revision": "def"})}), print)


def test_a_record_of_a_former_version_has_the_defaults_of_keys_it_does_not_know(tmp_path: Path) -> None:
    config = stored(RlRun, RL, tmp_path / "run")
    keys = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    keys["optimizer"].pop("weight_decay")
    keys["tracking"]["project"] = "arpo"  # printed by versions that printed what had no effect
    import tomli_w

    (tmp_path / "run" / "config.toml").write_text(tomli_w.dumps(keys))
    assert go_on(config, print) == config


@pytest.mark.parametrize(
    ("cls", "keys", "key", "value"),
    [(RlRun, RL, "num_steps", 200), (SftRun, SFT, "num_epochs", 6), (SftRun, SFT | {"max_seconds": 5.0}, "max_seconds", 9.0)],
)
def test_a_decaying_schedule_needs_an_end_of_its_own(
    cls: type[Config], keys: dict[str, Any], key: str, value: Any, tmp_path: Path
) -> None:
    """The rates of the past led to the end of the run as it was; with `schedule_steps` they are the same in a longer run."""
    for schedule in ("linear", "cosine"):
        config = stored(cls, keys | {"optimizer": {"schedule": schedule}}, tmp_path / schedule)
        with pytest.raises(ConfigError, match=rf"{key} = .* with optimizer\.schedule = '{schedule}'.*schedule_steps"):
            go_on(config.model_copy(update={key: value}), print)
    config = stored(cls, keys | {"optimizer": {"schedule": "constant"}}, tmp_path / "constant")
    assert value_at(go_on(config.model_copy(update={key: value}), print), key) == value
    if key != "max_seconds":
        ends = {"optimizer": {"schedule": "cosine", "schedule_steps": 300}}
        config = stored(cls, keys | ends, tmp_path / "ends")
        assert value_at(go_on(config.model_copy(update={key: value}), print), key) == value


def test_a_schedule_with_an_end_of_its_own_does_not_follow_the_length() -> None:
    """Linear from 1 to 0.2 over 4 updates: 1.0, 0.8, 0.6, 0.4, then 0.2 for good."""
    config = OptimizerConfig(learning_rate=1.0, schedule="linear", final_fraction=0.2, schedule_steps=4)
    assert [round(scheduled_rate(config, update, 4), 6) for update in range(6)] == [1.0, 0.8, 0.6, 0.4, 0.2, 0.2]


def test_steps_at_a_rate_of_0_are_refused() -> None:
    decays = {"schedule": "linear", "schedule_steps": 50}
    with pytest.raises(ConfigError, match=r"the learning rate is 0 after step 50"):
        parse_config(RlRun, RL | {"out": "o", "num_steps": 51, "optimizer": decays}, "t")
    for fine in ({"num_steps": 50}, {"num_steps": 51, "optimizer": decays | {"final_fraction": 0.1}}):
        parse_config(RlRun, RL | {"out": "o", "optimizer": decays} | fine, "t")
    with pytest.raises(ConfigError, match=r"schedule_steps = 50 with max_seconds = 5: both say when the schedule ends"):
        parse_config(SftRun, SFT | {"out": "o", "max_seconds": 5, "optimizer": decays}, "t")


def test_the_command_line_takes_changes_beside_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(RlRun, RL, tmp_path / "run")
    run = str(tmp_path / "run")
    assert main(["train", "--resume", run, "--dry-run", "--batching.max_tokens=9000", "--tracking=wandb", "--num_steps=7"]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert (printed["batching"]["max_tokens"], printed["tracking"]["sinks"], printed["num_steps"]) == (9000, ["wandb"], 7)
    for refused in ("--seed=3", "--rollout.group_size=8", '--model={path="x"}', "--optimizer.learning_rate=1"):
        assert main(["train", "--resume", run, "--dry-run", refused]) == 2
        assert f"{refused!r} has no place here" in capsys.readouterr().err.replace("\n", " ")
    assert main(["train", "--resume", run, "--dry-run", "--batching.max_tokens=8191"]) == 2
    assert "agent.limits.max_trajectory_tokens = 8192" in capsys.readouterr().err.replace("\n", " ")


def test_resume_auto_takes_the_run_of_the_configuration_or_starts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = tmp_path / "run", tmp_path / "my.toml"
    file.write_text(f'out = "{run}"\nmodel = "m"\ntasks = "t"\nvalidation = "v"\nupdates_per_step = 2\n[agent.tools.python]\n')
    command = ["train", str(file), "--resume", "auto", "--dry-run"]
    assert main(command) == 0, "there is none yet"
    capsys.readouterr()
    stored(RlRun, RL | {"model": {"path": "m", "revision": "abc"}}, run)
    assert main([*command, "--num_steps=7"]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert (printed["num_steps"], printed["model"]["revision"]) == (7, "abc")
    assert main([*command, "--seed=3"]) == 2
    assert "seed = 3 (so far 0): a resumed run keeps its own configuration" in capsys.readouterr().err.replace("\n", " ")
    stored(SftRun, SFT, run)
    assert main(command) == 2
    assert "not a run of `arpo train`" in capsys.readouterr().err.replace("\n", " ")
    assert main(["train", "--resume", "auto"]) == 2
    assert "name a recipe or a TOML file" in capsys.readouterr().err


def test_a_tool_is_never_added_or_taken_away(tmp_path: Path) -> None:
    """Not even one whose section has defaults alone."""
    tools = {"python": {}, "browse": {}}
    protocol = {"protocol": {"tools": ["python", "browse"]}}
    more = parse_config(RlRun, RL | {"out": str(tmp_path / "run"), "agent": {"tools": tools}}, "t")
    less = stored(RlRun, RL, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"agent\.tools\.browse\.page_chars = 4000 \(so far none\)"):
        go_on(more, print)
    stored(RlRun, RL | {"agent": {"tools": tools} | protocol}, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"agent\.tools\.browse\.page_chars = none \(so far 4000\)"):
        go_on(less, print)


def test_a_pass_that_a_former_version_allowed_is_raised(tmp_path: Path) -> None:
    """Its record alone is refused today: a trajectory of 8,192 tokens fits no pass of 4,096."""
    config, lines = stored(RlRun, RL, tmp_path / "run"), list[str]()
    record = tmp_path / "run" / "config.toml"
    record.write_text(record.read_text().replace("max_tokens = 8192", "max_tokens = 4096"))
    with pytest.raises(ConfigError, match=r"batching\.max_tokens = 4096 is below"):
        load_config(RlRun, record)
    assert go_on(load_config(RlRun, record, ["batching.max_tokens=8192"]), lines.append) == config
    assert lines == ["resumed with batching.max_tokens = 8192 (so far 4096): gradients stay, but for their last bits"]


def test_every_changeable_key_is_a_key() -> None:
    for cls, names in CHANGEABLE.items():
        keys = [key for key, *_ in config_keys(cls)]
        assert all(any(key == name or key.startswith(f"{name}.") for key in keys) for name in names)
