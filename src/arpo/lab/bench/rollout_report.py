"""What `arpo bench rollout` shows."""

from arpo.lab.bench.report import Report

_COLUMNS = {
    "model": "model",
    "trajectories": "trajectories",
    "width": "slots",
    "shape": "tokens",
    "tool_latency": "tool latency",
    "ours_seconds": "ours, s",
    "limit_seconds": "limit, s",
    "bound_seconds": "bound, s",
    "naive_seconds": "naive, s",
    "trl_seconds": "TRL, s",
    "trl_concurrent_seconds": "TRL concurrent, s",
    "ours_tokens_per_s": "tokens/s",
    "ratio_to_limit": "limit / ours",
    "ratio_to_bound": "bound / ours",
    "speedup_vs_naive": "naive / ours",
    "speedup_vs_trl": "TRL / ours",
    "speedup_vs_trl_concurrent": "TRL concurrent / ours",
}
_CURVE_COLUMNS = {
    "model": "model",
    "trajectories": "trajectories",
    "width": "slots",
    "ours_seconds": "ours, s",
    "ours_tokens_per_s": "tokens/s",
}
_DECODING_COLUMNS = {
    "model": "model",
    "trajectories": "batch",
    "ours_tokens_per_s": "ours, tokens/s",
    "limit_tokens_per_s": "limit, tokens/s",
    "ratio_to_limit": "ours / limit",
}
_EXPLANATION = """\
Every contender does the same work. *Tokens*: a prompt shared by 16 trajectories, turns of sampled tokens, results after each
turn but the last (by default 32 + 3 x 32 + 2 x 96: in the quickstart, too, results are three times as long as turns); the
named policies have random weights. *Limit*: the same model and token counts in static batches of the best width up to the
slots, nothing but forward passes and draws. *Bound*: the limit or the longest single trajectory, whichever is longer.
*Naive*: `generate` per turn and batch, everything computed again, tools run concurrently, all wait for the slowest. *TRL*:
its GRPO tool loop in its own environment at its best batch size up to the slots, with its serial tools and with tools that
run concurrently. The long- tailed latency is lognormal with a median of 50 ms, a 99th percentile of 2 s and a time limit of 3
s. Ratios above 1 in the last three columns say how many times longer the other took. *Batch*: one turn of so many
trajectories at once, from half a trajectory's tokens on, so that the ratio at every size a falling batch passes through is
seen."""

ROLLOUT_REPORT = Report(
    command="arpo bench rollout",
    title="Rollout speed",
    explanation=_EXPLANATION,
    columns={"cases": _COLUMNS, "curve": _CURVE_COLUMNS, "decoding": _DECODING_COLUMNS},
)
