"""Rows of a model's vocabulary that no token has: they are outside every distribution.

Checkpoints round their vocabulary up (Qwen2.5: 152,064 rows for 151,665 tokens), and a tokenizer may skip ids. Such a row is
never sampled and has no part in a normaliser: log-probs, entropies and gradients are those of a softmax over the tokens alone.
"""

from pathlib import Path
from typing import cast

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from arpo.errors import ModelError

LOGIT_OF_NO_TOKEN = -1e20
"""Logit of a row without a token: its probability is exactly 0 at any temperature, and p ln p is 0, not NaN as with -inf."""
_BUFFER = "rows_without_token"


def mask_rows_without_token(model: PreTrainedModel, directory: Path) -> None:
    """Take the rows that no token of the tokenizer in `directory` has out of every distribution of `model`.

    The rows stand in a buffer of the model that is not saved; None: every row has a token. A later call replaces it.

    Raises:
        ModelError: the tokenizer has an id beyond the model's vocabulary.
    """
    num_rows = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
    rows = rows_without_token(directory, num_rows)
    model.register_buffer(_BUFFER, torch.tensor(rows, device=model.device) if rows else None, persistent=False)


def rows_without_token(directory: Path, num_rows: int) -> list[int]:
    """The rows below `num_rows` that no token of the tokenizer.json in `directory` has.

    Example: ids 0, 1 and 3 with five rows give [2, 4].

    Raises:
        ModelError: an id is not below `num_rows`.
    """
    ids = set(Tokenizer.from_file(str(directory / "tokenizer.json")).get_vocab(with_added_tokens=True).values())
    if max(ids) >= num_rows:
        raise ModelError(
            f"{directory}: tokenizer.json has ids up to {max(ids)}, but the model has only {num_rows} embeddings; "
            "call model.resize_token_embeddings(len(tokenizer)) and save both again"
        )
    return sorted(set(range(num_rows)) - ids)


def mask_logits(logits: Tensor, rows: Tensor | None) -> Tensor:
    """The logits [..., vocab], changed in place where `rows` holds rows without a token; None: none does."""
    return logits if rows is None else logits.index_fill_(-1, rows, LOGIT_OF_NO_TOKEN)


def masked_rows(model: PreTrainedModel) -> Tensor | None:
    """The rows that `mask_rows_without_token` found; None: every row counts."""
    return getattr(model, _BUFFER, None)
