"""The recipes of the papers' runs resolve to the papers' values."""

import pytest

from arpo.cli.main import main
from arpo.config import load_config
from arpo.data.benchmarks import find_benchmark
from arpo.evaluation.config import EvalRun
from arpo.recipes import find_recipe, recipe_names
from arpo.training.config import RlRun, SftRun

# questions per step, updates per step, epochs, questions, prompt, response, group size, initial trajectories, calls
RUNS = {
    "arpo_qwen2.5_7b_reasoning": (128, 8, 2, 10_000, 1536, 4096, 16, 8, 3),
    "arpo_llama3.1_8b_reasoning": (128, 8, 2, 10_000, 1536, 4096, 16, 8, 3),
    "arpo_qwen3_8b_deepsearch": (128, 8, 5, 1071, 2000, 8192, 16, 8, 6),
    "arpo_qwen3_14b_deepsearch": (64, 8, 5, 1071, 2000, 6192, 12, 6, 6),
    "aepo_qwen3_14b_deepsearch": (64, 8, 5, 1071, 2000, 6192, 12, None, 6),
}


@pytest.mark.parametrize(("command", "kind"), [("sft", "sft"), ("train", "rl"), ("eval", "eval")])
@pytest.mark.parametrize("name", RUNS)
def test_each_resolves_by_its_name_alone(name: str, command: str, kind: str, capsys: pytest.CaptureFixture[str]):
    assert name in recipe_names(kind)
    assert main([command, name, "--dry-run"]) == 0
    assert f'out = "runs/{name}/' in capsys.readouterr().out


@pytest.mark.parametrize("name", RUNS)
def test_reinforcement_learning_has_the_papers_values(name: str):
    tasks, updates, epochs, questions, prompt, response, group_size, initial, calls = RUNS[name]
    run = load_config(RlRun, find_recipe(name, "rl"), [])
    assert (run.tasks_per_step, run.updates_per_step) == (tasks, updates)
    assert run.num_steps == epochs * (questions // tasks)  # 2 x 78 = 156, 5 x 8 = 40, 5 x 16 = 80
    assert run.agent.limits.max_trajectory_tokens == prompt + response
    assert (run.rollout.group_size, run.rollout.num_initial_trajectories) == (group_size, initial)
    assert run.agent.tools.executor.max_calls == calls
    assert (run.rollout.temperature, run.rollout.entropy_window, run.loss.kl.coefficient) == (1.0, 20, 0)
    assert (run.optimizer.learning_rate, run.optimizer.schedule, run.optimizer.max_grad_norm) == (1e-6, "constant", 1.0)
    assert run.model.lora is None
    assert run.model.dtype == "bfloat16"


@pytest.mark.parametrize("name", RUNS)
def test_the_cold_start_has_the_papers_values(name: str):
    run = load_config(SftRun, find_recipe(name, "sft"), [])
    assert (run.num_epochs, run.max_tokens, run.optimizer.learning_rate, run.optimizer.schedule) == (3, 4096, 7e-6, "cosine")
    assert run.optimizer.warmup_steps == 3 * 54_800 // 128 // 10  # a tenth of 1,284 updates


@pytest.mark.parametrize("name", RUNS)
def test_each_stage_starts_from_the_one_before_with_its_protocol(name: str):
    sft, rl = load_config(SftRun, find_recipe(name, "sft"), []), load_config(RlRun, find_recipe(name, "rl"), [])
    test = load_config(EvalRun, find_recipe(name, "eval"), [])
    assert test.model is not None
    assert (str(rl.model.path), str(test.model.path)) == (f"{sft.out}/final", f"{rl.out}/final")
    assert sft.protocol == rl.agent.protocol == test.agent.protocol
    assert test.benchmark is not None
    assert find_benchmark(test.benchmark).has_judge <= (test.reward.judge is not None)
    assert (test.temperature, test.num_samples) == (0.6, 1 if "reasoning" in name else 5)
