"""Which models take their attention from a layout, and what is said of the others."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from arpo.errors import ModelError
from arpo.models.attention import ATTENTION_NAME, forward_hidden, layout_obstacle, use_layout_attention

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "intermediate_size": 16,
}  # fmt: skip


class FirstOnly:
    """A layout in which every token sees the first."""

    def attend(self, layer: int, query, key, value, scale: float):
        return value[:1].repeat_interleave(query.shape[1] // value.shape[1], dim=1).expand(query.shape)


def sliding(**changes: object) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, **changes))


REFUSED = {
    "sliding layers": (lambda: sliding(use_sliding_window=True, sliding_window=8, max_window_layers=1), "sliding_attention"),
    "a window on every layer": (lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)), "sliding window of 8"),
    "caps on scores": (
        lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, layer_types=["full_attention"] * 2, attn_logit_softcapping=30.0)),
        r"a cap on its attention scores of 30\.0",
    ),
    "soft caps and windows": (lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES)), "sliding_attention"),
    "biases by distance": (
        lambda: BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=2)),
        "an attention function of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_whose_mask_no_layout_describes_are_refused(name: str) -> None:
    make, obstacle = REFUSED[name]
    model = make()
    before = model.config._attn_implementation
    with pytest.raises(ModelError, match=rf'{obstacle}.*batching\.packing = "flat"'):
        use_layout_attention(model)
    assert model.config._attn_implementation == before


def test_what_an_architecture_adds_to_its_scores_is_refused_when_it_comes() -> None:
    """A cap on the scores shows in no general setting: a Gemma 2 whose layers are all full."""
    config = Gemma2Config(**SIZES, layer_types=["full_attention"] * 2, final_logit_softcapping=None)
    model = Gemma2ForCausalLM(config).eval()
    model.config.attn_logit_softcapping = None
    use_layout_attention(model)
    ids = torch.arange(4)
    with pytest.raises(ModelError, match="Gemma2Attention: has softcap"):
        forward_hidden(model, ids, ids, FirstOnly())


def test_plain_models_are_taken() -> None:
    for model in (sliding(), MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None))):
        assert layout_obstacle(model) is None
        assert use_layout_attention(model).config._attn_implementation == ATTENTION_NAME


def test_a_model_with_its_own_attention_runs_sequence_by_sequence() -> None:
    """A window of 3 tokens counts from the start of each sequence, not of the pack."""
    model = sliding(use_sliding_window=True, sliding_window=3, max_window_layers=0).eval()
    ids, positions = torch.arange(10, 22), torch.tensor([*range(7), *range(5)])
    with torch.no_grad():
        found = forward_hidden(model, ids, positions, FirstOnly())
        rows = [
            model.base_model(input_ids=part.unsqueeze(0), use_cache=False).last_hidden_state[0] for part in ids.split([7, 5])
        ]
    torch.testing.assert_close(found, torch.cat(rows), rtol=0, atol=1e-6)


def test_a_model_with_its_own_attention_refuses_a_packed_tree() -> None:
    model = sliding(use_sliding_window=True, sliding_window=3, max_window_layers=0).eval()
    with pytest.raises(ModelError, match=r'sliding_attention.*batching\.packing = "flat"'):
        forward_hidden(model, torch.arange(5), torch.tensor([0, 1, 2, 2, 3]), FirstOnly())
