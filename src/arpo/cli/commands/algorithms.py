"""`arpo algorithms`: the parts of every preset."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, make_table, result_console

if TYPE_CHECKING:
    from arpo.training.presets import AlgorithmConfig, Preset

_EXAMPLES = """\
  arpo algorithms                                              one row per preset
  arpo algorithms --json                                       every key each preset leads to
  arpo train quickstart --algorithm=dapo                       train by one
  arpo train quickstart --algorithm=arpo --rollout.rule.tau=0.6   ... and change a part
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "algorithms", "list the algorithms and what each is made of", _EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print every resolved key as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the presets."""
    from arpo.training.presets import preset_names, read_preset

    presets = [read_preset(name) for name in preset_names()]
    console = result_console()
    if args.json:
        rows = [{"name": p.name, "paper": p.paper, "about": p.about} | p.resolve().model_dump(mode="json") for p in presets]
        console.out(json.dumps(rows, indent=2))
        return 0
    table = make_table("algorithm", "branching", "advantage", "loss", "besides", "paper")
    for preset in presets:
        table.add_row(*describe(preset))
    console.print(table)
    return 0


def describe(preset: "Preset") -> tuple[str, ...]:
    """A row of the table: name, branching, advantage, loss, further terms, paper or "our own"."""
    algorithm = preset.resolve()
    parts = (_branching(algorithm), _advantage(algorithm), _loss(algorithm), _besides(algorithm))
    return (preset.name, *parts, (preset.paper or "our own").removeprefix("arXiv:"))


def _branching(algorithm: "AlgorithmConfig") -> str:
    rollout = algorithm.rollout
    if rollout.rule.type == "none":
        return f"none, M={rollout.group_size}"
    planned = "per task" if rollout.rule.type == "mixed_outcomes" else "probe"
    initial = planned if rollout.num_initial_trajectories is None else str(rollout.num_initial_trajectories)
    return f"{rollout.rule.type}, M={rollout.group_size}, N={initial}"


def _advantage(algorithm: "AlgorithmConfig") -> str:
    advantage = algorithm.advantage
    parts = [advantage.type] * (advantage.type != "outcome") + [f"{advantage.baseline} / {advantage.scale}"]
    if algorithm.rollout.rule.type != "none":
        parts += [advantage.attribution, advantage.leaf_weighting]
    parts += [f"entropy_scale {advantage.entropy_scale:g}"] * (advantage.entropy_scale > 0)
    return ", ".join(parts)


def _loss(algorithm: "AlgorithmConfig") -> str:
    loss = algorithm.loss.model_dump()
    bounds = [f"{loss[key]:g}" if loss[key] is not None else "-" for key in ("clip_low", "clip_high") if key in loss]
    parts = [" ".join([loss["type"], "/".join(bounds)]).rstrip()]
    parts += [f"{side} {loss[f'{side}_mode']}" for side in ("low", "high") if loss.get(f"{side}_mode", "hard") != "hard"]
    parts += [f"dual {loss['dual_clip']:g}"] if loss.get("dual_clip") else []
    return ", ".join([*parts, loss["aggregation"]])


def _besides(algorithm: "AlgorithmConfig") -> str:
    kl, sampling, overlong = algorithm.loss.kl, algorithm.dynamic_sampling, algorithm.overlong
    parts = [f"KL {kl.coefficient:g} ({kl.estimator})"] * (kl.coefficient > 0)
    parts += [f"entropy bonus {algorithm.loss.entropy_coefficient:g}"] * (algorithm.loss.entropy_coefficient > 0)
    parts += [f"dynamic sampling, {sampling.max_rounds} rounds"] * (sampling.max_rounds > 0)
    parts += [f"overlong penalty {overlong.penalty:g}"] * (overlong.penalty > 0)
    return ", ".join(parts)
