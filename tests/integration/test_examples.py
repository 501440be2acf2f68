"""The example programs and the public names they use."""

import ast
import asyncio
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import arpo
from arpo.inference.scripted import ScriptedEngine
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rewards.scoring import score_tree
from arpo.rollout.build import build_agent
from arpo.rollout.config import AgentConfig, NoBranchingConfig, RolloutConfig
from arpo.rollout.runner import RolloutRunner
from arpo.training.task_order import TaskOrder

MINIMAL = Path(__file__).parents[2] / "examples" / "minimal.py"
EXAMPLE = Path(__file__).parents[2] / "examples" / "train_on_your_data.py"


def test_train_on_your_data_runs(domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [{"question": f"How many {item}?", "answer": count} for item, count in (("apples", 12), ("pears", 7))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tasks.parquet")
    monkeypatch.setattr(
        sys, "argv", [str(EXAMPLE), str(domain.path / "policy"), str(tmp_path / "tasks.parquet"), str(tmp_path / "run")]
    )
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["num_steps"] == 2
    trees = list(arpo.read_trees(tmp_path / "run" / "rollouts" / "step_000002.jsonl.zst"))
    assert sorted(tree.task.question for tree in trees) == ["How many apples?", "How many pears?"]
    assert {leaf.reward.value for tree in trees for leaf in tree.leaves()} == {0.0}, "a policy of random weights knows nothing"


async def test_its_tool_and_reward_do_what_they_say(domain):
    """Right after one call: 1 - 0.1; right without: 1; wrong: 0."""
    example = runpy.run_path(str(EXAMPLE))
    tokenizer = PolicyTokenizer.load(domain.path / "policy")
    scripts = {
        "called": lambda text: "<answer>7</answer>" if "</result>" in text else "<stock>pears</stock>",
        "knew": lambda _: "<answer>7</answer>",
        "wrong": lambda text: f"<answer>{text.count('no such item')}</answer>" if "<result>" in text else "<stock>x</stock>",
    }
    rewards = {}
    for name, script in scripts.items():
        config = AgentConfig.model_validate(
            {"protocol": {"tools": ["stock"], "arguments": {"stock": "item"}, "system_prompt": ""}}
        )
        engine = ScriptedEngine(script, tokenizer)
        agent = build_agent(config, engine, tokenizer, extra_tools={"stock": arpo.FunctionTool(example["stock"])})
        runner = RolloutRunner(agent, RolloutConfig(group_size=1, rule=NoBranchingConfig()))
        task = arpo.Task(id="1", messages=(arpo.Message(role="user", content="pears?"),), references=("7",), source="x")
        (tree,) = [tree async for tree in runner.sample([task], seed=0)]
        score_tree(tree, example["right_and_short"])
        reward = tree.leaves()[0].reward
        rewards[name] = (reward.value, reward.is_correct)
    assert rewards == {"called": (0.9, True), "knew": (1.0, True), "wrong": (0.0, False)}


def test_the_examples_are_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    assert len(MINIMAL.read_text().splitlines()) <= 150


def test_the_minimal_loop_runs_as_its_docstring_says(domain, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(MINIMAL), str(domain.path / "policy")])
    runpy.run_path(str(MINIMAL), run_name="__main__")
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["step 1", "step 2", "step 3"]


def test_the_minimal_loop_trains_as_the_trainer_does(domain, tmp_path: Path):
    """The same policy, tool, tasks, rule and seeds, two steps: equal weights, bit by bit. Odd lengths earn something."""
    minimal = runpy.run_path(str(MINIMAL))

    def is_odd(trajectory: arpo.Trajectory) -> arpo.Reward:
        return arpo.Reward(value=float(trajectory.num_sampled_tokens % 2))

    rows = [{"id": item, "question": f"How many {item}?", "answer": count} for item, count in minimal["STOCK"].items()]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = arpo.RlRun.model_validate(
        {
            "algorithm": "arpo", "model": {"path": domain.path / "policy"}, "tasks": tmp_path / "tasks.jsonl",
            "out": tmp_path / "run", "num_steps": 2, "tasks_per_step": 3, "rollout": {"group_size": 8},
            "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.0},
            "agent": {
                "protocol": {"tools": ["stock"], "system_prompt": minimal["SYSTEM"]},
                "tools": {"executor": {"max_calls": 3}},
                "limits": {"max_turn_tokens": 64, "max_trajectory_tokens": 512},
            },
        }
    )  # fmt: skip
    arpo.train_rl(config, reward_fn=is_odd, tools={"stock": arpo.FunctionTool(minimal["stock"])})
    order = TaskOrder(arpo.read_tasks(tmp_path / "tasks.jsonl").tasks, 3, seed=0)
    steps = [order.take(position, 3)[0] for position in (0, 3)]
    policy = asyncio.run(minimal["train"](domain.path / "policy", steps, is_odd, group_size=8, learning_rate=1e-3))
    start, trained = (
        load_file(folder / "model.safetensors") for folder in (domain.path / "policy", tmp_path / "run" / "final")
    )
    weights = policy.network.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in trained.items())
    assert any(not torch.equal(start[name], tensor) for name, tensor in trained.items()), "the steps moved the policy"


def test_every_public_name_is_there_and_importing_arpo_is_cheap():
    assert set(arpo.__all__) <= set(dir(arpo))
    assert all(getattr(arpo, name) is not None for name in arpo.__all__)
    with pytest.raises(AttributeError, match="its names are train_rl"):
        _ = arpo.no_such_name
    program = "import sys, arpo; arpo.RlRun, arpo.FunctionTool, arpo.Task; print({'torch', 'pyarrow'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"


def test_type_checkers_see_the_names_that_python_does():
    module = ast.parse(Path(arpo.__file__).read_text())
    imported = {alias.name for node in ast.walk(module) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(arpo.__all__) - {"__version__"} <= imported


def test_a_run_in_plain_python_is_the_run_of_its_file(tmp_path: Path):
    run = arpo.RlRun(
        model={"path": "m"}, tasks="t.parquet", out="o", agent={"tools": {"python": {}}}, rollout={"group_size": 8}
    )
    (tmp_path / "rl.toml").write_text(
        'tasks = "t.parquet"\nout = "o"\n[model]\npath = "m"\n[agent.tools.python]\n[rollout]\ngroup_size = 8\n'
    )
    assert arpo.load_config(arpo.RlRun, tmp_path / "rl.toml") == run
