"""The example programs and the public names they use."""

import ast
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import arpo
from arpo.inference.scripted import ScriptedEngine
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rewards.scoring import score_tree
from arpo.rollout.build import build_agent
from arpo.rollout.config import AgentConfig, NoBranchingConfig, RolloutConfig
from arpo.rollout.runner import RolloutRunner

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
        (tree,) = [tree async for tree in runner.grow([task], seed=0)]
        score_tree(tree, example["right_and_short"])
        reward = tree.leaves()[0].reward
        rewards[name] = (reward.value, reward.is_correct)
    assert rewards == {"called": (0.9, True), "knew": (1.0, True), "wrong": (0.0, False)}


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 40


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
