"""Rows of the vocabulary without a token are outside every distribution: sampling, log-probs, entropies and gradients."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn

from arpo.errors import ModelError
from arpo.inference.transformers_engine import TransformersEngine
from arpo.models.attention import head_logits
from arpo.models.loading import load_policy, save_policy
from arpo.models.logprobs import hidden_to_logprobs, logprobs_and_entropy
from arpo.models.vocabulary import mask_rows_without_token, masked_rows, rows_without_token
from arpo.types import SamplingParams

F64 = torch.float64
EXTRA = [0, 11, 12, 40, 95, 96]
"""Rows without a token: below the first id, holes, and beyond the last id of 97 rows."""
TOKENS = [i for i in range(97) if i not in EXTRA]


def write_ids(directory: Path, ids: list[int]) -> Path:
    """A tokenizer.json whose tokens have these ids."""
    directory.mkdir(parents=True, exist_ok=True)
    Tokenizer(WordLevel({f"w{i}": i for i in ids}, f"w{ids[0]}")).save(str(directory / "tokenizer.json"))
    return directory


@pytest.fixture
def model_of(make_model, tmp_path: Path):
    """A model of 97 rows, those in `EXTRA` far more likely than any token, in a directory whose tokenizer has the others."""

    def make(*, tied: bool = False, ids: list[int] = TOKENS, dtype: torch.dtype = F64) -> Any:
        model = make_model().to(dtype)
        with torch.no_grad():
            model.lm_head.weight[EXTRA] *= 50
        if tied:
            model.lm_head.weight = model.get_input_embeddings().weight
        mask_rows_without_token(model, write_ids(tmp_path / "tokenizer", ids))
        return model

    return make


def test_rows_without_token_are_holes_and_the_rest(tmp_path: Path) -> None:
    directory = write_ids(tmp_path, [0, 1, 3])
    assert rows_without_token(directory, 6) == [2, 4, 5]
    assert rows_without_token(write_ids(tmp_path, [0, 1, 2]), 3) == []
    with pytest.raises(ModelError, match=r"ids up to 3, but the model has only 3 embeddings"):
        rows_without_token(write_ids(tmp_path, [0, 1, 3]), 3)


@pytest.mark.parametrize("of_entropies", [0.0, 2.0])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("chunk_tokens", [1, 4, None])
def test_values_and_gradients_are_those_of_a_head_of_the_tokens_alone(
    model_of, chunk_tokens: int | None, tied: bool, of_entropies: float
) -> None:
    """The definition: delete the rows, compute with autograd, put the gradient back where the rows were."""
    model = model_of(tied=tied)
    start = torch.randn(9, 32, generator=torch.Generator().manual_seed(1), dtype=F64)
    index = torch.randint(len(TOKENS), (9,), generator=torch.Generator().manual_seed(2))
    weights = torch.randn(9, generator=torch.Generator().manual_seed(3), dtype=F64)
    head = model.lm_head.weight

    def results(logprobs: Tensor, entropies: Tensor, hidden: Tensor) -> list[Tensor]:
        loss = (weights * logprobs).sum() + of_entropies * (weights**2 * entropies).sum()
        return [logprobs, entropies, *torch.autograd.grad(loss, [hidden, head])]

    hidden = start.clone().requires_grad_()
    expected = results(*logprobs_and_entropy(hidden @ head[TOKENS].T, index, 0.7), hidden)
    targets = torch.tensor(TOKENS)[index]
    chunked = results(*hidden_to_logprobs(model, hidden, targets, 0.7, chunk_tokens), hidden)
    whole = results(*logprobs_and_entropy(head_logits(model, hidden), targets, 0.7), hidden)
    for found in (chunked, whole):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
        assert not found[-1][EXTRA].any()


@pytest.mark.parametrize("temperature", [0.0, 1e-9, 0.5, 1.0, 20.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
async def test_no_such_row_is_sampled_and_all_numbers_are_the_trainers(
    model_of, dtype: torch.dtype, temperature: float
) -> None:
    model = model_of(dtype=dtype)
    engine = TransformersEngine(model, decode=lambda ids: "", eos_ids=frozenset())
    prefix = await engine.prefill(None, [5, 6, 7])
    sampling = [SamplingParams(max_tokens=20, temperature=temperature, entropy_top_k=k) for k in (None, 1, 94)]
    drawn = await asyncio.gather(*(engine.generate(prefix, s, seed=i) for s in sampling for i in range(8)))
    await engine.aclose()
    assert not {token for completion, _ in drawn for token in completion.token_ids} & set(EXTRA)
    numbers = torch.tensor([[c.logprobs, c.entropies] for c, _ in drawn])
    assert numbers.isfinite().all()
    assert numbers[:, 1].max() <= torch.tensor(float(len(TOKENS))).log() + 1e-4
    for exact, of_all_tokens in zip(drawn[:8], drawn[16:], strict=True):  # k = 94 reaches beyond the 91 tokens
        assert exact[0].token_ids == of_all_tokens[0].token_ids
        assert exact[0].entropies == pytest.approx(of_all_tokens[0].entropies, abs=1e-4)


def test_a_model_whose_rows_all_have_a_token_is_unchanged(model_of) -> None:
    model = model_of(ids=list(range(97)), dtype=torch.float32)
    assert masked_rows(model) is None
    hidden = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    assert head_logits(model, hidden).equal(model.lm_head(hidden))


def test_a_loaded_policy_is_masked_and_its_files_are_as_before(make_model, qwen_directory: Path, tmp_path: Path) -> None:
    make_model(vocab_size=400).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((qwen_directory / name).read_bytes())
    model = load_policy(tmp_path)
    rows = masked_rows(model)
    assert rows is not None
    assert rows.tolist() == list(range(Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size(), 400))
    before = load_file(tmp_path / "model.safetensors")
    save_policy(model, tmp_path, tmp_path / "again")
    after = load_file(tmp_path / "again" / "model.safetensors")
    assert {name: t.shape for name, t in after.items()} == {name: t.shape for name, t in before.items()}
    assert all(after[name].equal(before[name]) for name in before)


def test_the_mask_moves_with_the_model_and_is_no_parameter(model_of) -> None:
    model: nn.Module = model_of()
    assert "rows_without_token" not in {*model.state_dict(), *dict(model.named_parameters())}
    assert torch.tensor(EXTRA).equal(dict(model.to(torch.bfloat16).named_buffers())["rows_without_token"])
