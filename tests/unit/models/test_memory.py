"""Parameters and what they take, by hand."""

import json
from pathlib import Path

import pytest
import torch

from arpo.errors import ModelError
from arpo.models.allocation import trace_allocations
from arpo.models.config import LoraConfig, ModelConfig, TrainedModelConfig
from arpo.models.memory import cache_bytes_per_token, model_size, outline_policy, put_on_paper
from arpo.training.config import OptimizerConfig
from arpo.training.optimizer import build_optimizer

EMBEDDING = 100 * 32
ATTENTION = 32 * (4 + 2 + 2) * 8 + 4 * 8 * 32
"""Query, key and value projections of 4, 2 and 2 heads of 8, and the output's."""
BLOCK = ATTENTION + 3 * 32 * 48 + 2 * 32
"""And the gated MLP's three matrices, and two norms."""
PARAMETERS = EMBEDDING + 2 * BLOCK + 32
"""Tied embeddings, two blocks, the last norm: 3200 + 2 (3072 + 4608 + 64) + 32 = 18,720."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with the config.json of a Llama, and nothing else."""
    settings = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "head_dim": 8,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
        "tie_word_embeddings": True, "max_position_embeddings": 128,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(settings))
    return tmp_path


@pytest.mark.parametrize(
    ("dtype", "weights", "masters", "gradients"), [("bfloat16", 2, 4, 4), ("float32", 4, 0, 4), ("float64", 8, 0, 8)]
)
def test_bytes_per_parameter(dtype: str, weights: int, masters: int, gradients: int, folder: Path) -> None:
    """bfloat16: 2 + 4 + 4 + 8 = 18; float32: 4 + 0 + 4 + 8 = 16; float64: 8 + 0 + 8 + 16 = 32."""
    model = outline_policy(TrainedModelConfig.model_validate({"path": folder, "dtype": dtype}))
    size = model_size(model)
    assert size.parameters == size.trained == PARAMETERS == 18_720
    assert (size.weights, size.masters, size.gradients) == tuple(PARAMETERS * n for n in (weights, masters, gradients))
    assert size.moments == 2 * size.gradients
    assert size.states == {"bfloat16": 18, "float32": 16, "float64": 32}[dtype] * PARAMETERS
    assert size.largest == EMBEDDING * gradients


def test_each_of_several_ranks_holds_a_part_and_gathers_the_rest(folder: Path) -> None:
    """4 ranks, bfloat16: 18,720 / 4 = 4,680 parameters each, masters alone; the weights outside of blocks are 3,232."""
    size = model_size(outline_policy(TrainedModelConfig.model_validate({"path": folder, "dtype": "bfloat16"})), 4)
    assert (size.weights, size.masters, size.gradients, size.moments) == (0, 4 * 4680, 4 * 4680, 8 * 4680)
    assert size.gathered == 2 * PARAMETERS
    assert size.gathered_in_pass == 2 * (EMBEDDING + 32 + 2 * BLOCK)
    assert size.gathered_gradients == (2 + 4) * BLOCK
    assert size.states == 12 * 4680 + 2 * PARAMETERS, "the gathered weights exceed the gradients"
    alone = model_size(outline_policy(TrainedModelConfig.model_validate({"path": folder, "dtype": "float32"})), 2)
    assert (alone.weights, alone.masters, alone.gathered) == (4 * PARAMETERS // 2, 0, 4 * PARAMETERS)


def test_an_adapter_s_parameters_alone_train(folder: Path) -> None:
    """Rank 4 on the seven matrices of a block: 4 (in + out) each, 4 (64 + 48 + 48 + 64 + 3 * 80) = 1,856 in float32."""
    pytest.importorskip("peft")
    model = outline_policy(TrainedModelConfig(path=folder, dtype="bfloat16", lora=LoraConfig(rank=4)))
    size = model_size(model)
    assert size.trained == 2 * 1856
    assert size.weights == 2 * PARAMETERS + 4 * size.trained
    assert (size.masters, size.gradients, size.moments) == (0, 4 * size.trained, 8 * size.trained)


def test_the_optimizer_on_paper_takes_what_the_formulas_say(folder: Path) -> None:
    """Masters when it is built, gradients at the first backward pass."""
    outline = outline_policy(TrainedModelConfig(path=folder, dtype="bfloat16"))
    with trace_allocations() as trace:
        model = put_on_paper(outline)
        size, before = model_size(model), trace.live
        optimizer = build_optimizer(model, OptimizerConfig())
        assert trace.live - before == size.masters
        before = trace.live
        model(input_ids=torch.zeros(1, 8, dtype=torch.long)).logits.float().sum().backward()
        assert trace.live - before == size.gradients
        assert len(optimizer.masters) == len(list(model.parameters()))


def test_the_cache_of_a_token(folder: Path) -> None:
    """2 (keys, values) x 2 layers x 2 heads of 8 x 2 bytes = 128; Llama-3.1-8B: 2 x 32 x 8 x 128 x 2 = 131,072."""
    assert cache_bytes_per_token(outline_policy(ModelConfig(path=folder, dtype="bfloat16"))) == 128
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    (folder / "config.json").write_text(json.dumps(settings))
    assert cache_bytes_per_token(outline_policy(ModelConfig(path=folder, dtype="bfloat16"))) == 131_072


@pytest.mark.parametrize("content", [None, "{", '{"model_type": "nothing"}'])
def test_a_directory_without_a_readable_configuration_is_refused_in_one_line(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"model\.path = .*its memory cannot be told.*config\.json") as raised:
        outline_policy(ModelConfig(path=tmp_path))
    assert "\n" not in str(raised.value)


def test_code_of_a_model_is_not_run_even_if_somebody_says_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """transformers asks on standard input before it runs a model's own code, unless it is told never to."""
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "of_my_own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}})
    )
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\nclass Own: ...\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ModelError, match="its memory cannot be told"):
        outline_policy(ModelConfig(path=tmp_path))
    assert not (tmp_path / "was_run").exists()
