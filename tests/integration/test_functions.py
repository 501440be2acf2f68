"""Functions of one's own by file, through the commands and from Python: trained, resumed, evaluated, sampled."""

import json
from pathlib import Path
from typing import Any

import pytest

import arpo as library
from arpo.config import load_config

TOOL = '''
from helpers import add


def calc(a: int, b: int) -> int:
    """Sum of two numbers."""
    return add(a, b)
'''
REWARD = '''
def correct(trajectory):
    """1 for the right answer, and a bit for each token."""
    parse = trajectory.leaf.parse
    right = parse is not None and parse.answer in trajectory.task.references
    return {"right": float(right), "length": trajectory.num_sampled_tokens / 100}
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a tool, what it imports, and a reward."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "my_tools.py").write_text(TOOL)
    (folder / "helpers.py").write_text("def add(a, b):\n    return a + b\n")
    (folder / "my_reward.py").write_text(REWARD)
    return folder


def agent(domain: Any) -> dict[str, Any]:
    return {
        "protocol": {"system_prompt": "", "tools": ["calc"]}, "limits": domain.agent["limits"],
        "tools": {"executor": {"max_calls": 2}, "functions": {"calc": "my_tools.py:calc"}},
    }  # fmt: skip


def components(trees: Path) -> set[str]:
    return {name for tree in library.read_trees(trees) for leaf in tree.leaves() for name in leaf.reward.components}


def test_a_run_with_functions_of_ones_own(arpo, domain, project: Path, write_toml, tmp_path: Path):
    """Trained from another folder, stopped, resumed, changed, refused, resumed with the copies; evaluated and sampled."""
    reward = {"rule": "my_reward.py:correct"}
    keys = domain.rl(tmp_path / "run", agent=agent(domain), reward=reward, num_steps=1, checkpoint={"every": 1, "keep": 1})
    del keys["validation"]
    arpo.succeed("train", write_toml(project / "rl.toml", keys), cwd=tmp_path)
    run = tmp_path / "run"
    assert {"right", "length", "format"} <= components(run / "rollouts" / "step_000001.jsonl.zst")
    for tree in library.read_trees(run / "rollouts" / "step_000001.jsonl.zst"):
        for leaf in tree.leaves():
            assert leaf.reward.value == pytest.approx(leaf.reward.components["right"] + leaf.reward.components["length"])
    copies = run / "functions" / "1"
    assert {p.name for p in copies.glob("*.py")} == {"my_tools.py", "helpers.py", "my_reward.py"}

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arpo.succeed("train", "--resume", run, "--num_steps=2", cwd=elsewhere)
    (project / "helpers.py").write_text("def add(a, b):\n    return a - b\n")
    refused = arpo("train", "--resume", run, "--num_steps=3", cwd=elsewhere)
    assert refused.code == 2
    for words in ("helpers.py has changed since this run began", "--functions=files", "--functions=copies", str(copies)):
        assert words in refused.stderr
    assert [line[:6] for line in refused.stderr.splitlines() if not line.startswith("  resumed with")] == ["error:"]
    arpo.succeed("train", "--resume", run, "--num_steps=3", "--functions", "copies", cwd=elsewhere)
    assert load_config(library.RlRun, run / "config.toml").reward.rule == f"{project}/my_reward.py:correct"

    evaluation = domain.evaluation(tmp_path / "eval", agent=agent(domain), reward=reward, num_tasks=1, num_samples=0)
    evaluation["model"] = {"path": str(run / "final")}
    toml = write_toml(project / "eval.toml", evaluation)
    refused = arpo("eval", toml, cwd=elsewhere)
    assert refused.code == 2
    assert "helpers.py" in refused.stderr
    arpo.succeed("eval", toml, "--functions=files", cwd=elsewhere)
    assert {p.name for p in (tmp_path / "eval" / "functions" / "1").glob("*.py")} == {
        "my_tools.py",
        "helpers.py",
        "my_reward.py",
    }
    assert "right" in components(tmp_path / "eval" / "rollouts" / "greedy.jsonl.zst")

    rollout = {k: v for k, v in keys.items() if k in ("tasks", "model", "agent", "rollout", "reward")}
    toml = write_toml(project / "rollout.toml", rollout | {"out": str(tmp_path / "trees"), "num_tasks": 1})
    arpo.succeed("rollout", toml, cwd=elsewhere)
    assert "right" in components(tmp_path / "trees" / "rollouts" / "part_000001.jsonl.zst")

    called = arpo.succeed(
        "tool", "call", "calc", "--arguments", '{"a": 5, "b": 3}', "--config", project / "rl.toml", cwd=elsewhere
    )
    assert called.stdout.startswith("2\n"), "5 - 3, by the changed helper"
    called = arpo.succeed("tool", "call", "calc", '{"a": 5, "b": 3}', "--functions.calc=my_tools.py:calc", cwd=project)
    assert called.stdout.startswith("2\n")


def test_the_same_words_from_python(domain, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`reward_fn`, `tools` and `on_step` in training, evaluation and sampling; what began with them goes on with them alone."""

    def calc(a: int, b: int) -> int:
        """Sum of two numbers."""
        return a + b

    def length(trajectory: library.Trajectory) -> dict[str, float]:
        return {"length": trajectory.num_sampled_tokens / 10}

    own: dict[str, Any] = {"reward_fn": length, "tools": {"calc": calc}}
    loop = agent(domain)
    del loop["tools"]["functions"]
    keys = domain.rl(tmp_path / "run", agent=loop, num_steps=2, checkpoint={"every": 1, "keep": 1})
    del keys["validation"]
    run, reports = library.RlRun.model_validate(keys), list[library.StepReport]()

    def stop_after_one(report: library.StepReport) -> None:
        reports.append(report)
        if report.step == 1:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        library.train_rl(run, on_step=stop_after_one, **own)
    with pytest.raises(library.ArpoError, match=r"began in Python with reward_fn, tools.calc"):
        library.train_rl(run, resume=True)
    library.train_rl(run, resume=True, on_step=stop_after_one, **own)
    assert [(report.step, report.num_steps, len(report.trees)) for report in reports] == [(1, 2, 2), (2, 2, 2)]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [dict(report.metrics) for report in reports] == [{k: v for k, v in line.items() if k != "step"} for line in lines]
    assert {"length"} <= {name for tree in reports[0].trees for leaf in tree.leaves() for name in leaf.reward.components}

    evaluation = domain.evaluation(tmp_path / "eval", agent=loop, num_tasks=1, num_samples=0)
    library.evaluate(library.EvalRun.model_validate(evaluation), **own)
    assert "length" in components(tmp_path / "eval" / "rollouts" / "greedy.jsonl.zst")
    rollout = {k: v for k, v in keys.items() if k in ("tasks", "model", "agent", "rollout")} | {"out": tmp_path / "trees"}
    summary = library.sample_rollouts(library.RolloutRun.model_validate(rollout | {"num_tasks": 1}), **own)
    assert summary["reward_mean"] > 0
    assert "length" in components(tmp_path / "trees" / "rollouts" / "part_000001.jsonl.zst")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--reward.rule=none.py:f", ["reward.rule = '", "none.py:f': no such file", "on the command line and in Python"]),
        ("--reward.rule=my_reward.py:f", ["my_reward.py has no 'f'; its functions are ['correct']"]),
        ("--reward.rule=my_reward.py", ["reward.rule = 'my_reward.py'", "write my_reward.py:NAME"]),
        ("--reward.rule=my_tools.py:calc", ["has the arguments (a: int, b: int) -> int", "def calc(trajectory)"]),
        ("--reward.rule=broken.py:f", ["importing broken.py raised SyntaxError", "broken.py:1 (def f(:)"]),
        ("--agent.tools.functions.calc=raises.py:f", ["agent.tools.functions.calc", "raised ZeroDivisionError", "raises.py:1"]),
        ("--agent.tools.functions.calc=my_reward.py:correct", ["tools.functions.calc = '", "parameter 'trajectory'", "hint"]),
        ("--agent.tools.calc=my_tools:calc", ["functions.calc = 'my_tools:calc'"]),
        ("--functions=files", ["functions = 'files' has no effect"]),
    ],
)
def test_a_function_that_cannot_be_used_is_one_line(arpo, domain, project: Path, write_toml, tmp_path: Path, override, words):
    (project / "broken.py").write_text("def f(:\n")
    (project / "raises.py").write_text("1 / 0\n")
    toml = write_toml(project / "rl.toml", domain.rl(tmp_path / "run", agent=agent(domain)))
    result = arpo("train", toml, override, cwd=project)
    errors = [line for line in result.stderr.splitlines() if not line.startswith("  device: ")]
    assert (result.code, len(errors)) == (2, 1), result.stderr
    assert [w for w in words if w not in result.stderr] == [], result.stderr
    assert not (tmp_path / "run" / "config.toml").exists()


def test_supervised_training_calls_back_and_keeps_its_tools(domain, project: Path, tmp_path: Path):
    tools = {"functions": {"calc": f"{project}/my_tools.py:calc"}}
    run = library.SftRun.model_validate(domain.sft(tmp_path / "sft", num_epochs=1, tools=tools))
    steps: list[tuple[int, float]] = []
    library.train_sft(run, on_step=lambda report: steps.append((report.step, report.metrics["sft/loss"])))
    lines = [json.loads(line) for line in (tmp_path / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [(line["step"], line["sft/loss"]) for line in lines]
    assert {p.name for p in (tmp_path / "sft" / "functions" / "1").glob("*.py")} == {"my_tools.py", "helpers.py"}
