"""`arpo model`: gets a model as a directory, and says what one is."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.markup import escape

from arpo.cli.output import add_command, make_table, print_summary, progress, result_console

_EXAMPLES = """\
  arpo model get Qwen/Qwen2.5-0.5B-Instruct --out models/qwen          from the hub; needs the network once
  arpo model get Qwen/Qwen2.5-0.5B-Instruct --revision main --dtype bfloat16 --out models/qwen
  arpo model get SmolLM2-135M-Instruct.Q4_1.gguf --out models/smollm2  dequantised; needs the extra gguf
  arpo model get model.gguf --licence LICENSE.txt --card README.md --out models/mine
  arpo model show models/qwen                                          sizes, end tokens, and what arpo can do with it
  arpo model show runs/quickstart/rl/best --json
"""
_MODEL = "a model directory, OWNER/NAME of the hub, or a .gguf file"


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, "model", "get a model as a directory; say what one is and what arpo can do with it", _EXAMPLES
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    get = add_command(actions, "get", "write a model of the hub, or a GGUF file, as a Hugging Face directory", _EXAMPLES)
    get.add_argument("model", type=Path, metavar="NAME|FILE", help=_MODEL)
    get.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder to write")
    get.add_argument("--revision", help="branch, tag or commit of a hub model (default: its main branch)")
    add_writing_arguments(get)
    get.add_argument("--licence", type=Path, metavar="FILE", help="licence text to go along, where the model brings none")
    get.add_argument("--card", type=Path, metavar="FILE", help="model card to go along, where the model brings none")
    get.set_defaults(run=run_get)
    show = add_command(actions, "show", "say what a model is, without loading its weights", _EXAMPLES)
    show.add_argument("model", type=Path, metavar="DIR|NAME|FILE", help=_MODEL)
    show.add_argument("--revision", help="branch, tag or commit of a hub model (default: its main branch)")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=run_show)


def add_writing_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of how weights are written."""
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="number format of the weights (default: the model's own)"
    )
    parser.add_argument(
        "--shard-gb", type=float, metavar="GB", help="size above which weights are written in several files (default: 5)"
    )


def shard_bytes(args: argparse.Namespace) -> int | None:
    """`--shard-gb` in bytes; None: not given.

    Raises:
        ConfigError: it is not above 0.
    """
    from arpo.errors import ConfigError

    if args.shard_gb is not None and not args.shard_gb > 0:
        raise ConfigError(f"--shard-gb {args.shard_gb:g}: must be above 0; it is the largest size of a file, in 10^9 bytes")
    return None if args.shard_gb is None else max(1, int(args.shard_gb * 1e9))


def run_get(args: argparse.Namespace) -> int:
    """Write the directory."""
    from arpo.models.writing import get_model

    directory = get_model(
        args.model, args.out, progress(), revision=args.revision, dtype=args.dtype, licence=args.licence, card=args.card,
        max_shard_bytes=shard_bytes(args),
    )  # fmt: skip
    print_summary({"model": str(directory)})
    result_console().print(f"  `arpo model show {directory}` says what it is", markup=False, soft_wrap=True)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print the description."""
    from arpo.cli.models import describe
    from arpo.models.source import find_model

    has_weights = args.model.exists()
    directory = find_model(
        args.model, args.revision, label=f"model {str(args.model)!r}", revision_key="--revision", progress=progress(),
        needs_weights=has_weights,
    )  # fmt: skip
    found = describe(directory, has_weights=has_weights)
    if args.json:
        result_console().out(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    formats = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in found["dtypes"].items())
    size = f", {found['weight_gb']:.2f} GB ({formats})" if found["weight_gb"] is not None else ""
    sliding = (
        f", {found['num_sliding_layers']} of them with a window or another attention" if found["num_sliding_layers"] else ""
    )
    rows = found["rows_without_token"]
    masked = f", {rows} rows without a token, which are never sampled" if rows else ""
    tied = "; tied" if found["is_tied"] else ""
    table = make_table("", "", show_header=False)
    lines = {
        "directory": found["directory"],
        "architecture": found["architecture"],
        "parameters": f"{found['num_parameters'] / 1e6:.1f} M{size}",
        "layers": f"{found['num_layers']} of width {found['width']}{sliding}",
        "vocabulary": f"{found['vocabulary_rows']} rows, {found['tokens']} tokens{masked}{tied}",
        "positions": str(found["num_positions"] or "not said"),
        "end tokens": ", ".join(f"{text} ({index})" for text, index in found["end_tokens"].items()),
        "template": "yes" if found["has_template"] else "no: prompts are written as `User: ... Assistant:`",
    }
    lines |= {f"protocol {name}": f"no: {fault}" if fault else "fits" for name, fault in found["protocols"].items()}
    lines |= {name: answer for name, answer in found["abilities"].items() if name != "protocols"}
    for name, text in lines.items():
        table.add_row(name, escape(text))
    result_console().print(table)
