"""Does full training in bfloat16 follow float32? The same run with several seeds in both, and the curves side by side.

    python benchmarks/precision.py sft quickstart --num_epochs=1
    python benchmarks/precision.py train quickstart --num_steps=12

Every run is one of `arpo sft` or `arpo train` with the configuration of the recipe, or file, and the overrides given.
Finished runs in the folder are not run again.
"""

import argparse
import statistics
from pathlib import Path

from arpo.config import load_config
from arpo.recipes import find_recipe
from arpo.tracking import read_metrics
from arpo.training.config import RlRun, SftRun
from arpo.training.rl import train_rl
from arpo.training.sft import train_sft

DTYPES = ("float32", "bfloat16")
CURVES = {"sft": "sft/loss", "train": "rollout/reward_mean"}


def curve(kind: str, recipe: str, overrides: list[str], out: Path, dtype: str, seed: int) -> list[float]:
    """The metric of each update or step of one run, which is made unless it is there."""
    if not (out / "summary.json").is_file():
        keys = [*overrides, f"model.dtype={dtype}", f"seed={seed}", f"out={out}"]
        if kind == "sft":
            train_sft(load_config(SftRun, find_recipe(recipe, "sft"), keys))
        else:
            train_rl(load_config(RlRun, find_recipe(recipe, "rl"), keys))
    return [row[CURVES[kind]] for row in read_metrics(out)]


def main() -> None:
    """Run, then print one row per tenth of the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=CURVES)
    parser.add_argument("recipe", help="name of a shipped recipe, or a TOML file")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/precision"), help="folder of the runs")
    args, overrides = parser.parse_known_args()
    folder = args.runs / f"{args.kind}_{Path(args.recipe).stem}"
    curves = {
        dtype: [
            curve(args.kind, args.recipe, [o.removeprefix("--") for o in overrides], folder / f"{dtype}_{seed}", dtype, seed)
            for seed in range(args.seeds)
        ]
        for dtype in DTYPES
    }
    length = len(curves["float32"][0])
    width = max(1, length // 10)
    print(
        f"{CURVES[args.kind]}, mean over each {width} of {length}: float32 (least to largest of {args.seeds} seeds), bfloat16,"
    )
    print("the mean difference of runs of one seed, and whether bfloat16's mean lies within float32's seeds")
    num_within = 0
    starts = range(0, length - width + 1, width)
    for start in starts:
        exact, rounded = ([statistics.fmean(c[start : start + width]) for c in curves[dtype]] for dtype in DTYPES)
        difference = statistics.fmean(b - a for a, b in zip(exact, rounded, strict=True))
        is_within = min(exact) <= statistics.fmean(rounded) <= max(exact)
        num_within += is_within
        print(
            f"{start + 1:>5}  {statistics.fmean(exact):.4f} ({min(exact):.4f} to {max(exact):.4f})  "
            f"{statistics.fmean(rounded):.4f} ({min(rounded):.4f} to {max(rounded):.4f})  {difference:+.4f}  {is_within}"
        )
    print(f"within: {num_within} of {len(starts)}")


if __name__ == "__main__":
    main()
