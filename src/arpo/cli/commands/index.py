"""`arpo index build`: a search index of a corpus, on disk."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, print_summary, progress
from arpo.tracking.progress import Phase

_EXAMPLES = """\
  arpo index build runs/quickstart/world/corpus.jsonl --out runs/quickstart/index
  arpo tool search "Ada Moor born" --search.index=runs/quickstart/index
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "index", "build the search index of a document corpus", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = add_command(actions, "build", "index a JSONL corpus for the search tool", _EXAMPLES)
    build.add_argument("corpus", type=Path, metavar="CORPUS", help="JSONL file with one document per line")
    build.add_argument("--out", type=Path, required=True, help="folder of the index; an index already there is replaced")
    build.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build the index."""
    from arpo.tools.search.index import build_index

    with progress().phase("index", total=None, unit="documents") as phase:
        num_documents = build_index(args.corpus, args.out, on_progress=_advance_to(phase))
    print_summary({"documents": num_documents, "index": str(args.out)})
    return 0


def _advance_to(phase: Phase) -> Callable[[int], None]:
    """A callback that takes the number of documents so far."""
    done = 0

    def advance(num_documents: int) -> None:
        nonlocal done
        phase.advance(num_documents - done)
        done = num_documents

    return advance
