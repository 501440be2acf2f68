"""The cold start: what is trained, in which order, and what is left out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from arpo.config import parse_config
from arpo.data.conversations import encode_conversation, read_conversations
from arpo.errors import DataError
from arpo.models.loading import load_policy
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.tracking import read_metrics
from arpo.tracking.progress import Progress, SilentProgress
from arpo.training.config import SftRun
from arpo.training.sft import train_sft


@pytest.fixture
def settings(policy: Path, tmp_path: Path) -> dict[str, Any]:
    texts = [("1+1", "2"), ("10+20", "30"), ("7", "7")]
    conversations = [
        [
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"<python>{question}</python>"},
            {"role": "tool", "content": answer},
            {"role": "assistant", "content": f"<answer>{answer}</answer>"},
        ]
        for question, answer in texts
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"messages": c}) + "\n" for c in conversations))
    return {
        "model": {"path": policy}, "data": tmp_path / "data.jsonl", "num_epochs": 1, "num_threads": 1,
        "protocol": {"system_prompt": ""}, "optimizer": {"learning_rate": 1e-2},
    }  # fmt: skip


def encode(settings: dict[str, Any]) -> list[tuple[list[int], list[bool]]]:
    tokenizer = PolicyTokenizer.load(settings["model"]["path"])
    protocol = TagProtocol(tokenizer, TagProtocolConfig(system_prompt=""))
    return [encode_conversation(c, protocol, tokenizer) for c in read_conversations(settings["data"]).conversations]


def train(settings: dict[str, Any], out: Path, progress: Progress | None = None, **changes: object) -> dict[str, Any]:
    return train_sft(parse_config(SftRun, settings | {"out": out} | changes, "test"), progress)


def test_the_loss_is_that_of_the_assistants_tokens_alone(settings: dict[str, Any], policy: Path, tmp_path: Path):
    """Against the model as transformers runs it, conversation by conversation: mean over all trained tokens of the batch."""
    model = load_policy(policy)
    losses = []
    with torch.no_grad():
        for token_ids, mask in encode(settings):
            logits = model(torch.tensor([token_ids])).logits[0, :-1]
            each = cross_entropy(logits, torch.tensor(token_ids[1:]), reduction="none")
            losses.append(each[torch.tensor(mask[1:])])
    train(settings, tmp_path / "sft")
    (row,) = read_metrics(tmp_path / "sft")
    assert row["sft/loss"] == pytest.approx(float(torch.cat(losses).mean()), abs=1e-5)
    assert row["sft/tokens"] == sum(sum(mask) for _, mask in encode(settings))


def test_every_conversation_once_an_epoch_in_an_order_of_the_seed(settings: dict[str, Any], tmp_path: Path):
    """With a conversation a batch the steps' token counts show the order."""
    orders = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        summary = train(settings, tmp_path / name, seed=seed, num_epochs=4, batch_tokens=64)
        orders[name] = [row["sft/tokens"] for row in read_metrics(tmp_path / name)]
        assert summary["num_updates"] == 12
        assert summary["epochs"] == 4
    expected = sorted(sum(mask) for _, mask in encode(settings))
    assert len(set(expected)) == 3
    assert all(sorted(order[i : i + 3]) == expected for order in orders.values() for i in range(0, 12, 3))
    assert orders["a"] == orders["b"] != orders["c"]
    weights = {name: (tmp_path / name / "final" / "model.safetensors").read_bytes() for name in orders}
    assert weights["a"] == weights["b"] != weights["c"]


def test_it_learns(settings: dict[str, Any], tmp_path: Path):
    summary = train(settings, tmp_path / "sft", num_epochs=60)
    rows = read_metrics(tmp_path / "sft")
    assert summary["loss"] == rows[-1]["sft/loss"] < 0.2 * rows[0]["sft/loss"]
    assert load_file(tmp_path / "sft" / "final" / "model.safetensors").keys()


def test_too_long_conversations_are_counted(settings: dict[str, Any], tmp_path: Path):
    class Listener(SilentProgress):
        lines: list[str] = []  # noqa: RUF012

        def line(self, text: str) -> None:
            self.lines.append(text)

    lengths = sorted(len(token_ids) for token_ids, _ in encode(settings))
    summary = train(settings, tmp_path / "sft", Listener(), max_tokens=lengths[1])
    assert (summary["num_conversations"], summary["num_left_out"]) == (2, 1)
    assert [f"filtered: 1 conversations of more than max_tokens = {lengths[1]} tokens"] == Listener.lines
    with pytest.raises(DataError, match="raise it"):
        train(settings, tmp_path / "none", max_tokens=lengths[0] - 1)


def test_a_time_limit_ends_it_with_a_model(settings: dict[str, Any], tmp_path: Path):
    summary = train(settings, tmp_path / "sft", num_epochs=2000, max_seconds=0.3)
    assert 0 < summary["num_updates"] < 2000
    assert (tmp_path / "sft" / "final" / "model.safetensors").is_file()
