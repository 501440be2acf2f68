"""`arpo bias`: which estimators of the policy gradient are unbiased, by exact enumeration."""

import argparse
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, progress, result_console

_EXAMPLES = """\
  arpo bias --out runs/bias
  arpo bias --out runs/bias --policies 0 --groups 200
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, "bias", "measure the bias of advantages and branch rules against the exact gradient", _EXAMPLES
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for bias.md, bias.png and bias.json")
    parser.add_argument("--policies", type=int, default=3, help="further policies with random logits (default: 3)")
    parser.add_argument("--groups", type=int, default=1000, help="groups sampled per rule, 100 or more (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampled groups (default: 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, write and say where.

    Raises:
        ConfigError: too few groups for intervals, or a negative number of policies.
    """
    from arpo.errors import ConfigError
    from arpo.lab.bias.report import write_study
    from arpo.lab.bias.run import run_bias_study

    if args.groups < 100 or args.policies < 0:
        raise ConfigError(
            f"arpo bias: --groups = {args.groups} must be at least 100 and --policies = {args.policies} at least 0"
        )
    study = run_bias_study(num_policies=args.policies, num_groups=args.groups, seed=args.seed, progress=progress())
    write_study(study, args.out)
    result_console().print(f"tables: {args.out / 'bias.md'}\npicture: {args.out / 'bias.png'}", markup=False, soft_wrap=True)
    return 0
