import importlib
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from arpo.config import dump_config, load_config
from arpo.errors import ConfigError
from arpo.function_name import FunctionName
from arpo.functions.loading import load_function
from arpo.rewards.build import build_reward, build_scorer
from arpo.rewards.composite import CompositeReward
from arpo.rewards.config import CompositeConfig, RewardConfig
from arpo.rewards.released import ReleasedReward
from arpo.rewards.scoring import score_tree
from arpo.tree import Trajectory, tree_from_dict, tree_to_dict
from arpo.types import Reward

GOOD = "<think> so </think> <answer> \\boxed{Kelford} </answer>"


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_rewards.py").write_text(
        "from arpo.types import Reward\n"
        "from arpo.errors import DataError\n"
        "def length(trajectory): return -len(trajectory.token_ids)\n"
        "def full(trajectory): return Reward(value=2.0, components={'f1': 0.25, 'mine': 3.0}, reason='mine')\n"
        "def right(trajectory): return Reward(value=0.5, is_correct=True)\n"
        "def inexact(trajectory): return Reward(value=0.5, components={'exact_match': 0.0})\n"
        "import numpy as np\nimport torch\n"
        "def half(trajectory): return np.float32(0.5)\n"
        "def one(trajectory): return np.int64(1)\n"
        "def yes(trajectory): return np.bool_(True)\n"
        "def true(trajectory): return True\n"
        "def tensor(trajectory): return torch.tensor([1.0], requires_grad=True)\n"
        "def array(trajectory): return np.array(1)\n"
        "def scalars(trajectory):"
        " return Reward(value=np.float32(1), is_correct=np.bool_(True), components={'a': torch.tensor(2)})\n"
        "def nothing(trajectory): return None\n"
        "def text(trajectory): return '1'\n"
        "def several(trajectory): return np.array([1.0, 2.0])\n"
        "def nan(trajectory): return np.float32('nan')\n"
        "def nan_part(trajectory): return Reward(value=1.0, components={'mine': float('nan')})\n"
        "def no_parts(trajectory): return Reward(value=1.0, components=None)\n"
        "def later(trajectory): raise DataError('no row')\n"
        "def helper(row):\n"
        "    return row['length']\n"
        "def raises(trajectory):\n"
        "    return helper({})\n"
        "def raises_below(trajectory):\n"
        "    return np.linalg.inv(np.zeros((2, 2)))\n"
        "def leaves(trajectory):\n"
        "    raise SystemExit(3)\n"
        "def infinite(trajectory): return float('inf')\n"
        "def parts(trajectory): return {'right': np.float32(1), 'length': -0.25, 'f1': 0.5}\n"
        "def total(trajectory): return {'score': 1.0, 'right': 1.0}\n"
        "def no_part(trajectory): return {}\n"
        "def odd_name(trajectory): return {'a b': 1.0}\n"
        "def odd_part(trajectory): return Reward(value=1.0, components={3: 1.0})\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_rewards"


def test_named_rules():
    assert isinstance(build_reward(RewardConfig()), CompositeReward)
    assert isinstance(build_reward(RewardConfig(rule="arpo_released")), ReleasedReward)


async def by_name(trajectory: Trajectory, path: str) -> Reward | None:
    """The reward of a function named in the configuration."""
    scorer = build_scorer(RewardConfig(rule=path))
    await scorer.score(trajectory.tree)
    await scorer.aclose()
    return trajectory.leaf.reward


async def as_argument(trajectory: Trajectory, path: str) -> Reward | None:
    """The reward of the same function, passed as `train_rl(reward_fn=...)` passes it."""
    module, name = path.split(":")
    scorer = build_scorer(RewardConfig(), getattr(importlib.import_module(module), name))
    await scorer.score(trajectory.tree)
    await scorer.aclose()
    return trajectory.leaf.reward


@pytest.mark.parametrize("score", [by_name, as_argument])
async def test_your_function_returns_a_number(make_trajectory, user_module, score):
    trajectory = make_trajectory(GOOD)
    value = -len(trajectory.token_ids)
    measured = {"exact_match": 1.0, "f1": 1.0, "format": 1.0}
    assert await score(trajectory, f"{user_module}:length") == Reward(value=value, is_correct=True, components=measured)
    bad = make_trajectory(GOOD.replace("Kelford", "Bo"))
    assert (await score(bad, f"{user_module}:length")).is_correct is False


@pytest.mark.parametrize("score", [by_name, as_argument])
async def test_your_function_returns_a_reward(make_trajectory, user_module, score):
    scored = await score(make_trajectory(GOOD), f"{user_module}:full")
    components = {"exact_match": 1.0, "f1": 0.25, "format": 1.0, "mine": 3.0}
    assert scored == Reward(value=2.0, is_correct=True, components=components, reason="mine")


@pytest.mark.parametrize("score", [by_name, as_argument])
async def test_your_function_says_what_is_right(make_trajectory, user_module, score):
    """By itself where it does, else by its own `exact_match`, else by the box."""
    assert (await score(make_trajectory("Kelford"), f"{user_module}:right")).is_correct is True
    assert (await score(make_trajectory(GOOD), f"{user_module}:inexact")).is_correct is False
    assert (await score(make_trajectory("Kelford"), f"{user_module}:length")).is_correct is False


@pytest.mark.parametrize("score", [by_name, as_argument])
@pytest.mark.parametrize(
    ("name", "value"), [("half", 0.5), ("one", 1.0), ("yes", 1.0), ("true", 1.0), ("tensor", 1.0), ("array", 1.0)]
)
async def test_scalars_of_numpy_and_torch_are_numbers(make_trajectory, user_module, name, value, score):
    scored = await score(make_trajectory(GOOD), f"{user_module}:{name}")
    assert (type(scored.value), scored.value) == (float, value)


async def test_scalars_inside_a_reward_are_numbers(make_trajectory, user_module):
    scored = await by_name(make_trajectory(GOOD), f"{user_module}:scalars")
    assert (type(scored.value), type(scored.is_correct), type(scored.components["a"])) == (float, bool, float)
    assert (scored.value, scored.is_correct, scored.components["a"]) == (1.0, True, 2.0)


@pytest.mark.parametrize("score", [by_name, as_argument])
async def test_the_sum_of_components_is_the_reward(make_trajectory, user_module, score):
    """1 - 0.25 + 0.5 = 1.25; what the function does not name is measured; the file of trees has them all."""
    trajectory = make_trajectory(GOOD)
    scored = await score(trajectory, f"{user_module}:parts")
    components = {"right": 1.0, "length": -0.25, "f1": 0.5, "exact_match": 1.0, "format": 1.0}
    assert scored == Reward(value=1.25, is_correct=True, components=components)
    (read,) = [leaf.reward for leaf in tree_from_dict(tree_to_dict(trajectory.tree)).leaves()]
    assert read == scored


@pytest.mark.parametrize("score", [by_name, as_argument])
@pytest.mark.parametrize(
    ("name", "words"),
    [("total", "'score' looks like the whole reward"), ("no_part", "no component"), ("odd_name", "'a b' cannot name"),
     ("odd_part", "3 cannot name a component")],
)  # fmt: skip
async def test_components_that_are_none_are_refused(make_trajectory, user_module, name, words, score):
    with pytest.raises(ConfigError, match=f"{user_module}:{name} returned .* for task t-1: .*{words}"):
        await score(make_trajectory(GOOD), f"{user_module}:{name}")


@pytest.mark.parametrize("score", [by_name, as_argument])
async def test_none_leaves_an_answer_ungraded(make_trajectory, user_module, score):
    trajectory = make_trajectory(GOOD)
    assert await score(trajectory, f"{user_module}:nothing") is None
    assert trajectory.leaf.ungraded == "the reward function returned None"
    score_tree(trajectory.tree, lambda _: None)
    assert (trajectory.leaf.reward, trajectory.leaf.ungraded) == (None, "the reward function returned None")


@pytest.mark.parametrize("score", [by_name, as_argument])
@pytest.mark.parametrize("name", ["infinite", "nan", "nan_part", "no_parts", "text", "several"])
async def test_other_returns_are_refused(make_trajectory, user_module, name, score):
    with pytest.raises(ConfigError, match=f"{user_module}:{name}.*t-1.*finite number"):
        await score(make_trajectory(GOOD), f"{user_module}:{name}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", r"raised KeyError: 'length' at .*my_rewards\.py:24 \(return row\['length'\]\), for task t-1"),
        ("raises_below", r"raised numpy.linalg.LinAlgError: Singular matrix at .*my_rewards\.py:28 .*for task t-1"),
        ("leaves", r"raised SystemExit: 3 at .*my_rewards\.py:30 .*for task t-1"),
        ("later", r"raised arpo.errors.DataError: no row at .*my_rewards\.py:22 .*for task t-1"),
    ],
)
async def test_what_your_function_raises_names_the_task_and_the_line(make_trajectory, user_module, name, words):
    with pytest.raises(ConfigError, match=words):
        await by_name(make_trajectory(GOOD), f"{user_module}:{name}")
    with pytest.raises(ConfigError, match=words):
        score_tree(make_trajectory(GOOD).tree, build_reward(RewardConfig(rule=f"{user_module}:{name}")))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("def f(:", r"importing broken raised SyntaxError: .*broken\.py:1 \(def f"),
        ("x = 1\nlimit = {}['max']", r"importing broken raised KeyError: 'max' at .*broken\.py:2"),
        ("def g(trajectory): return 1", r"broken\.py has no 'f'; its functions are \['g'\]"),
    ],
)
def test_a_module_that_cannot_be_used_says_why(tmp_path, monkeypatch, source, words):
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.raises(ConfigError, match=words):
        build_reward(RewardConfig(rule="broken:f"))


@pytest.mark.parametrize(
    ("path", "words"), [("no_such_module:f", "PYTHONPATH"), ("my_rewards:none", "none"), ("my_rewards:number", "int")]
)
def test_a_function_that_is_not_there_is_refused(user_module, path, words):
    with pytest.raises(ConfigError, match=words):
        build_reward(RewardConfig(rule=path))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(prompts, completions): ...", r"has the arguments \(prompts, completions\) .*def f\(trajectory\)"),
        ("def f(): ...", r"has the arguments \(\) .*too many positional arguments"),
        ("def f(*, trajectory): ...", r"has the arguments \(\*, trajectory\)"),
        ("async def f(trajectory): ...", "is asynchronous; write a plain function"),
        ("class f:\n    def __call__(self, trajectory): ...", "is a class; it must be a function"),
        ("f = 'text'", "is a str; it must be a function"),
    ],
)
def test_a_function_with_other_arguments_is_refused_before_anything_is_sampled(tmp_path, source, words):
    (tmp_path / "mine.py").write_text(source + "\n")
    with pytest.raises(ConfigError, match=f"reward.rule = .*mine.py:f' {words}") as error:
        build_reward(RewardConfig(rule=f"{tmp_path}/mine.py:f"))
    assert "\n" not in str(error.value)
    function = load_function(FunctionName(f"{tmp_path}/mine.py", "f"), "x").value
    with pytest.raises(ConfigError, match=f"reward_fn {words}"):
        build_scorer(RewardConfig(), function)


def test_arguments_with_defaults_and_objects_that_can_be_called_are_rewards(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import functools\ndef f(trajectory, weight=2.0, **more): return weight\ng = functools.partial(f, weight=3.0)\n"
        "class Rule:\n    def __call__(self, trajectory): return 4.0\nh = Rule()\n"
    )
    rewards = [build_reward(RewardConfig(rule=f"{tmp_path}/mine.py:{name}"))(None) for name in "fgh"]
    assert rewards == [2.0, 3.0, 4.0]


def test_two_rewards_of_ones_own_are_one_too_many(user_module):
    with pytest.raises(ConfigError, match="beside the argument reward_fn: both are the reward"):
        build_scorer(RewardConfig(rule=f"{user_module}:length"), lambda trajectory: 1.0)


def test_config_refuses_what_has_no_meaning():
    with pytest.raises(ValidationError, match="arpo, arpo_released"):
        RewardConfig(rule="f1")
    with pytest.raises(ValidationError, match="no effect"):
        RewardConfig(rule="a.b:c", multi_tool_bonus=0.2)
    with pytest.raises(ValidationError, match=r"composite\.grader"):
        RewardConfig(rule="composite")
    with pytest.raises(ValidationError, match=r"composite has no effect with rule = .arpo"):
        RewardConfig(composite=CompositeConfig(grader="f1"))
    with pytest.raises(ValidationError, match=r"multi_tool_bonus = 0\.2 has no effect with rule = .composite"):
        RewardConfig(rule="composite", composite=CompositeConfig(grader="f1"), multi_tool_bonus=0.2)
    with pytest.raises(ValidationError, match="use exact_match, f1, substring"):
        CompositeConfig(grader="rouge")
    with pytest.raises(ValidationError, match="free_tokens = 5 has no effect"):
        CompositeConfig(grader="f1", free_tokens=5)
    with pytest.raises(ValidationError):
        CompositeConfig(grader="f1", grade_weight=0)
    with pytest.raises(ValidationError):
        RewardConfig(multi_tool_bonus=-0.1)


def test_a_resolved_config_is_read_back(tmp_path: Path):
    config = RewardConfig(rule="a.b:c")
    (tmp_path / "c.toml").write_text(dump_config(config))
    assert load_config(RewardConfig, tmp_path / "c.toml") == config
