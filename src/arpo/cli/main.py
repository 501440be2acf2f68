"""Entry of the command line: parses, runs one command, and turns errors into a message and an exit code."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from importlib import import_module

import arpo
from arpo.cli.overrides import join_values
from arpo.errors import ArpoError
from arpo.ranks import is_main, num_ranks, tell_error

COMMANDS = (
    "init", "quickstart", "smollm2", "world", "data", "index", "demos", "sft", "train", "rollout", "evaluate", "compare",
    "study", "bias", "bench", "model", "export", "view", "tool", "cache", "doctor", "algorithms", "benchmarks", "config",
)  # fmt: skip
"""Modules of `arpo.cli.commands`, in the order of the help."""

ON_RANKS = ("train", "sft", "eval")
"""Commands that torchrun may start as several processes."""

_DESCRIPTION = "Train tool-using LLM agents with reinforcement learning that branches where the model is unsure."
_EPILOG = """\
start here:
  arpo doctor               what works on this machine, and what to do about what does not
  arpo init NAME            a folder of your own to begin with: configurations, a reward, a tool, data
  arpo quickstart           the whole path on a CPU: world, index, demonstrations, SFT, RL, evaluation, report
  arpo smollm2              the same path for a real language model of 135 M parameters, in hours
  arpo COMMAND --help       each command, with examples
"""

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` None means the process's own arguments.

    Returns:
        0: it worked; 1: `doctor` found something broken, or a tool called by hand failed; 2: the user has something to mend;
        130: Ctrl-C.
    """
    parser = build_parser()
    with nullcontext() if is_main() else redirect_stderr(None), nullcontext() if is_main() else redirect_stdout(None):
        args, rest = parser.parse_known_args(join_values(sys.argv[1:] if argv is None else argv, dotted_only=True))
        if rest and not args.takes_overrides:
            parser.error(f"unknown arguments: {' '.join(rest)}; see `arpo {args.command} --help`")
    if num_ranks() > 1 and args.command not in ON_RANKS:
        return _fail(
            f"arpo {args.command}: runs in one process; start it without torchrun (which is for {', '.join(ON_RANKS)})"
        )
    args.rest, args.main = rest, main  # quickstart runs other commands
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow a shared machine down many times over
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers draws its own bars through ours
    try:
        return args.run(args)
    except ArpoError as error:
        return _fail(str(error))
    except KeyboardInterrupt as interrupt:
        if is_main():
            print(f"\ninterrupted; {interrupt or 'run the command again to start over'}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno is None:
            raise
        return _fail(explain_os_error(error))


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    parser = argparse.ArgumentParser(
        prog="arpo",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"arpo {arpo.__version__}")
    parser.set_defaults(takes_overrides=False)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        import_module(f"arpo.cli.commands.{command}").add_parser(subparsers)
    return parser


def explain_os_error(error: OSError) -> str:
    """The refusal of the operating system: where, what, and what to do."""
    where = error.filename or "standard output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}: no space left on the device; free some space and run again"
    if error.errno == errno.EMFILE:
        return f"{where}: too many open files; raise the limit with `ulimit -n 4096` and run again"
    return f"{where}: {error.strerror}"


def _fail(message: str) -> int:
    tell_error(lambda: print(f"error: {message}", file=sys.stderr, flush=True))
    try:
        sys.stdout.flush()
    except OSError:  # the rest of the buffer would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
