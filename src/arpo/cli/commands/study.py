"""`arpo study`: several algorithms x seeds from the same cold starts, compared with each other."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, progress, result_console
from arpo.errors import ConfigError, RunError
from arpo.recipes import find_study

DEFAULT_OUT = Path("runs/study")

_EXAMPLES = """\
  arpo study quickstart                                    five worlds, four arms; about an hour on two cores
  arpo study main frugal baselines parts controls rates attribution      26 arms and more; many hours on two cores
  arpo study main my_arm.toml --background                 goes on for hours after you log out
  arpo study main --only-report                            tables and charts of what is done so far

The files together are one study: their arms are united, every other key stands in one file (`arpo config docs study`). After
Ctrl-C or a kill the same command goes on: finished parts stay, a training resumes from its last checkpoint. You can add files
with further arms later.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "study", "compare algorithms over several seeds, from the same cold starts", _EXAMPLES)
    parser.add_argument("files", nargs="+", metavar="FILE", help="TOML files, or names of shipped ones")
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help="folder for everything (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="jobs at the same time (default: a job per core)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each job (default: %(default)s)")
    parser.add_argument("--only-report", action="store_true", help="run nothing; write tables and charts of what is done")
    parser.add_argument("--background", action="store_true", help="start a process that outlives the terminal, and return")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what is left of the study, then report."""
    for name in ("jobs", "threads"):
        if getattr(args, name) < 1:
            raise ConfigError(f"arpo study: --{name} = {getattr(args, name)} must be at least 1")
    from arpo.lab.study.config import load_study
    from arpo.lab.study.jobs import Commands
    from arpo.lab.study.report import report_study
    from arpo.lab.study.run import hold_study, run_study

    paths = [find_study(name) for name in args.files]
    study = load_study(paths)
    if args.background and args.only_report:
        raise ConfigError("arpo study: --background has no effect with --only-report; leave one of them out")
    if args.background:
        with hold_study(study, args.out, Commands(), args.threads):
            pass  # what would fail at once fails here, not in the log
        return _start_in_background(args, paths)

    failures: Sequence[str] = ()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a study in the background is stopped by `kill`, jobs and all
    if not args.only_report:
        try:
            failures = run_study(study, args.out, at_once=args.jobs, num_threads=args.threads, progress=progress())
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on with the study") from None
    written = report_study(study, args.out)
    result_console().print("\n".join(map(str, written)), markup=False, soft_wrap=True)
    if failures:
        raise RunError("\n".join(["parts of the study failed; mend the cause and run the same command again:", *failures]))
    return 0


def _start_in_background(args: argparse.Namespace, paths: Sequence[Path]) -> int:
    log = args.out / "study.log"
    options = ["--out", args.out, "--jobs", args.jobs, "--threads", args.threads]
    command = [sys.executable, "-m", "arpo.cli.main", "study", *map(str, (*paths, *options))]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    result_console().print(
        f"process {process.pid} works on {args.out}; its progress goes to {log}\n"
        f"`kill {process.pid}` stops it, the same command goes on with it",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    return 0
