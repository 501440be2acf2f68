"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], num_words: int | None = None) -> str:
    """A table; the columns after the first `num_words` are aligned right, as numbers are; None: none is."""
    words = len(header) if num_words is None else num_words
    rules = ["---" if column < words else "---:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rules, *rows))
