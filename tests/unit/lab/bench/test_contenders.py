"""Every contender does the same work, and the limit's arithmetic is the model's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from arpo.lab.bench.latency import NO_LATENCY, ToolLatency
from arpo.lab.bench.limit import BareModel, StaticLayout, candidate_widths, static_cache
from arpo.lab.bench.naive import naive_seconds
from arpo.lab.bench.ours import Ours
from arpo.lab.bench.policies import write_policy
from arpo.lab.bench.rollout import BenchOptions, Case, Shape, compare, run
from arpo.lab.bench.rollout_report import ROLLOUT_REPORT
from arpo.lab.bench.workload import Workload
from arpo.models.attention import forward_hidden, use_layout_attention
from arpo.models.loading import load_policy
from arpo.protocols.encoding import PolicyTokenizer
from arpo.tracking.progress import SilentProgress

SMALL = Workload(
    num_tasks=3, group_size=4, width=4, latency=ToolLatency("short", median=1e-3, p99=4e-3), prompt_tokens=7, turn_tokens=5,
    observation_tokens=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy("tiny", tmp_path_factory.mktemp("bench") / "tiny")


class CountTokens:
    """Counts the tokens that go through a model."""

    def __init__(self, model: PreTrainedModel):
        self.num_tokens = 0
        self._hook = model.base_model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: object, __: object, inputs: dict[str, torch.Tensor]) -> None:
        self.num_tokens += inputs["input_ids"].numel()


def test_ours_prefills_each_prompt_and_observation_once(policy: Path) -> None:
    model = load_policy(policy)
    counter = CountTokens(model)
    ours = Ours(model, PolicyTokenizer.load(policy), SMALL.width)
    for num_runs in (1, 2):
        assert ours.run(SMALL).prefill_tokens == SMALL.prefill_minimum == 3 * 7 + 12 * 2 * 3
        # and each draw but a trajectory's last
        assert counter.num_tokens == num_runs * (SMALL.prefill_minimum + 12 * (3 * 5 - 1))


@pytest.mark.parametrize("width", [4, 8, 12])
def test_the_limit_computes_as_many_tokens_as_ours(policy: Path, width: int) -> None:
    model = use_layout_attention(load_policy(policy))
    counter = CountTokens(model)
    BareModel(model, SMALL, width).run()
    assert counter.num_tokens == SMALL.prefill_minimum + 12 * (3 * 5 - 1)


def test_the_naive_loop_computes_everything_again(policy: Path) -> None:
    model = load_policy(policy)
    counter = CountTokens(model)
    naive_seconds(model, SMALL)
    # turn t starts from the prompt and t turns with their observations; of its 5 draws the last is not computed
    assert counter.num_tokens == 12 * sum(7 + turn * (5 + 3) + 4 for turn in range(3))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@torch.no_grad()
def test_static_decoding_is_the_stock_forward_pass(make_model, kv_heads: int) -> None:
    model = make_model(kv_heads=kv_heads, dtype="float64")
    ids = torch.arange(3 * 9).view(3, 9) % 90
    expected = model.base_model(input_ids=ids).last_hidden_state
    use_layout_attention(model)
    layout = StaticLayout(model, static_cache(model, 3, 9), rows=3)
    parts = []
    for part in ids.split([4, 1, 1, 3], dim=1):  # prefill, two decoding steps, an observation
        positions = torch.arange(layout.length, layout.length + part.shape[1]).repeat(3)
        parts.append(forward_hidden(model, part.reshape(-1), positions, layout).view(3, part.shape[1], -1))
        layout.length += part.shape[1]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-5)  # stock norms compute in float32


def test_widths_the_limit_chooses_from() -> None:
    assert list(candidate_widths(replace(SMALL, width=16, num_tasks=5))) == [16, 8, 4]
    assert list(candidate_widths(replace(SMALL, width=64))) == [12]  # no more than there is; half of it splits a group


def test_a_row_fills_every_column_and_leaves_out_a_peer_that_did_not_run(policy: Path) -> None:
    row = compare(replace(SMALL, latency=NO_LATENCY), policy, BenchOptions(cases=(), repeats=1))
    assert {key for key, value in row.items() if value is None} == {key for key in row if "trl" in key}
    assert ROLLOUT_REPORT.columns["cases"].keys() - row.keys() == {"model", "trajectories", "width", "shape", "tool_latency"}
    assert row["prefill_tokens"] == row["prefill_tokens_minimum"]
    assert 0 < row["limit_seconds"] <= row["bound_seconds"]
    # ratios above 1 say that the other took longer
    for ratio, seconds in (("ratio_to_limit", "limit_seconds"), ("speedup_vs_naive", "naive_seconds")):
        assert (row[ratio] > 1) == (row[seconds] > row["ours_seconds"])


def test_only_what_is_asked_for_is_measured(policy: Path) -> None:
    row = compare(replace(SMALL, latency=NO_LATENCY), policy, BenchOptions(cases=(), repeats=1, only=("ours",)))
    assert row["ours_tokens_per_s"] == pytest.approx(12 * 3 * 5 / row["ours_seconds"])
    others = {"limit_seconds", "bound_seconds", "naive_seconds", "one_turn_limit_seconds", "ratio_to_limit", "speedup_vs_naive"}
    assert {row[key] for key in others} == {None}


def test_any_model_directory_in_any_format_at_any_batch_size(policy: Path) -> None:
    """A trajectory of 6 + 2 x 4 + 1 x 5 = 19 tokens: decoding starts after 9."""
    shape = Shape(num_turns=2, prompt_tokens=6, turn_tokens=4, observation_tokens=5)
    cases = [Case(model=str(policy), trajectories=n, width=n, shape=shape) for n in (4, 32)]
    assert [(c.decoding().num_tasks, c.decoding().group_size, c.decoding().prompt_tokens) for c in cases] == [
        (1, 4, 9),
        (2, 16, 9),
    ]
    options = BenchOptions(cases=cases[1:], decoding=cases, repeats=1, dtype="bfloat16", limit_width=16)
    *_, result = run(options, SilentProgress())
    assert result["machine"]["dtype"] == "bfloat16"
    assert [row["trajectories"] for row in result["decoding"]] == [4, 32]
    assert result["cases"][0]["limit_width"] == 16
    cases_table, decoding_table = ROLLOUT_REPORT.tables(result)
    assert cases_table[1][:5] == ["tiny", "32", "32", "6 + 2 x 4 + 1 x 5", "0"]
    assert [len(line) for line in decoding_table] == [5, 5, 5]
