"""Log-probs and entropies of a distribution, and of a model's head in chunks."""

import math

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from arpo.models import logprobs as logprobs_module
from arpo.models.attention import head_logits
from arpo.models.logprobs import hidden_to_hits, hidden_to_logprobs, logprobs_and_entropy

F64 = torch.float64


def test_an_even_distribution() -> None:
    logprobs, entropy = logprobs_and_entropy(torch.zeros(1, 2, dtype=F64), torch.tensor([1]))
    assert (logprobs.item(), entropy.item()) == pytest.approx((-math.log(2), math.log(2)))


def test_hand_worked_probabilities() -> None:
    # p = (0.5, 0.25, 0.25): H = 0.5 ln 2 + 2 * 0.25 ln 4 = 1.5 ln 2 = 1.0397
    logits = torch.tensor([[0.5, 0.25, 0.25]], dtype=F64).log() + 7.0
    logprobs, entropy = logprobs_and_entropy(logits, torch.tensor([2]))
    assert (logprobs.item(), entropy.item()) == pytest.approx((math.log(0.25), 1.5 * math.log(2)))


def test_temperature_divides_the_logits() -> None:
    # logits (0, ln 9) at temperature 2 are (0, ln 3): p = (1/4, 3/4)
    logits = torch.tensor([[0.0, math.log(9)]], dtype=F64)
    logprobs, entropy = logprobs_and_entropy(logits, torch.tensor([1]), temperature=2.0)
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert (logprobs.item(), entropy.item()) == pytest.approx((math.log(0.75), expected))


def test_greedy_is_measured_at_temperature_one() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(5)
    for greedy, plain in zip(logprobs_and_entropy(logits, targets, 0.0), logprobs_and_entropy(logits, targets), strict=True):
        assert torch.equal(greedy, plain)


def test_a_certain_distribution_has_entropy_0_and_stays_finite() -> None:
    logits = torch.tensor([[0.0, 200.0, -200.0]])
    logprobs, entropy = logprobs_and_entropy(logits, torch.tensor([0]))
    assert (logprobs.item(), entropy.item()) == pytest.approx((-200.0, 0.0), abs=1e-6)


def tiny_head() -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        intermediate_size=16, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config)


@pytest.mark.parametrize("of_entropies", [0.0, 2.0])
@pytest.mark.parametrize("chunk_tokens", [1, 3, 4, 11, 12, None])
def test_chunks_are_the_definition_in_values_and_gradients(chunk_tokens: int | None, of_entropies: float) -> None:
    model = tiny_head().double()
    start = torch.randn(11, 16, generator=torch.Generator().manual_seed(1), dtype=F64)
    targets = torch.randint(50, (11,), generator=torch.Generator().manual_seed(2))
    weights = torch.randn(11, generator=torch.Generator().manual_seed(3), dtype=F64)

    def whole(hidden: torch.Tensor):
        return logprobs_and_entropy(head_logits(model, hidden), targets, 0.7)

    def chunked(hidden: torch.Tensor):
        return hidden_to_logprobs(model, hidden, targets, 0.7, chunk_tokens)

    results = []
    for compute in (whole, chunked):
        model.zero_grad()
        hidden = start.clone().requires_grad_()
        logprobs, entropies = compute(hidden)
        loss = (weights * logprobs).sum()
        (loss + of_entropies * (weights**2 * entropies).sum() if of_entropies else loss).backward()
        results.append((logprobs, entropies, hidden.grad, model.lm_head.weight.grad))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_entropies_alone_have_a_gradient() -> None:
    model = tiny_head().double()
    hidden = torch.randn(5, 16, generator=torch.Generator().manual_seed(1), dtype=F64, requires_grad=True)
    targets = torch.arange(5)
    found = torch.autograd.grad(hidden_to_logprobs(model, hidden, targets, 1.0, 2)[1].sum(), hidden)[0]
    expected = torch.autograd.grad(logprobs_and_entropy(head_logits(model, hidden), targets)[1].sum(), hidden)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_frozen_head_gets_no_gradient_and_passes_one_on() -> None:
    model = tiny_head()
    model.requires_grad_(False)
    hidden = torch.randn(5, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    hidden_to_logprobs(model, hidden, torch.arange(5), 1.0, 2)[0].sum().backward()
    assert model.lm_head.weight.grad is None
    assert hidden.grad is not None
    assert float(hidden.grad.norm()) > 0


def test_nothing_to_predict_is_nothing() -> None:
    logprobs, entropies = hidden_to_logprobs(tiny_head(), torch.zeros(0, 16), torch.zeros(0, dtype=torch.long))
    assert len(logprobs) == len(entropies) == 0


@pytest.mark.parametrize("with_gradient", [True, False])
def test_no_matrix_of_tokens_and_vocabulary_is_held(with_gradient: bool, largest_tensor) -> None:
    """600 tokens x 50 ids would be 30,000 numbers; a chunk of 64 has 3,200, the hidden states 9,600."""
    model = tiny_head()
    hidden = torch.randn(600, 16, generator=torch.Generator().manual_seed(1), requires_grad=with_gradient)
    targets = torch.zeros(600, dtype=torch.long)
    with torch.set_grad_enabled(with_gradient), largest_tensor() as seen:
        logprobs, entropies = hidden_to_logprobs(model, hidden, targets, 1.0, 64)
        if with_gradient:
            (logprobs.sum() + entropies.sum()).backward()
    assert 64 * 50 <= seen.numel <= 600 * 16


def test_chunks_shrink_as_the_vocabulary_grows(largest_tensor) -> None:
    """A vocabulary of 4,096 leaves 512 tokens of 1,200: 2 M numbers, not 5 M."""
    config = Qwen3Config(vocab_size=4096, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, head_dim=4)
    model = Qwen3ForCausalLM(config)
    with torch.no_grad(), largest_tensor() as seen:
        hidden_to_logprobs(model, torch.zeros(1200, 4), torch.zeros(1200, dtype=torch.long))
    assert seen.numel == 512 * 4096


@pytest.mark.parametrize(("num_kept", "num_passes"), [(0, 6), (1, 5), (2, 4), (3, 3)])
def test_kept_logits_are_not_computed_again(num_kept: int, num_passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """11 tokens in chunks of 4, 4 and 3: three passes through the head, and one more for each chunk that is not kept."""
    monkeypatch.setitem(logprobs_module._KEPT_BYTES, "cpu", num_kept * 4 * 50 * 8)
    model = tiny_head().double()
    passes: list[int] = []
    model.lm_head.register_forward_hook(lambda *_: passes.append(1))
    start = torch.randn(11, 16, generator=torch.Generator().manual_seed(1), dtype=F64)
    targets, weights = torch.arange(11), torch.arange(1.0, 12.0, dtype=F64)
    results = []
    for chunk_tokens in (11, 4):
        model.zero_grad()
        hidden = start.clone().requires_grad_()
        passes.clear()
        (hidden_to_logprobs(model, hidden, targets, 0.7, chunk_tokens)[0] * weights).sum().backward()
        results.append((hidden.grad, model.lm_head.weight.grad.clone()))
    assert len(passes) == num_passes
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_second_backward_pass_gives_the_same_gradient() -> None:
    """The first takes the memory of the kept logits for their gradient; the second computes them again."""
    model = tiny_head().double()
    hidden = torch.randn(5, 16, generator=torch.Generator().manual_seed(1), dtype=F64, requires_grad=True)
    logprobs, _ = hidden_to_logprobs(model, hidden, torch.arange(5), 1.0, 2)
    first = torch.autograd.grad(logprobs.sum(), [hidden, model.lm_head.weight], retain_graph=True)
    second = torch.autograd.grad(logprobs.sum(), [hidden, model.lm_head.weight])
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


def test_float32_is_exact_to_a_millionth_over_a_large_vocabulary() -> None:
    """Sums of 50,000 terms one after the other in float32 lose five digits; entropies of 6.5 nats would be off by 1e-5."""
    logits = torch.randn(8, 50_000, generator=torch.Generator().manual_seed(0)) * 3
    targets = torch.arange(8)
    exact = logprobs_and_entropy(logits.double(), targets)
    for found, expected in zip(logprobs_and_entropy(logits, targets), exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=4e-6)


def test_logits_are_float32_at_least() -> None:
    model = tiny_head()
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (F64, F64)):
        assert head_logits(model.to(dtype), torch.zeros(1, 16, dtype=dtype)).dtype == expected  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_gradient_of_the_head_is_summed_in_float32(dtype: torch.dtype) -> None:
    """1,024 equal tokens in chunks of 1: 1,024 times one token's gradient, which that format's own sum would not pass.

    bfloat16 has 8 bits: a sum of equal numbers stops at 256 of them; float16, with 11, at 2,048.
    """
    model = tiny_head().to(dtype)  # pyright: ignore[reportArgumentType]
    weight = model.lm_head.weight
    hidden = torch.ones(1, 16, dtype=dtype)
    gradients = []
    for num_tokens in (1, 1024):
        logprobs, _ = hidden_to_logprobs(
            model, hidden.expand(num_tokens, -1), torch.zeros(num_tokens, dtype=torch.long), 1.0, 1
        )
        (logprobs.sum() / 64).backward()
        assert weight.grad is not None
        gradients.append(weight.grad.float().clone())
        weight.grad = None
    assert torch.allclose(gradients[1], 1024 * gradients[0], rtol=2**-7, atol=0)


@pytest.mark.parametrize("chunk_tokens", [None, 1, 3])
def test_hits_are_the_argmax_of_what_can_be_sampled(chunk_tokens: int | None) -> None:
    """Token accuracy by hand: half of the targets are each state's likeliest token, the others its second; log-probs stay."""
    model = tiny_head()
    hidden = torch.randn(10, 16, generator=torch.Generator().manual_seed(1), dtype=model.dtype)
    best, second = head_logits(model, hidden).topk(2).indices.T
    targets = torch.where(torch.arange(10) % 2 == 0, best, second)
    logprobs, hits = hidden_to_hits(model, hidden, targets, chunk_tokens)
    assert hits.tolist() == [True, False] * 5
    assert torch.equal(logprobs, hidden_to_logprobs(model, hidden, targets, 1.0, chunk_tokens)[0])
    logprobs.sum().backward()


def test_of_equal_tokens_the_first_is_the_likeliest() -> None:
    """A head of zeros gives every token the same: accuracy 1 for token 0 and 0 for all others, not 1 for every one."""
    model = tiny_head()
    torch.nn.init.zeros_(model.lm_head.weight)
    _, hits = hidden_to_hits(model, torch.ones(3, 16, dtype=model.dtype), torch.tensor([0, 1, 2]))
    assert hits.tolist() == [True, False, False]
