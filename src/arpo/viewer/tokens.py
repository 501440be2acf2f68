"""The text of single tokens, so that pages can show the entropy of each."""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from arpo.errors import DataError

Decoder = Callable[[Sequence[int]], str]


def find_decoder(run: Path, tokenizer_dir: Path | None = None) -> Decoder | None:
    """The decoder of `tokenizer_dir`, or else of the run's policy (a file of trees lies in the `rollouts/` of its run).

    None where no directory is given, the run has no checkpoint, and the model of its config.toml has no tokenizer here.

    Raises:
        DataError: `tokenizer_dir` has no `tokenizer.json`.
    """
    root = run if run.is_dir() else run.parent.parent
    path = tokenizer_dir / "tokenizer.json" if tokenizer_dir else _run_tokenizer(root)
    if path is None:
        return None
    if not path.is_file():
        raise DataError(f"{path}: no such file; name an HF directory with a tokenizer.json, or leave the tokenizer out")
    tokenizer = Tokenizer.from_file(str(path))
    return lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False)


def _run_tokenizer(run: Path) -> Path | None:
    """The tokenizer of a checkpoint, else of the model the run was configured with."""
    tokenizer = next(run.glob("checkpoints/*/model/tokenizer.json"), None)
    config = run / "config.toml"
    if tokenizer is not None or not config.is_file():
        return tokenizer
    model = tomllib.loads(config.read_text(encoding="utf-8")).get("model")
    path = Path(model["path"], "tokenizer.json") if isinstance(model, dict) and "path" in model else None
    return path if path is not None and path.is_file() else None


def token_pieces(token_ids: Sequence[int], decode: Decoder) -> list[str]:
    """[T] the text that each token adds; a character of several tokens belongs to the last, the earlier ones are empty.

    Example:
        ids of "é!" in bytes, [195, 169, 33]  # -> ["", "é", "!"]
    """
    pieces: list[str] = []
    start = 0
    for end in range(1, len(token_ids) + 1):
        # Some tokenizers drop the space of a word decoded alone: decode it after its neighbour.
        before = token_ids[max(0, start - 1) : start]
        text = decode([*before, *token_ids[start:end]])[len(decode(before)) :]
        is_open = text.endswith("\N{REPLACEMENT CHARACTER}") and end - start < 4 and end < len(token_ids)
        pieces.append("" if is_open else text)
        start = start if is_open else end
    return pieces
