"""`arpo index`: builds the search index of a corpus, or serves it over HTTP."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, print_summary, progress, result_console
from arpo.errors import ToolError
from arpo.tracking.progress import Phase

_EXAMPLES = """\
  arpo index build runs/quickstart/world/corpus.jsonl --out runs/quickstart/index
  arpo index build wiki-18.jsonl.gz more.parquet notes/ --out wiki
  arpo index serve wiki --port 8000                        then search.type=http in any configuration
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "index", "build or serve the search index of a document corpus", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_build(actions)
    _add_serve(actions)


def _add_build(actions: Any) -> None:
    build = add_command(actions, "build", "index documents for the search tool", _EXAMPLES)
    build.add_argument(
        "corpus", type=Path, nargs="+", metavar="CORPUS",
        help="JSONL (also .gz) or parquet with `text` or `contents`, text or Markdown; a folder stands for its files",
    )  # fmt: skip
    build.add_argument("--out", type=Path, required=True, help="folder of the index; an index already there is replaced")
    build.set_defaults(run=run_build)


def _add_serve(actions: Any) -> None:
    serve = add_command(actions, "serve", "answer searches over HTTP in the Search-R1 protocol", _EXAMPLES)
    serve.add_argument("index", type=Path, metavar="DIR", help="folder of the index")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 means all (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    serve.add_argument("--top-k", type=int, default=3, help="documents per query where a request does not say (default: 3)")
    serve.add_argument("--title-weight", type=float, default=1.0, help="factor of a title's score (default: 1)")
    serve.add_argument("--text-weight", type=float, default=1.0, help="factor of a text's score (default: 1)")
    serve.set_defaults(run=run_serve)


def run_build(args: argparse.Namespace) -> int:
    """Build the index."""
    from arpo.tools.search.index import build_index

    with progress().phase("index", total=None, unit="documents") as phase:
        num_documents = build_index(args.corpus, args.out, on_progress=_advance_to(phase))
    print_summary({"documents": num_documents, "index": str(args.out)})
    return 0


def run_serve(args: argparse.Namespace) -> int:
    """Serve until interrupted.

    Raises:
        ToolError: the extra `serve` is missing, or the address cannot be used.
    """
    from arpo.config import parse_config
    from arpo.tools.search.config import LocalSearchConfig
    from arpo.tools.search.local import LocalIndex

    try:
        from arpo.tools.search.serve import RetrieverServer  # needs an extra
    except ImportError as error:
        raise ToolError(f"arpo index serve needs the package {error.name}: pip install 'arpo[serve]'") from error
    keys = ("index", "top_k", "title_weight", "text_weight")
    index = LocalIndex(parse_config(LocalSearchConfig, {key: getattr(args, key) for key in keys}, "command line"))
    try:
        server = RetrieverServer(index, args.host, args.port, args.top_k)
    except (OSError, OverflowError) as error:
        raise ToolError(f"--host {args.host} --port {args.port}: cannot listen there ({error}); choose another port") from error
    address = f"http://{args.host}:{server.port}/retrieve"
    result_console().print(f"serving {index.num_documents} documents at {address}; Ctrl-C ends it", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        server.run()
    return 0


def _advance_to(phase: Phase) -> Callable[[int], None]:
    """A callback that takes the number of documents so far."""
    done = 0

    def advance(num_documents: int) -> None:
        nonlocal done
        phase.advance(num_documents - done)
        done = num_documents

    return advance
