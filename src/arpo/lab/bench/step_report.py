"""What `arpo bench step` shows."""

from arpo.lab.bench.report import Report

_COLUMNS = {
    "model": "model",
    "dtype": "format",
    "trajectories": "trajectories",
    "shape": "tokens",
    "rollout_seconds": "rollout, s",
    "training_seconds": "training, s",
    "step_seconds": "step, s",
    "rollout_limit_seconds": "rollout's limit, s",
    "training_limit_seconds": "training's limit, s",
    "ratio_to_limits": "step / limits",
    "speedup_vs_float32": "float32 / step",
}
_EXPLANATION = """\
A step of RL without branches: rollout as in `arpo bench rollout`, then credit, packed trees, gradients and one update of all
parameters, as `arpo train` takes them; in 16 bits with float32 masters. *Rollout's limit*: forward passes and draws in static
batches. *Training's limit*: the stock model's forward and backward passes over as many tokens, without loss and optimizer.
*Float32 / step*: how many times longer a float32 step of the same run takes."""

STEP_REPORT = Report(
    command="arpo bench step", title="Speed of a whole step", explanation=_EXPLANATION, columns={"steps": _COLUMNS}
)
