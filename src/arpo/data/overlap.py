"""Questions that other files have too, exactly or nearly: duplicates, and training on an evaluation set."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from arpo.data.tasks import scan_tasks
from arpo.files.sources import BadRow, open_source

NGRAM_WORDS = 3
"""Words of an n-gram."""
MIN_NGRAMS = 5
"""A question with fewer different n-grams, e.g. of six words, is compared whole only."""
NEAR = 0.7
"""Least share of the shorter question's n-grams in the other that makes two questions near-duplicates."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\d+(?:[.,]\d+)*|[^\W\d_]+|[-+*/^=<>%|\\]")


@dataclass(slots=True, frozen=True)
class Overlap:
    """A question that another file has too."""

    path: Path
    """The other file."""
    row: int
    """Row in the other file."""
    containment: float
    """Share of the shorter question's n-grams in the other, in [0.7, 1]; 1 for equal normal forms."""
    is_exact: bool
    """Whether both have the same normal form."""


class OverlapIndex:
    """Finds a question among those of some files.

    Two questions are the same when their normal forms (`normalise`) are equal, and near-duplicates when the other has a share
    of `NEAR` or more of the shorter one's word 3-grams. This containment is counted, not estimated as in MinHash.
    """

    def __init__(self) -> None:
        self.num_questions: dict[Path, int] = {}
        """File -> number of its questions."""
        self.bad_rows: list[BadRow] = []
        """Rows of the files that are no tasks."""
        self._whole: dict[str, int] = {}
        self._holders: dict[int, list[int]] = {}
        self._sizes: list[int] = []
        self._rows: list[tuple[Path, int]] = []

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> "OverlapIndex":
        """The questions of the tasks in these sources.

        Raises:
            DataError: one cannot be read.
        """
        index = cls()
        for path in paths:
            for row in scan_tasks(open_source(path), index.bad_rows.append):
                index.add(row.value.task.question, path, row.row.number)
        return index

    def add(self, question: str, path: Path, row: int) -> None:
        """Add a question."""
        number = len(self._rows)
        words = _words(question)
        self._whole.setdefault(" ".join(words), number)
        ngrams = _ngrams(words)
        for ngram in ngrams:
            self._holders.setdefault(ngram, []).append(number)
        self._sizes.append(len(ngrams))
        self._rows.append((path, row))
        self.num_questions[path] = self.num_questions.get(path, 0) + 1

    def find(self, question: str) -> Overlap | None:
        """The equal question, else the one with the largest containment; None when none is a near-duplicate."""
        words = _words(question)
        same = self._whole.get(" ".join(words))
        if same is not None:
            return Overlap(*self._rows[same], 1.0, is_exact=True)
        ngrams = _ngrams(words)
        counts = Counter(number for ngram in ngrams for number in self._holders.get(ngram, ()))
        best, nearest = 0.0, 0
        for number, count in counts.items():
            size = min(len(ngrams), self._sizes[number])
            if size >= MIN_NGRAMS and count / size > best:
                best, nearest = count / size, number
        return Overlap(*self._rows[nearest], best, is_exact=False) if best >= NEAR else None


def find_benchmarks(path: Path) -> list[Path]:
    """Evaluation files beside a file, without the file itself.

    These are `benchmarks/*.jsonl` and, up to two folders above, `evaluation/data/*/*.jsonl`, as in the public release.
    """
    folders = path.absolute().parents[:3]
    files = [*(folders[0].glob("benchmarks/*.jsonl") if folders else ())]
    for folder in folders:
        files += folder.glob("evaluation/data/*/*.jsonl")
    return sorted(file for file in files if file != path.absolute())


def normalise(question: str) -> str:
    """Words, numbers and signs of formulas (- + * / ^ = < > % | and the backslash) of a question, with one blank between.

    NFKC first, then lower case; other punctuation is skipped. A Chinese, Japanese or Korean character is a word.

    Example: normalise("What is  3.5 - x, Ada?") is "what is 3.5 - x ada".
    """
    return " ".join(_words(question))


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).replace("\u2212", "-").casefold())


def _ngrams(words: list[str]) -> set[int]:
    return {hash(tuple(words[i : i + NGRAM_WORDS])) for i in range(len(words) - NGRAM_WORDS + 1)}
