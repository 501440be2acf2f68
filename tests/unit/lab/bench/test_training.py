"""Contenders compute the same gradient, the limit as many tokens as there are unique ones, and the command runs."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, Qwen3Config

from arpo.algorithms.aggregation import total_denominator
from arpo.batching.rows import leaf_rows
from arpo.cli.main import main
from arpo.errors import ConfigError
from arpo.lab.bench.policies import write_policy
from arpo.lab.bench.train import (
    case_row,
    check_agreement,
    draw_old_logprobs,
    fastest,
    make_training_cases,
)
from arpo.lab.bench.training_data import TreeCounts, count_trees, draw_rewards, quickstart_like_trees, synthetic_tree
from arpo.lab.bench.training_models import make_model, model_config, training_flops
from arpo.lab.bench.training_steps import RUN, InProcess, budgets, limit, packed, padded
from arpo.models.policy import PolicyModel
from arpo.training.credit import assign_credit

COUNTS = TreeCounts(
    num_leaves=16, unique_tokens=1000, total_tokens=2000, sampled_tokens=300, longest_leaf=150, visible_pairs=9000
)


@pytest.fixture(scope="module")
def config() -> Qwen3Config:
    return model_config("tiny")


class CountTokens:
    """Counts the tokens that go through a model and through its head."""

    def __init__(self, model: PreTrainedModel):
        self.body = self.head = 0
        model.base_model.register_forward_pre_hook(self._count_body, with_kwargs=True)
        model.lm_head.register_forward_pre_hook(self._count_head)

    def _count_body(self, _: object, __: object, inputs: dict[str, torch.Tensor]) -> None:
        self.body += inputs["input_ids"].numel()

    def _count_head(self, _: object, inputs: tuple[torch.Tensor]) -> None:
        self.head += inputs[0].shape[:-1].numel()


def contenders(config: Qwen3Config, trees) -> tuple[dict, InProcess]:
    stock, ours = make_model(config, "float32", "cpu"), PolicyModel(make_model(config, "float32", "cpu"))
    draw_rewards(trees)
    draw_old_logprobs(stock, trees)
    credits = assign_credit(trees, RUN.advantage, RUN.loss)
    counts = count_trees(trees)
    packings = {name: packed(ours, trees, credits, name, counts) for name in ("tree", "flat")}
    rows = [row for tree, credit in zip(trees, credits, strict=True) for row in leaf_rows(tree, credit)]
    return packings, padded(stock, rows, total_denominator(credit.denominator for credit in credits))


def test_tree_flat_and_padded_have_one_gradient(config: Qwen3Config) -> None:
    packings, reference = contenders(config, quickstart_like_trees(config.vocab_size, num_trees=2))
    differences = check_agreement(packings, reference, tolerance=1e-4)
    assert set(differences) == {
        "loss_difference_tree", "loss_difference_flat", "gradient_difference_tree", "gradient_difference_flat",
    }  # fmt: skip
    assert reference.loss != 0


@pytest.mark.parametrize("name", ["tree", "flat"])
def test_a_contender_that_computes_something_else_is_refused(config: Qwen3Config, name: str) -> None:
    packings, reference = contenders(config, [synthetic_tree(64, 2.0, config.vocab_size)])
    right, gradient = packings[name].measure, next(packings[name].model.parameters())

    def wrong(budget: int) -> float:
        seconds = right(budget)
        gradient.grad *= 1.01
        return seconds

    packings[name].measure = wrong
    with pytest.raises(AssertionError, match=r"disagree by more than 0\.0001"):
        check_agreement(packings, reference, tolerance=1e-4)


def test_each_contender_computes_the_tokens_it_is_said_to(config: Qwen3Config) -> None:
    trees = quickstart_like_trees(config.vocab_size, num_trees=2)
    packings, reference = contenders(config, trees)
    counts = count_trees(trees)
    ours, stock = CountTokens(packings["tree"].model), CountTokens(reference.model)
    packings["tree"].measure(8192)
    assert ours.body == counts.unique_tokens
    packings["flat"].measure(8192)
    assert ours.body == counts.unique_tokens + counts.total_tokens
    reference.measure(8192)
    assert stock.body == counts.num_leaves * counts.longest_leaf
    body, head = stock.body, stock.head
    for budget in (1024, 8192):
        limit(reference.model, counts).measure(budget)
        rows = round(counts.unique_tokens / counts.leaf_length)
        assert stock.body - body == pytest.approx(counts.unique_tokens, abs=rows)
        assert stock.head - head == pytest.approx(counts.sampled_tokens, abs=rows)
        body, head = stock.body, stock.head


def test_budgets() -> None:
    assert budgets(11616, 235) == [1024, 2048, 4096, 8192, 16384]
    assert budgets(500, 235) == [1024]  # one pass holds everything
    assert budgets(4096, 3000) == [4096]
    assert budgets(10**6, 16384) == [16384, 32768, 65536]
    assert budgets(10**6, 10**5) == [10**5]  # longer than any of them


def test_the_fastest_budget_counts() -> None:
    class Scripted:
        budgets = (1, 2, 3)
        loss = None
        is_warm = False

        def measure(self, budget: int) -> float:
            return abs(budget - 2) + 0.5

    assert fastest({"a": Scripted()}, repeats=2)["a"].budget == 2
    assert fastest({"a": Scripted()}, repeats=2)["a"].seconds == 0.5


def test_ratios_worked_by_hand() -> None:
    row = case_row(COUNTS, {"tree": 1.0, "flat": 1.8, "padded": 3.0, "limit": 0.8, "trl": 5.0})
    assert (row["leaf_length"], row["sharing"]) == (125, 2.0)
    assert (row["speedup_vs_flat"], row["speedup_vs_padded"], row["speedup_vs_trl"]) == (1.8, 3.0, 5.0)
    assert (row["fraction_of_ideal"], row["ratio_to_limit"]) == (0.9, 1.25)
    left_out = case_row(COUNTS, {"tree": 1.0, "flat": 1.8, "padded": math.inf, "limit": 0.8})
    assert left_out["seconds_padded"] is left_out["seconds_trl"] is left_out["speedup_vs_trl"] is None
    assert left_out["speedup_vs_padded"] is None


def test_flops_worked_by_hand() -> None:
    config = Qwen3Config(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=4, intermediate_size=16,
        vocab_size=32,
    )  # fmt: skip
    # attention weights: query and output 8 * 8 each, key and value 8 * 4 each; MLP 3 * 8 * 16; head 8 * 32
    layer, head = 2 * 64 + 2 * 32 + 384, 256
    pairs = 12 * 2 * 4 * 9000
    assert training_flops(config, COUNTS) == 2 * (6 * layer * 1000 + pairs) + 6 * head * 300


def test_large_models_have_their_size() -> None:
    with torch.device("meta"):
        sizes = {name: make_model(model_config(name), "bfloat16", "meta").num_parameters() for name in ("0.6b", "1.7b", "20m")}
    assert {name: round(size / 1e6) for name, size in sizes.items()} == {"0.6b": 596, "1.7b": 1721, "20m": 19}


def test_cases() -> None:
    cases = make_training_cases(["tiny", "20m"], ["quickstart", "synthetic"], [256], [1.0, 2.0], has_trees=False)
    assert [(c.model, c.trees, c.sharing) for c in cases[:3]] == [
        ("tiny", "quickstart_shape", 0.0), ("tiny", "synthetic", 1.0), ("tiny", "synthetic", 2.0),
    ]  # fmt: skip
    assert make_training_cases(["tiny"], ["quickstart"], [], [], has_trees=True)[0].trees == "quickstart"
    with pytest.raises(ConfigError, match="--leaf-length 10: must be at least 64"):
        make_training_cases(["tiny"], ["synthetic"], [10], [1.0], has_trees=False)
    cases = make_training_cases(["dir"], ["agent"], [], [1.5, 2.0], has_trees=False)
    assert [(c.model, c.trees, c.sharing) for c in cases] == [("dir", "agent", 1.5), ("dir", "agent", 2.0)]
    with pytest.raises(ConfigError, match=r"--sharing 3: the agent's groups of --case agent share 1\.5 or 2"):
        make_training_cases(["tiny"], ["agent"], [], [3.0], has_trees=False)
    with pytest.raises(ConfigError, match="--sharing 5: must be from 1 to 4"):
        make_training_cases(["tiny"], ["synthetic"], [256], [5.0], has_trees=False)


def test_a_model_directory_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A group of 16 has 7,440 tokens; in one pass of 8,192 each packing computes its tokens, and they agree."""
    write_policy("tiny", tmp_path / "model")
    file = tmp_path / "train.json"
    case = ["--model", str(tmp_path / "model"), "--case", "agent", "--sharing", "2", "--groups", "1", "--batch-tokens", "8192"]
    chosen = [f"--contender={name}" for name in ("tree", "flat", "limit")]
    assert main(["bench", "train", *case, *chosen, "--no-memory", "--repeats", "1", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["cases"]
    assert (row["total_tokens"], row["unique_tokens"], row["num_leaves"]) == (7440, 3595, 16)
    assert row["seconds_padded"] is None
    assert row["fraction_of_ideal"] > 0
    assert row["ratio_to_limit"] > 0
    assert row["gradient_difference_tree"] < 1e-4
    assert main(["bench", "train", "--model", str(tmp_path / "nothing")]) == 2
    assert "nothing: no config.json there; name one of tiny, 20m, 0.6b, 1.7b, or a model directory" in capsys.readouterr().err
    assert main(["bench", "train", "--groups", "2"]) == 2
    assert "--groups 2 has no effect without --case agent" in capsys.readouterr().err


@pytest.mark.slow  # processes of their own that measure memory
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = ["--model", "tiny", "--case", "synthetic", "--leaf-length", "64", "--sharing", "2", "--repeats", "1"]
    file, page = tmp_path / "train.json", tmp_path / "train.md"
    assert main(["bench", "train", *case, "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["cases"]
    assert row["total_tokens"] == 16 * 64
    assert row["seconds_trl"] is row["mfu_tree"] is None
    # a process with torch and a model of 1 M parameters, whatever this one holds
    assert 100 < row["peak_memory_mb_tree"] < 3000
    assert main(["bench", "train", "--from", str(file), "--markdown", str(page)]) == 0
    assert "| tiny | synthetic | 16 | 64 |" in page.read_text()
    assert main(["bench", "train", "--case", "synthetic", "--trees", "x.jsonl"]) == 2
    assert "--trees x.jsonl has no effect" in capsys.readouterr().err
