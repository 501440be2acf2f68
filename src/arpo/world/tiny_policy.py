"""Makes a tiny policy from scratch: a tokenizer trained on the domain's texts, and a Qwen3 model with random weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, decoders, pre_tokenizers, trainers
from tokenizers import Tokenizer as RawTokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

from arpo.errors import ModelError
from arpo.files.whole import whole
from arpo.models.config import TinyPolicyConfig

PAD, END = "<|pad|>", "<|end|>"
SPECIAL_TOKENS = (PAD, END, "<|system|>", "<|user|>", "<|assistant|>")
"""Padding, end of sequence and one per role."""
PROTOCOL_TAGS = tuple(f"<{slash}{name}>" for name in ("think", "search", "python", "result", "answer") for slash in ("", "/"))
"""Tags of the tag protocol: one token each; not special, as models sample them."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Words keep the space before them. A space before a digit joins what precedes it, so that a number is the same tokens
# everywhere; a number of the domain is one token, so that copying a number is copying a word. A colon stays with
# its word, a dotted name is one word.
_WORDS = r"\d{1,4}|[ \n]?\p{L}+(?:\.\p{L}+)*:?(?: (?=\d))?|[ \n]?[^\s\p{L}\d]+(?: (?=\d))?|\s"
_ROPE_THETA = 10000.0
_NUMBERS = [str(n) for n in (*range(200), *range(1900, 2000))]
_NUMBER_WEIGHT = 100
"""Repetitions of every number in the training texts, so that each becomes one token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyPolicySummary:
    """Sizes of the policy that `make_tiny_policy` wrote."""

    num_parameters: int
    vocab_size: int


def make_tiny_policy(out: Path, texts: Iterable[str], config: TinyPolicyConfig, seed: int) -> TinyPolicySummary:
    """Write an ordinary Hugging Face directory with a tokenizer trained on `texts` and a model of random weights.

    The tokenizer is byte-level, so every string survives encoding and decoding; numbers below 200 and years of the twentieth
    century are single tokens; the protocol's tags are added tokens that are not special. The chat template writes
    `<|user|>Where was Mira Tolvan born?<|assistant|>`.

    Args:
        out: Folder to write; it must be absent or empty.
        texts: Samples of what the policy will read and write: documents, questions, completions; without held-out names.
        config: Size of the model.
        seed: Seed of the weights.

    Raises:
        ModelError: `out` holds files.
    """
    if out.exists() and any(out.iterdir()):
        raise ModelError(f"{out}: holds files already; choose another folder for the tiny policy or remove this one")
    tokenizer = make_tokenizer(texts, config.vocab_size, config.max_positions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(_model_config(config, tokenizer))
        _initialize_for_copying(model)
    with whole(out) as partial:
        tokenizer.save_pretrained(partial)
        model.save_pretrained(partial)
    return TinyPolicySummary(num_parameters=sum(p.numel() for p in model.parameters()), vocab_size=len(tokenizer))


def make_tokenizer(texts: Iterable[str], vocab_size: int, max_positions: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `vocab_size` tokens, special tokens and protocol tags included."""
    raw = RawTokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(PROTOCOL_TAGS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(chain(texts, _NUMBERS * _NUMBER_WEIGHT), trainer)
    raw.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in PROTOCOL_TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD,
        eos_token=END,
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@torch.no_grad()
def _initialize_for_copying(model: Qwen3ForCausalLM) -> None:
    """Initialise attention like that of large trained models, so that copying names from results is learned in minutes.

    In every layer queries match like keys and values pass through: W_q = W_k and W_o = W_v^T / 2, all orthogonal, in the
    spirit of mimetic initialisation (arXiv:2305.09828). In the first layer one head attends to the previous token: induction
    heads (arXiv:2209.11895) build on such a head, and learning it takes most of a small model's training.
    """
    layers = [module for module in model.modules() if isinstance(module, Qwen3Attention)]
    for attention in layers:
        torch.nn.init.orthogonal_(attention.q_proj.weight)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        torch.nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(0.5 * attention.v_proj.weight.T)
    embeddings = model.get_input_embeddings().weight
    embeddings[:, 0] = 4 * model.config.initializer_range  # pyright: ignore[reportIndexIssue]
    _attend_to_previous_token(layers[0], rope_theta=_ROPE_THETA)


def _attend_to_previous_token(attention: Qwen3Attention, rope_theta: float, sharpness: float = 3.0) -> None:
    """Make the first head attend to the previous token, whatever the tokens are.

    Its query and key read dimension 0, which has the same value in every embedding. Rotary embedding turns both by their
    positions; turning the key by one position more makes them agree where the key is one token behind. Only the pairs that
    turn fastest are used, as they tell neighbours apart; `sharpness` scales the scores.
    """
    half = attention.head_dim // 2
    fastest = half // 3
    angles = rope_theta ** (-torch.arange(fastest) / half)
    query, key = torch.zeros(2 * half), torch.zeros(2 * half)
    query[:fastest] = 1.0
    key[:fastest], key[half : half + fastest] = angles.cos(), angles.sin()
    for projection, direction in ((attention.q_proj, query), (attention.k_proj, key)):
        projection.weight[: 2 * half] = 0.0
        projection.weight[: 2 * half, 0] = direction
    attention.q_norm.weight.fill_(sharpness)


def _model_config(config: TinyPolicyConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    vocabulary = tokenizer.get_vocab()
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_positions,
        initializer_range=config.initializer_range,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        tie_word_embeddings=True,
        pad_token_id=vocabulary[PAD],
        eos_token_id=vocabulary[END],
        bos_token_id=None,
    )
