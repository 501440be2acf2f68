"""Memory by phase, beside what the real code keeps, and what is refused for lack of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from arpo.config import parse_config
from arpo.errors import ConfigError
from arpo.models.allocation import AllocationTrace
from arpo.models.loading import load_trained_policy
from arpo.models.policy import PolicyModel
from arpo.training import memory
from arpo.training.config import RlRun, SftRun
from arpo.training.memory import MemoryEstimate, estimate_memory, sequences
from arpo.training.memory_check import require_memory, shortage
from arpo.training.optimizer import build_optimizer

GB = 10**9


@pytest.fixture
def make_run(policy: Path, tmp_path: Path):
    """A run of 2 x 4 trajectories of 64 tokens, in passes of 160."""

    def make(model: dict[str, Any] | None = None, **values: object) -> RlRun:
        data = {
            "out": tmp_path, "tasks": tmp_path, "model": {"path": policy} | (model or {}), "tasks_per_step": 2,
            "rollout": {"group_size": 4}, "batching": {"max_tokens": 160},
            "agent": {"protocol": {"tools": [], "system_prompt": ""}, "limits": {"max_trajectory_tokens": 64}},
        }  # fmt: skip
        return parse_config(RlRun, data | values, "test")

    return make


def rows(estimate: MemoryEstimate, phase: str) -> dict[str, int]:
    return next(p.rows for p in estimate.phases if p.name == phase)


def really_kept(config: RlRun) -> tuple[int, int]:
    """Bytes that a real pass of the same tokens keeps when its forward ends, and its further bytes at its peak."""
    policy = PolicyModel(load_trained_policy(config.model, 0))
    build_optimizer(policy, config.optimizer)
    packed = sequences(config.batching.max_tokens, 64, config.model.dtype, 10**6)
    with AllocationTrace() as trace:
        kept = peak = 0
        for _ in range(2):  # the second adds to the gradients of the first
            before = trace.restart()
            logprobs, entropies = policy(packed)
            loss = logprobs.sum()
            del logprobs, entropies
            kept = trace.live - before
            loss.backward()
            del loss
            peak = trace.peak - before
    return kept, peak - kept


@pytest.mark.parametrize(
    "model",
    [{}, {"dtype": "bfloat16"}, {"lora": {"rank": 2}}, {"gradient_checkpointing": True}],
    ids=["full", "bfloat16", "lora", "checkpointing"],
)
def test_what_a_real_pass_keeps_is_what_was_told(model: dict[str, Any], make_run) -> None:
    """To 1 %, at the end of the forward pass and at the peak."""
    if "lora" in model:
        pytest.importorskip("peft")
    config = make_run(model)
    update = rows(estimate_memory(config), "update")
    kept, working = really_kept(config)
    assert update["activations"] == pytest.approx(kept, rel=0.01)
    assert update["rest of the pass"] == pytest.approx(working, rel=0.01, abs=8192)


def test_activations_grow_with_the_tokens_and_shrink_with_checkpointing(make_run) -> None:
    def kept(model: dict[str, Any], tokens: int) -> int:
        return rows(estimate_memory(make_run(model, batching={"max_tokens": tokens})), "update")["activations"]

    assert kept({}, 1280) == pytest.approx(2 * kept({}, 640), rel=0.02)
    assert kept({"gradient_checkpointing": True}, 640) < 0.5 * kept({}, 640)


def test_rows_that_a_phase_holds(make_run, policy: Path) -> None:
    """A second model is the reference of a full run; the adapter's base is that of LoRA, whose checkpoint merges instead."""
    pytest.importorskip("peft")
    kl = {"kl": {"coefficient": 0.1}}
    full, lora = (estimate_memory(make_run(model, loss=kl)) for model in ({"dtype": "bfloat16"}, {"lora": {"rank": 2}}))
    held = {"weights", "masters", "optimizer moments", "reference"}
    assert rows(full, "sampling").keys() == held | {"cache", "pass of the engine"}
    assert rows(full, "log-probs").keys() == held | {"pass"}
    assert rows(full, "update").keys() == held | {"gradients", "activations", "rest of the pass"}
    assert rows(full, "checkpoint").keys() == held
    assert rows(full, "update")["reference"] == full.size.weights
    assert rows(lora, "checkpoint").keys() == {"weights", "optimizer moments", "merged weights"}
    # 8 slots of 64 positions x 2 layers x 2 x 1 head of 16 x 2 bytes
    assert rows(full, "sampling")["cache"] == 8 * 64 * 2 * 2 * 16 * 2
    assert full.cache_per_token == 128
    assert full.num_slots == 8


def test_sft_has_the_pass_that_it_makes(policy: Path, tmp_path: Path) -> None:
    """The smaller of batch_tokens and batching.max_tokens."""

    def passes(**values: object) -> MemoryEstimate:
        data = {"out": tmp_path, "data": tmp_path, "model": {"path": policy}, "max_tokens": 64} | values
        return estimate_memory(parse_config(SftRun, data, "test"))

    whole = passes(batch_tokens=512)
    assert [phase.name for phase in whole.phases] == ["update", "optimizer", "checkpoint"]
    assert (whole.pass_tokens, passes(batch_tokens=512, batching={"max_tokens": 128}).pass_tokens) == (512, 128)


def with_memory(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A machine of this size."""
    monkeypatch.setattr(memory, "device_memory", lambda device: size)


def test_a_model_that_cannot_fit_is_refused_with_the_numbers(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_run()
    states = estimate_memory(config).size.states
    with_memory(monkeypatch, states - 1)
    with pytest.raises(ConfigError, match=r"model\.path = .*weights .* moments .*cpu has .*model\.lora\.rank=16"):
        require_memory(config, lambda line: None)


def test_a_model_that_does_not_fit_beside_its_engine_is_refused(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 8 has 4 / 8 of masters, 8 / 8 of moments and 2 gathered bytes per parameter, more than 4 / 8 of gradients."""
    for name, value in {"RANK": 0, "WORLD_SIZE": 8}.items():
        monkeypatch.setenv(name, str(value))
    config = make_run({"dtype": "bfloat16"})
    size = estimate_memory(config, num_ranks=8).size
    assert size.states == pytest.approx((0.5 + 1 + 2) * size.parameters, rel=1e-3)
    with_memory(monkeypatch, 8 * (size.states - 1))  # the ranks share the memory of a CPU
    with pytest.raises(ConfigError, match=r"takes on each of 8 ranks masters .* gathered weights .*start more processes"):
        require_memory(config, lambda line: None)


def test_what_may_fit_is_never_refused_but_told(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states fit to the byte; the pass does not."""
    config, lines = make_run(), []
    with_memory(monkeypatch, estimate_memory(config).size.states)
    require_memory(config, lines.append)
    assert len(lines) == 1
    assert "model.gradient_checkpointing = true" in lines[0]


def test_nothing_is_said_of_what_fits(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    config, lines = make_run(), []
    with_memory(monkeypatch, estimate_memory(config).largest.total)
    require_memory(config, lines.append)
    with_memory(monkeypatch, 100 * GB)
    require_memory(config, lines.append)
    assert lines == []


def test_the_largest_row_names_what_to_set(make_run) -> None:
    """The cache of 64 x 4 trajectories is the largest row; then the activations of a long pass."""
    config = make_run(tasks_per_step=64, batching={"max_tokens": 64})
    estimate = estimate_memory(config, available=1)
    assert not estimate.fits
    assert "lower tasks_per_step, rollout.group_size" in shortage(config, estimate)
    config = make_run({"gradient_checkpointing": True}, batching={"max_tokens": 4096})
    assert "lower batching.max_tokens" in shortage(config, estimate_memory(config, available=1))


def test_a_device_that_is_not_here_is_unknown(make_run) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    estimate = estimate_memory(make_run({"device": "cuda"}))
    assert (estimate.available, estimate.fits) == (None, None)
