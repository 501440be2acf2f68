"""What `arpo bench train` shows."""

from arpo.lab.bench.report import Report

_COLUMNS = {
    "model": "model",
    "trees": "trees",
    "num_leaves": "leaves",
    "leaf_length": "tokens per leaf",
    "sharing": "total / unique",
    "unique_tokens": "unique tokens",
    "total_tokens": "total tokens",
    "seconds_tree": "tree, s",
    "seconds_flat": "flat, s",
    "seconds_padded": "padded, s",
    "seconds_limit": "limit, s",
    "seconds_trl": "TRL, s",
    "speedup_vs_flat": "flat / tree",
    "fraction_of_ideal": "of the ideal",
    "ratio_to_limit": "tree / limit",
    "speedup_vs_padded": "padded / tree",
    "speedup_vs_trl": "TRL / tree",
    "peak_memory_mb_tree": "tree, MB",
    "peak_memory_mb_flat": "flat, MB",
    "mfu_tree": "tree, MFU",
    "mfu_limit": "limit, MFU",
}
_EXPLANATION = """\
One step's forward and backward passes over the same trajectories, without the optimizer: the same weights, old log-probs,
advantages, temperature and clip bounds, the mean over all tokens. Losses and gradients are compared before anything is
timed. The time includes making batches. Each contender runs at its fastest number of tokens per pass among powers of two;
contenders take turns, and the fastest step of each counts. Rewards are drawn, half of each group 1, so that every group
trains.

*Tree*: ours, every shared token once. *Flat*: ours, every trajectory apart, packed without padding. *Padded*: rows
padded on the right through the stock model, logits of every position and a plain PPO loss, as in most trainers. *TRL*:
`GRPOTrainer`'s `training_step` in its own environment; each of its batches is padded to its longest row.
*Limit*: the stock model's forward and backward over as many tokens as there are unique ones, as causal rows of the mean
leaf length without padding, its head on as many positions as there are unique sampled tokens; no loss machinery at all: a
fixed gradient enters at the logits. *Of the ideal*: the speed-up over flat packing divided by total / unique tokens.
Memory is the peak of a process that makes the model and takes one step, tree and flat with the same tokens per pass, the
larger of the two: resident memory with everything imported on a CPU, what torch allocated on a GPU.

`quickstart` trees are those of a step of a real run (8 tasks, 128 trajectories); `quickstart_shape` are made up in their
shape; `synthetic` is one tree of 16 leaves that fork in two at four levels."""

TRAINING_REPORT = Report(
    command="arpo bench train", title="Training speed", explanation=_EXPLANATION, columns={"cases": _COLUMNS}
)
