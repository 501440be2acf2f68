"""`arpo export`: a trained policy as a directory for other programs."""

import argparse
from pathlib import Path
from typing import Any

from arpo.cli.commands.model import add_writing_arguments, shard_bytes
from arpo.cli.output import add_command, print_summary, progress

_EXAMPLES = """\
  arpo export runs/quickstart/rl --out models/agent                    the best checkpoint, for transformers and vLLM
  arpo export runs/quickstart/rl --checkpoint step_000020 --out models/step20
  arpo export runs/my_lora --dtype bfloat16 --out models/mine          the adapter merged in float32, then rounded
  arpo export my_peft_adapter --base Qwen/Qwen2.5-7B-Instruct --out models/merged
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, "export", "write a trained policy as a directory that transformers and vLLM load", _EXAMPLES
    )
    parser.add_argument(
        "source", type=Path, metavar="RUN|DIR", help="run directory, checkpoint, model directory, or folder with a peft adapter"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder to write")
    parser.add_argument(
        "--checkpoint",
        metavar="NAME",
        help="of a run: step_000020, best, final, or a path (default: best, else final, else newest)",
    )
    parser.add_argument("--base", metavar="MODEL", help="the model an adapter belongs to (default: that of its run)")
    add_writing_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the directory."""
    from arpo.training.export import export_model

    exported = export_model(
        args.source, args.out, progress(), checkpoint=args.checkpoint, base=args.base, dtype=args.dtype,
        max_shard_bytes=shard_bytes(args),
    )  # fmt: skip
    print_summary({"exported": str(exported), "model": str(args.out)})
    return 0
