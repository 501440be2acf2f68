"""The cold start: what is trained, in which order, and what is left out."""

import json
import shutil
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.nn.functional import cross_entropy
from transformers import MistralConfig, MistralForCausalLM

from arpo.batching.packing import PackNode
from arpo.config import parse_config
from arpo.data.conversations import encode_conversation, read_conversations
from arpo.errors import ConfigError, DataError, ModelError
from arpo.models.loading import load_policy
from arpo.models.policy import PolicyModel
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.tracking import read_metrics
from arpo.tracking.progress import Progress, SilentProgress
from arpo.training.config import SftRun
from arpo.training.sft import accumulate_gradients, train_sft
from arpo.training.sft_data import read_sft_data


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
    filtered = f"filtered: 1 conversations of more than max_tokens = {lengths[1]} tokens"
    assert [line for line in Listener.lines if not line.startswith("device: ")] == [filtered]
    with pytest.raises(DataError, match="raise it"):
        train(settings, tmp_path / "none", max_tokens=lengths[0] - 1)


def test_a_time_limit_ends_it_with_a_model(settings: dict[str, Any], tmp_path: Path):
    summary = train(settings, tmp_path / "sft", num_epochs=2000, max_seconds=0.3, optimizer=CONSTANT)
    assert 0 < summary["num_updates"] < 2000
    assert (tmp_path / "sft" / "final" / "model.safetensors").is_file()


def nodes_of(settings: dict[str, Any]) -> list[PackNode]:
    return [PackNode(None, token_ids, mask) for token_ids, mask in encode(settings)]


def gradient(policy: Path, batch: list[PackNode], max_tokens: int) -> tuple[torch.Tensor, tuple[float, float]]:
    model = PolicyModel(load_policy(policy, "float64"))
    measured = accumulate_gradients(model, batch, max_tokens)
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), measured


def test_the_cut_into_passes_changes_no_gradient(settings: dict[str, Any], policy: Path):
    """In float64, one pass against one per conversation: every pass divides by the trained tokens of the whole update."""
    batch = nodes_of(settings)
    assert len({sum(node.loss_mask) for node in batch}) == 3, "passes of different weight"
    whole, measured = gradient(policy, batch, 10_000)
    cut, measured_cut = gradient(policy, batch, max(len(node.token_ids) for node in batch))
    assert float((whole - cut).abs().max()) < 1e-10 < float(whole.abs().max())
    assert measured_cut == pytest.approx(measured, abs=1e-6)
    of_means = sum(gradient(policy, [node], 10_000)[0] for node in batch) / len(batch)
    assert float((whole - of_means).abs().max()) > 1e-6, "the mean of the passes' means is another gradient"


def test_an_update_in_several_passes_is_that_update(settings: dict[str, Any], tmp_path: Path):
    longest = max(len(token_ids) for token_ids, _ in encode(settings))
    for name, limit in (("one", 8192), ("three", longest)):
        train(settings, tmp_path / name, batching={"max_tokens": limit})
    one, three = (read_metrics(tmp_path / name) for name in ("one", "three"))
    assert len(one) == len(three) == 1
    assert three[0]["sft/loss"] == pytest.approx(one[0]["sft/loss"], abs=1e-6)
    assert three[0]["sft/grad_norm"] == pytest.approx(one[0]["sft/grad_norm"], rel=1e-5)
    assert three[0]["sft/tokens"] == one[0]["sft/tokens"]


def write_questions(path: Path, questions: list[str]) -> Path:
    rows = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": f"<answer>{i}</answer>"}]
        for i, q in enumerate(questions)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


def parts(settings: dict[str, Any], path: Path, seed: int = 0, **validation: Any) -> tuple[set[tuple[int, ...]], ...]:
    config = parse_config(SftRun, settings | {"out": "x", "data": path, "seed": seed, "validation": validation or None}, "test")
    data = read_sft_data(config, PolicyTokenizer.load(config.model.path), SilentProgress())
    return tuple({tuple(node.token_ids) for node in part} for part in (data.training, data.validation))


def test_a_fraction_is_held_out_by_prompts(settings: dict[str, Any], tmp_path: Path):
    """20 prompts with 3 answers each; 0.1 of 60 conversations is 6: two prompts, whole, whatever seed or order of rows."""
    questions = [f"{n}+{n}" for n in range(20)] * 3
    path = write_questions(tmp_path / "a.jsonl", questions)
    training, validation = parts(settings, path, fraction=0.1)
    assert (len(training), len(validation)) == (54, 6)
    assert not training & validation
    everything, nothing = parts(settings, path)
    assert training | validation == everything
    assert not nothing
    assert parts(settings, path, seed=7, fraction=0.1) == (training, validation)
    rows = path.read_text().splitlines(keepends=True)
    shuffled = tmp_path / "b.jsonl"
    shuffled.write_text("".join(Random(0).sample(rows, len(rows))))
    assert parts(settings, shuffled, fraction=0.1) == (training, validation)
    one_prompt = [[row for row in rows if f'"{q}"' in row] for q in set(questions)]
    path.write_text("".join(one_prompt[0] + one_prompt[1]))
    assert [len(part) for part in parts(settings, path, fraction=0.01)] == [3, 3], "at least one prompt"
    path.write_text("".join(one_prompt[0]))
    with pytest.raises(
        DataError, match=r"validation\.fraction = 0\.01 of 3 conversations with 1 different prompts leaves none"
    ):
        parts(settings, path, fraction=0.01)


def test_a_held_out_file_has_no_prompt_of_the_training(settings: dict[str, Any], tmp_path: Path):
    path = write_questions(tmp_path / "a.jsonl", ["1", "2", "3"])
    held_out = write_questions(tmp_path / "b.jsonl", ["5", "2", "6", "2"])
    training, validation = parts(settings, path, data=held_out)
    assert training == parts(settings, path)[0], "the training keeps its rows"
    assert len(validation) == 2
    with pytest.raises(DataError, match="each of its 1 conversations is in `data`"):
        parts(settings, path, data=write_questions(tmp_path / "c.jsonl", ["2"]))


def test_the_validation_is_the_loss_on_what_is_held_out_and_marks_the_best(settings: dict[str, Any], tmp_path: Path):
    """Against the model as transformers runs it, after the last update."""
    path = write_questions(tmp_path / "a.jsonl", ["1", "2", "3", "4"])
    held_out = write_questions(tmp_path / "b.jsonl", ["5", "6+6"])
    changes = {"data": path, "validation": {"data": held_out, "every": 10}, "optimizer": {"learning_rate": 3e-2}}
    summary = train(settings | changes, tmp_path / "sft", num_epochs=31, batching={"max_tokens": 40}, checkpoint={"every": 3})
    rows = read_metrics(tmp_path / "sft")
    losses = {row["step"]: row["valid/loss"] for row in rows if "valid/loss" in row}
    assert list(losses) == [10, 20, 30, 31]
    best = min(losses, key=lambda step: losses[step])
    assert (summary["best_step"], summary["best_loss"]) == (best, losses[best])
    assert (summary["num_conversations"], summary["num_validation"]) == (4, 2)
    assert (tmp_path / "sft" / "best").readlink() == Path(f"checkpoints/step_{best:06d}/model")
    model = load_policy(tmp_path / "sft" / "final")
    each, hits = [], []
    with torch.no_grad():
        for token_ids, mask in encode(settings | {"data": held_out}):
            logits = model(torch.tensor([token_ids])).logits[0, :-1]
            loss = cross_entropy(logits, torch.tensor(token_ids[1:]), reduction="none")
            each.append(loss[torch.tensor(mask[1:])])
            hits.append((logits.argmax(-1) == torch.tensor(token_ids[1:]))[torch.tensor(mask[1:])])
    assert losses[31] == pytest.approx(float(torch.cat(each).mean()), abs=1e-5)
    assert rows[-1]["valid/token_accuracy"] == float(torch.cat(hits).double().mean()) > 0


CONSTANT = {"learning_rate": 1e-3, "schedule": "constant"}
"""Runs under a schedule that ends with them cannot be made longer."""


def test_time_used_before_a_resumption_counts(settings: dict[str, Any], tmp_path: Path):
    """The state keeps the seconds: a run that used them up makes no update more, one with more of them goes on."""
    first = train(settings, tmp_path / "sft", num_epochs=2000, max_seconds=0.3, optimizer=CONSTANT)
    assert first["seconds"]["total"] >= 0.3
    config = parse_config(
        SftRun, settings | {"out": tmp_path / "sft", "num_epochs": 2000, "max_seconds": 0.3, "optimizer": CONSTANT}, "test"
    )
    again = train_sft(config, resume=True)
    assert again == first
    more = train_sft(config.model_copy(update={"max_seconds": 0.5}), resume=True)
    assert more["num_updates"] > first["num_updates"]
    assert more["seconds"]["total"] >= 0.5
    rows = read_metrics(tmp_path / "sft")
    assert [row["step"] for row in rows] == list(range(1, more["num_updates"] + 1))
    assert sum(row["time/step_s"] for row in rows) == pytest.approx(more["seconds"]["total"])
    assert (tmp_path / "sft" / "final").readlink() == Path(f"checkpoints/step_{more['num_updates']:06d}/model")


def test_a_run_made_longer_under_a_schedule_of_its_own_end_is_the_longer_run(settings: dict[str, Any], tmp_path: Path):
    """One epoch and then two more, as three; the passes are smaller and the checkpoints rarer on the way."""
    schedule = {"optimizer": {"learning_rate": 1e-2, "schedule": "linear", "schedule_steps": 4}, "batch_tokens": 4096}
    train(settings, tmp_path / "unbroken", **schedule, num_epochs=3)
    train(settings, tmp_path / "longer", **schedule, num_epochs=1)
    changed = {"num_epochs": 3, "checkpoint": {"every": 2}, "out": tmp_path / "longer"}
    train_sft(parse_config(SftRun, settings | schedule | changed, "test"), resume=True)
    rows = [read_metrics(tmp_path / name) for name in ("unbroken", "longer")]
    assert [row["sft/learning_rate"] for row in rows[0]] == pytest.approx([1e-2, 7.5e-3, 5e-3])
    assert [row["sft/loss"] for row in rows[1]] == [row["sft/loss"] for row in rows[0]]
    weights = [load_file(tmp_path / name / "final" / "model.safetensors") for name in ("unbroken", "longer")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(ConfigError, match=r"num_epochs = 2: it has 2 updates, and 3 are made; raise it"):
        train_sft(parse_config(SftRun, settings | schedule | changed | {"num_epochs": 2}, "test"), resume=True)
    with pytest.raises(ConfigError, match=r"rate is 0 after update 4, but the run has 5 updates"):
        train_sft(parse_config(SftRun, settings | schedule | changed | {"num_epochs": 5}, "test"), resume=True)


def read_optimizer(checkpoint: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's optimizer by name."""
    with TemporaryDirectory() as folder:
        dcp_to_torch_save(checkpoint / "trainer" / "optimizer", Path(folder, "whole.pt"))
        return torch.load(Path(folder, "whole.pt"), weights_only=True)


def test_a_resumed_run_in_bfloat16_goes_on_from_its_masters(settings: dict[str, Any], tmp_path: Path):
    """Three epochs, and one that is made longer: the same masters, moments and weights, at a rate that bfloat16 rounds away."""
    changes: dict[str, Any] = {
        "model": settings["model"] | {"dtype": "bfloat16"}, "optimizer": {"learning_rate": 1e-6, "schedule": "constant"},
        "checkpoint": {"every": 1},
    }  # fmt: skip
    train(settings, tmp_path / "unbroken", **changes, num_epochs=3)
    train(settings, tmp_path / "resumed", **changes, num_epochs=1)
    longer = parse_config(SftRun, settings | changes | {"out": tmp_path / "resumed", "num_epochs": 3}, "test")
    train_sft(longer, resume=True)
    folders = [max((tmp_path / name / "checkpoints").iterdir()) for name in ("unbroken", "resumed")]
    states = [read_optimizer(folder) for folder in folders]
    assert folders[0].name == folders[1].name == "step_000003"
    assert states[0].keys() == states[1].keys()
    assert all(value.dtype == torch.float32 for value in states[0].values())
    assert len(states[0]) > 4 * 20, "weights, two moments and a step of each of more than 20 parameters"
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    weights = [load_file(tmp_path / name / "final" / "model.safetensors") for name in ("unbroken", "resumed")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert {value.dtype for value in weights[0].values()} == {torch.bfloat16}


@pytest.mark.parametrize(("key", "value"), [("batch_tokens", 64), ("batching", {"max_tokens": 64})])
def test_a_conversation_that_fits_no_update_or_pass(settings: dict[str, Any], tmp_path: Path, key: str, value: object):
    path = write_questions(tmp_path / "a.jsonl", ["1", "2" * 100])
    with pytest.raises(ConfigError, match=rf"{key}.* = 64 is below the longest conversation, \d+ tokens.*max_tokens to 64"):
        train(settings | {"data": path, key: value}, tmp_path / "sft")
    assert train(settings | {"data": path, key: value}, tmp_path / "sft", max_tokens=64)["num_left_out"] == 1


def test_a_sliding_window_trains_flat(settings: dict[str, Any], policy: Path, tmp_path: Path):
    """Packed it is refused with the key to set; flat, loss and gradient are those of transformers, whatever a pass holds."""
    windowed = tmp_path / "windowed"
    shutil.copytree(policy, windowed)
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=load_policy(policy).config.vocab_size, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, sliding_window=4,
    )  # fmt: skip
    for file in windowed.glob("model*"):
        file.unlink()
    MistralForCausalLM(config).save_pretrained(windowed)
    changes = settings | {"model": {"path": windowed}}
    with pytest.raises(ModelError, match=r'sliding window.*batching\.packing = "flat"'):
        train(changes, tmp_path / "tree")
    train(changes, tmp_path / "flat", batching={"packing": "flat"})
    model, losses = load_policy(windowed), []
    for token_ids, mask in encode(settings):
        each = cross_entropy(model(torch.tensor([token_ids])).logits[0, :-1], torch.tensor(token_ids[1:]), reduction="none")
        losses.append(each[torch.tensor(mask[1:])])
    loss = torch.cat(losses).mean()
    loss.backward()
    (row,) = read_metrics(tmp_path / "flat")
    assert row["sft/loss"] == pytest.approx(float(loss.detach()), abs=1e-5)
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert row["sft/grad_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_a_system_message_that_contradicts_the_protocol_is_reported_at_the_start(settings: dict[str, Any], tmp_path: Path):
    class Listener(SilentProgress):
        lines: list[str] = []  # noqa: RUF012

        def line(self, text: str) -> None:
            self.lines.append(text)

    rows = [json.loads(row)["messages"] for row in settings["data"].read_text().splitlines()]
    rows[0].insert(0, {"role": "system", "content": "Call <search> words </search>, then write <answer> x </answer>."})
    settings["data"].write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    tokenizer = PolicyTokenizer.load(settings["model"]["path"])
    keys = {"out": tmp_path / "o", "protocol": {"tools": ["python"], "system_prompt": "Think."}}
    read_sft_data(parse_config(SftRun, settings | keys, "test"), tokenizer, Listener())
    taught, untold = Listener.lines
    assert taught.startswith(
        "prompts: in 1 of 3 the system message teaches <search>, which protocol.tools = ['python'] does not"
    )
    assert untold.startswith("prompts: in 1 of 3 the system message does not explain <python>; choose")
    Listener.lines.clear()
    keys["protocol"]["task_system_prompt"] = "replace"
    read_sft_data(parse_config(SftRun, settings | keys, "test"), tokenizer, Listener())
    assert Listener.lines == []
