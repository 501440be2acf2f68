"""Which questions are those of other files, word for word or nearly: duplicates, and training on an evaluation set."""

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
"""Fewer different n-grams, as in a question of six words, say too little: such questions are compared whole only."""
NEAR = 0.7
"""Share of the shorter question's n-grams that the other holds, from which on the two are near-duplicates."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\d+(?:[.,]\d+)*|[^\W\d_]+|[-+*/^=<>%|\\]")


@dataclass(slots=True, frozen=True)
class Overlap:
    """A question that is in another file too."""

    path: Path
    """The other file."""
    row: int
    """Its row there."""
    containment: float
    """Share of the shorter one's n-grams that the other holds, in [0.7, 1]; 1 for questions of equal normal form."""
    is_exact: bool
    """Whether both have the same normal form."""


class OverlapIndex:
    """The questions of some files, by what they have in common with another.

    Two questions are the same when their normal forms are (`normalise`), and near-duplicates when of the word 3-grams of the
    shorter one the share `NEAR` or more is in the other. This containment is counted, not estimated as MinHash would.
    """

    def __init__(self) -> None:
        self.num_questions: dict[Path, int] = {}
        """File -> its questions."""
        self.bad_rows: list[BadRow] = []
        """Rows of the files that are no tasks."""
        self._whole: dict[str, int] = {}
        self._holders: dict[int, list[int]] = {}
        self._sizes: list[int] = []
        self._places: list[tuple[Path, int]] = []

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> "OverlapIndex":
        """The questions of the tasks that these paths stand for.

        Raises:
            DataError: one cannot be read.
        """
        index = cls()
        for path in paths:
            source = open_source(path)
            for found in scan_tasks(source):
                if isinstance(found, BadRow):
                    index.bad_rows.append(found)
                else:
                    index.add(found.task.question, path, found.row.number)
        return index

    def add(self, question: str, path: Path, row: int) -> None:
        """Take in a question."""
        number = len(self._places)
        words = _words(question)
        self._whole.setdefault(" ".join(words), number)
        ngrams = _ngrams(words)
        for ngram in ngrams:
            self._holders.setdefault(ngram, []).append(number)
        self._sizes.append(len(ngrams))
        self._places.append((path, row))
        self.num_questions[path] = self.num_questions.get(path, 0) + 1

    def find(self, question: str) -> Overlap | None:
        """The question that is the same, or else the one most of which is shared; None when none is a near-duplicate."""
        words = _words(question)
        same = self._whole.get(" ".join(words))
        if same is not None:
            return Overlap(*self._places[same], 1.0, is_exact=True)
        ngrams = _ngrams(words)
        counts = Counter(number for ngram in ngrams for number in self._holders.get(ngram, ()))
        best, nearest = 0.0, 0
        for number, count in counts.items():
            size = min(len(ngrams), self._sizes[number])
            if size >= MIN_NGRAMS and count / size > best:
                best, nearest = count / size, number
        return Overlap(*self._places[nearest], best, is_exact=False) if best >= NEAR else None


def find_benchmarks(path: Path) -> list[Path]:
    """Evaluation files beside a file, itself left out.

    These are `benchmarks/*.jsonl` and, up to two folders above, `evaluation/data/*/*.jsonl`, where the public release has them.
    """
    folders = path.absolute().parents[:3]
    found = [*(folders[0].glob("benchmarks/*.jsonl") if folders else ())]
    for folder in folders:
        found += folder.glob("evaluation/data/*/*.jsonl")
    return sorted(file for file in found if file != path.absolute())


def normalise(question: str) -> str:
    """A question's words, numbers and signs of formulas (- + * / ^ = < > % | and the backslash), with one blank between.

    NFKC first, then lower case; other punctuation is left out. A Chinese, Japanese or Korean character is a word.

    Example: normalise("What is  3.5 - x, Ada?") is "what is 3.5 - x ada".
    """
    return " ".join(_words(question))


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).replace("\u2212", "-").casefold())


def _ngrams(words: list[str]) -> set[int]:
    return {hash(tuple(words[i : i + NGRAM_WORDS])) for i in range(len(words) - NGRAM_WORDS + 1)}
