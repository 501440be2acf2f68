"""The tiny policy: an ordinary Hugging Face directory whose tokenizer suits the domain."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from arpo.errors import ModelError
from arpo.models.config import TinyPolicyConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.types import Message
from arpo.world.tiny_policy import PROTOCOL_TAGS, SPECIAL_TOKENS, make_tiny_policy

TEXTS = [
    "Where was Mira Tolvan born?",
    "Page 1: Registry: Mira Tolvan, born in Kelford, birth year 1931, employer Moor Mills.\nPage 2: Registry: Kelford.",
    "<think> next Registry: Kelford</think><search> Kelford region</search>",
    "<think> done Registry: Osmark</think><answer> \\boxed{ Osmark}</answer> \\boxed{ 412}",
] * 3
SMALL = TinyPolicyConfig(vocab_size=1700, hidden_size=32, num_layers=1, num_heads=2, head_dim=8, intermediate_size=48)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny") / "policy"
    make_tiny_policy(out, TEXTS, SMALL, seed=0)
    return out


def test_default_size_is_about_a_million_parameters(tmp_path: Path) -> None:
    summary = make_tiny_policy(tmp_path / "policy", TEXTS, TinyPolicyConfig(), seed=0)
    # A layer: attention 4 * 128 * 128, MLP 3 * 128 * 384, norms 2 * 128 and 2 * 32; then tied embeddings and the last norm.
    layer = 4 * 128 * 128 + 3 * 128 * 384 + 2 * 128 + 2 * 32
    assert summary.num_parameters == 3 * layer + summary.vocab_size * 128 + 128
    assert 700_000 < summary.num_parameters < 1_200_000


def test_directory_loads_as_any_model_does(policy: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(policy), AutoTokenizer.from_pretrained(policy)
    assert model.config.architectures == ["Qwen3ForCausalLM"]
    assert model.config.vocab_size == len(tokenizer) <= 1700
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    ids = tokenizer(TEXTS[1], return_tensors="pt").input_ids
    assert torch.isfinite(model(ids).logits).all()


def test_weights_follow_from_the_seed_alone(policy: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    make_tiny_policy(tmp_path / "same", TEXTS, SMALL, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    make_tiny_policy(tmp_path / "other", TEXTS, SMALL, seed=1)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (policy, tmp_path / "same", tmp_path / "other")]
    assert weights[0] == weights[1] != weights[2]
    assert (policy / "tokenizer.json").read_bytes() == (tmp_path / "same" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    "text", [*TEXTS[:4], "Grüße, 漢字 😀\t\n  two  spaces ", "x=1.5e-3;print( 'a.b' )\n\n", "<think>7</think>"]
)
def test_every_text_survives_encoding(policy: Path, text: str) -> None:
    tokenizer = PolicyTokenizer.load(policy)
    assert tokenizer.decode(tokenizer.encode_markup(text)) == text
    assert tokenizer.decode(tokenizer.encode_untrusted(text)) == text


def test_a_number_is_the_same_tokens_wherever_it_stands(policy: Path) -> None:
    tokenizer = PolicyTokenizer.load(policy)
    assert [len(tokenizer.encode_markup(number)) for number in ("0", "7", "41", "99", "198")] == [1, 1, 1, 1, 1]
    (year,) = tokenizer.encode_markup("1931")
    for text in ("birth year 1931, employer", "abs(1931 - 1907)", "\\boxed{ 1931}", "\n1931\n", "1999 - 1931"):
        assert year in tokenizer.encode_markup(text), text


def test_frequent_words_and_tags_are_single_tokens(policy: Path) -> None:
    tokenizer = PolicyTokenizer.load(policy)
    for text in (" Mira", " Registry:", *PROTOCOL_TAGS):
        assert len(tokenizer.encode_markup(text)) == 1, text
    special = AutoTokenizer.from_pretrained(policy).all_special_tokens
    assert not set(PROTOCOL_TAGS) & set(special)
    assert set(special) <= set(SPECIAL_TOKENS)


def test_chat_template_marks_roles_and_ends_assistant_turns(policy: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy)
    chat = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Mira"}, {"role": "user", "content": "Why?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>Who?<|assistant|>Mira<|end|><|user|>Why?<|assistant|>"
    assert tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=False) == "<|user|>Who?"
    ours = PolicyTokenizer.load(policy)
    ids = ours.encode_chat([Message(role="user", content="Who?")])
    assert ours.decode(ids) == "<|user|>Who?<|assistant|>"
    assert ours.eos_ids == {tokenizer.eos_token_id}


def test_a_filled_folder_is_refused(policy: Path) -> None:
    with pytest.raises(ModelError, match="holds files already"):
        make_tiny_policy(policy, TEXTS, SMALL, seed=0)
