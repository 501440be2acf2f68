"""Name, unit and meaning of every metric that a run logs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(slots=True, frozen=True)
class Metric:
    """Unit and meaning of a logged number."""

    unit: str
    """`1` for a share or a ratio, else the counted thing or the physical unit."""
    meaning: str
    """One sentence, with the formula's choice where libraries differ."""


METRICS: dict[str, Metric] = {
    "rollout/reward_mean": Metric("reward", "Mean reward over the step's leaves, each leaf counted once."),
    "rollout/reward_std": Metric("reward", "Standard deviation (n-1) of the reward over the step's leaves."),
    "rollout/reward_min": Metric("reward", "Least reward of the step's leaves."),
    "rollout/reward_max": Metric("reward", "Largest reward of the step's leaves."),
    "rollout/reward_zero_std_rate": Metric(
        "1", "Share of the step's groups whose rewards are all equal (TRL: frac_reward_zero_std)."
    ),
    "rollout/accuracy": Metric(
        "1",
        "Share of the graded leaves whose answer is right: by the judge, else the grader, else exact match; absent where nobody"
        " grades.",
    ),
    "rollout/exact_match": Metric(
        "1", "Share of the leaves whose boxed answer equals a reference, whoever grades; absent with nothing to compare."
    ),
    "rollout/f1": Metric("1", "Mean token F1 of the leaves against the best reference; absent as the exact match."),
    "rollout/format_valid_rate": Metric("1", "Share of leaves without a format fault on their path."),
    "rollout/entropy_after_tool": Metric(
        "nats",
        "Mean entropy of the first k tokens sampled after a tool result, fewer if the turn ends; k: the branch window. Tokens "
        "count by their share, as for train/entropy.",
    ),
    "rollout/entropy_elsewhere": Metric("nats", "Mean entropy of all other sampled tokens, by their share."),
    "rollout/num_opportunities": Metric("count", "Tool results after which the branch rule was asked."),
    "rollout/num_branches": Metric("count", "Branches made: new children of forks, the originals excluded."),
    "rollout/branch_rate": Metric("1", "Branches per opportunity; absent when there was none."),
    "rollout/initial_entropy": Metric(
        "nats",
        "Mean entropy of the first k tokens of each trajectory sampled from the prompts; k: the branch window. Absent when the "
        "engine measures none.",
    ),
    "rollout/entropy_rise_rate": Metric(
        "1",
        "Share of the tool results with entropy_delta > 0, branched or not, weighed as for train/entropy; absent when none was "
        "measured.",
    ),
    "rollout/mixed_fork_rate": Metric(
        "1", "Share of the forks with right and wrong leaves below; absent without a graded fork."
    ),
    "rollout/num_initial": Metric("count", "Initial trajectories, sampled from the prompts."),
    "rollout/num_topups": Metric(
        "count", "Trajectories sampled from the prompts to fill groups that branching left incomplete."
    ),
    "rollout/dropped_trees": Metric(
        "count",
        "Trees dropped: the engine failed on them twice, the prompt left no room, or the judge gave no verdict on an answer; "
        "the step has the others.",
    ),
    "rollout/rounds": Metric("count", "Rounds of tasks in the step: 1, and those of dynamic sampling."),
    "rollout/groups_replaced": Metric(
        "count",
        "Groups without signal that a further task replaced (dynamic sampling); nothing is learned from them.",
    ),
    "rollout/tasks_filtered": Metric(
        "count", "Tasks filtered so far, as always or never solved, for the rest of the run; absent without the filter."
    ),
    "rollout/branch_budget_mean": Metric(
        "count", "Trajectories of a group meant for branches, M - N, mean; with rules that plan by the tasks' earlier groups."
    ),
    "rollout/branch_budget_min": Metric("count", "The same of the group with the fewest."),
    "rollout/branch_budget_max": Metric("count", "The same of the group with the most."),
    "rollout/known_task_rate": Metric(
        "1", "Share of the step's tasks with groups in earlier steps; 0: every budget is the prior's."
    ),
    "rollout/num_trajectories": Metric("count", "Leaves of the step's trees."),
    "rollout/leaves_per_group": Metric("count", "Mean number of trajectories per task."),
    "rollout/prompt_length_mean": Metric("tokens", "Mean tokens of the prompt, each group once."),
    "rollout/response_length_mean": Metric(
        "tokens",
        "Mean tokens the policy sampled on the path from the prompt to a leaf; tool results do not count (TRL's "
        "completions/mean_length counts the trained tokens too, verl's response_length/mean the results as well).",
    ),
    "rollout/response_length_min": Metric("tokens", "The same of the shortest trajectory."),
    "rollout/response_length_max": Metric("tokens", "The same of the longest trajectory."),
    "rollout/num_turns_mean": Metric("count", "Mean turns of the policy on the path to a leaf: results read, and one more."),
    "rollout/num_turns_max": Metric("count", "The same of the trajectory with the most."),
    "rollout/distinct_answers_per_task": Metric("count", "Different answers among the trajectories of a task, mean."),
    "rollout/distinct_call_sequences_per_task": Metric(
        "count", "Different sequences of tool calls, arguments included, among the trajectories of a task, mean."
    ),
    "rollout/tool_calls_issued": Metric("count", "Tool calls the policy made, answered from the cache or not."),
    "rollout/tool_calls_executed": Metric("count", "Tool calls that ran because the cache held no result."),
    "rollout/tool_calls_per_trajectory": Metric(
        "count", "Mean tool calls on the path from the prompt to a leaf; a shared call counts in every trajectory."
    ),
    "rollout/tool_error_rate": Metric(
        "1", "Share of tool calls issued that ended in an error or a timeout; absent without a call."
    ),
    "rollout/refused_rate": Metric("1", "Share of tool calls issued that a limit refused; absent without a call."),
    "rollout/truncated_rate": Metric(
        "1", "Share of leaves cut by a token or turn limit (TRL: completions/clipped_ratio, verl: response_length/clip_ratio)."
    ),
    "rollout/tokens_sampled": Metric("tokens", "Tokens the policy sampled; shared ones were sampled once and count once."),
    "rollout/tokens_unique": Metric("tokens", "Tokens stored in the trees, prompts and tool results included."),
    "rollout/tokens_trajectory": Metric("tokens", "Tokens over all trajectories: a token shared by d leaves counts d times."),
    "rollout/mixed_group_rate": Metric("1", "Share of groups with right and wrong answers, as dynamic sampling counts them."),
    "rollout/tokens_per_s": Metric("tokens/s", "Tokens sampled per second of rollout, tool time included."),
    "reward/<name>": Metric(
        "as it says",
        "Mean of one component of the reward over the leaves that have it, your own included (TRL: rewards/<name>/mean); "
        "exact_match, f1 and format are `rollout/exact_match`, `rollout/f1` and `rollout/format_valid_rate`.",
    ),
    "fault/<name>": Metric("count", "Leaves with this format fault on their path, each once; absent where none has it."),
    "environment/<name>": Metric("as it says", "Counts of an environment of your own in the step, by their own names."),
    "judge/answers": Metric("count", "Answers the judge was given; equal ones of one step count each."),
    "judge/correct_rate": Metric("1", "Share of the verdicts that say Correct; absent without a verdict."),
    "judge/ungraded": Metric("count", "Answers without a verdict: the judge's server failed, or its reply was no verdict."),
    "judge/cached": Metric("count", "Answers whose verdict was in the cache, or shared with an equal answer under way."),
    "judge/disagreement_rate": Metric(
        "1", "Share of the verdicts that differ from the grader by rules; absent without a verdict."
    ),
    "judge/prompt_tokens": Metric("tokens", "Tokens of the questions to the judge, as its server counts them."),
    "judge/completion_tokens": Metric("tokens", "Tokens of the judge's replies."),
    "judge/cost": Metric("currency", "What these tokens cost by the configured prices; absent without prices."),
    "tool/<name>/calls": Metric("count", "Calls of one tool that the policy made, refused ones included."),
    "tool/<name>/success_rate": Metric("1", "Share of its calls that succeeded, those answered from the cache included."),
    "tool/<name>/error_rate": Metric("1", "Share of its calls that ended in an error."),
    "tool/<name>/timeout_rate": Metric("1", "Share of its calls that were stopped at a time limit."),
    "tool/<name>/cached_rate": Metric("1", "Share of its calls answered by the cache or by an identical call under way."),
    "tool/<name>/truncated_rate": Metric("1", "Share of its results that were cut."),
    "tool/<name>/retries": Metric("count", "Retries after transient failures."),
    "tool/<name>/latency_mean_s": Metric(
        "s", "Mean wall time of its calls that ran, waiting included; absent when all were cached."
    ),
    "tool/<name>/latency_p95_s": Metric("s", "95th percentile of the wall time of its calls that ran, waiting included."),
    "train/loss": Metric("1", "Value of the objective's negative, mean over the step's updates; absent without one."),
    "train/grad_norm": Metric("1", "Global gradient norm before clipping, mean over the step's updates; absent without one."),
    "train/learning_rate": Metric("1", "Learning rate of the step's last update."),
    "train/updates": Metric("count", "Optimizer updates made; a mini-batch without signal makes none."),
    "train/skipped_updates": Metric("count", "Optimizer updates skipped because their gradient was not finite."),
    "train/clip_fraction_low": Metric(
        "1",
        "Share of ratios below a clip bound that holds for them: of tokens, or of trajectories where ratios are theirs; absent "
        "where nothing was trained.",
    ),
    "train/clip_fraction_high": Metric("1", "The same above a clip bound."),
    "train/ratio_max": Metric(
        "1",
        "Largest ratio of a token's probability to that before the step, at least 1; absent with one update a step.",
    ),
    "train/policy_kl": Metric(
        "nats",
        "KL(policy before the step || policy now) per trained token, k3 estimate, mean over the step's updates, each measured "
        "before it; absent with one update a step.",
    ),
    "train/kl": Metric(
        "nats",
        "Divergence from the reference per sampled token, by the estimator of loss.kl: k1 of the policy that sampled (in the "
        "reward), k2 or k3 of the policy in training (in the loss); absent without a KL.",
    ),
    "train/reward_shaping": Metric(
        "reward", "Mean over trajectories of length penalty and KL in the reward, of both levels; absent where both are off."
    ),
    "train/truncated_fraction": Metric(
        "1", "Share of the engine correction's importance weights that reached the cap; absent without a correction."
    ),
    "train/mismatch_kl": Metric(
        "nats",
        "KL(engine || trainer) per trained token before the first update, k3 estimate; 0 when both compute the same, absent "
        "where nothing was trained.",
    ),
    "train/entropy": Metric(
        "nats",
        "Mean entropy of the policy at the step's start, as the engine measured it while sampling, over the sampled tokens of "
        "all the step's trees, those without signal included. A token counts by its share, which every fork divides among its "
        "children: what independent trajectories would show, so that algorithms with and without branches compare.",
    ),
    "train/tokens_unique": Metric(
        "tokens", "Tokens that passed forward and backward: each shared token once per tree part it is in, in every epoch."
    ),
    "train/tokens_total": Metric("tokens", "Tokens that training leaf by leaf would have passed, in every epoch."),
    "train/tokens_per_s": Metric(
        "tokens/s",
        "tokens_unique per second of `time/update_s`, without the tokens that sharing saves (verl: perf/throughput, per GPU, "
        "of the whole step); absent where nothing was trained.",
    ),
    "train/groups_zero_advantage": Metric("count", "Groups whose advantages are all zero, replaced ones not counted."),
    "train/groups": Metric("count", "Groups the step could learn from, with and without signal."),
    "valid/accuracy": Metric(
        "1",
        "Share of validation tasks answered right, as `rollout/accuracy`; one greedy trajectory each. `best` goes by it, or by "
        "the mean reward where it is absent.",
    ),
    "valid/exact_match": Metric("1", "Share of validation tasks whose boxed answer equals a reference, whoever grades."),
    "valid/f1": Metric("1", "Mean token F1 of the validation answers against the best reference."),
    "valid/reward_mean": Metric("reward", "Mean reward of the validation trajectories."),
    "valid/format_valid_rate": Metric("1", "Share of validation trajectories without a format fault."),
    "valid/source/<name>/<score>": Metric(
        "as it says",
        "accuracy, exact_match, f1, reward_mean, format_valid_rate and num_tasks of the tasks of one source (verl: "
        "val-core/<source>/acc/mean@1), where there are several; in the name, _ stands for other than letters, digits, _ - .",
    ),
    "valid/reward/<name>": Metric("as it says", "As `reward/<name>`, of the validation trajectories: every grader's score."),
    "valid/response_length_mean": Metric("tokens", "As `rollout/response_length_mean`, of the validation trajectories."),
    "valid/truncated_rate": Metric("1", "As `rollout/truncated_rate`, of the validation trajectories."),
    "valid/tool_calls_per_task": Metric("count", "Mean tool calls issued per validation task."),
    "valid/num_tasks": Metric("count", "Validation tasks asked."),
    "valid/loss": Metric(
        "nats", "Mean negative log-likelihood per trained token of the held-out conversations, in SFT; its `best` goes by it."
    ),
    "valid/token_accuracy": Metric("1", "As `sft/token_accuracy`, of the held-out conversations."),
    "sft/loss": Metric("nats", "Mean negative log-likelihood over the trained tokens of the update, before it."),
    "sft/token_accuracy": Metric(
        "1", "Share of the trained tokens that are the likeliest by argmax, before the update (TRL: mean_token_accuracy)."
    ),
    "sft/learning_rate": Metric("1", "Learning rate of the step."),
    "sft/grad_norm": Metric("1", "Global gradient norm before clipping; absent where the update was skipped."),
    "sft/skipped_updates": Metric("count", "1 where the update was skipped because its gradient was not finite."),
    "sft/tokens": Metric("tokens", "Tokens trained in the update, without prompts and tool results."),
    "sft/tokens_per_s": Metric("tokens/s", "Tokens of the update per second, untrained ones included."),
    "sft/epoch": Metric("epochs", "Passes over the conversations so far, fractions included."),
    "memory/process_peak_mb": Metric("MiB", "Largest resident size of the process so far."),
    "memory/device_peak_mb": Metric(
        "MiB", "Most memory that torch held on the GPU in the step (verl: perf/max_memory_allocated_gb); absent on a CPU."
    ),
    "time/step_s": Metric("s", "Wall time of the whole step."),
    "time/rollout_s": Metric("s", "Rollouts: sampling, tools and scoring, which overlap."),
    "time/update_s": Metric("s", "Advantages, packing, forward and backward passes, optimizer."),
    "time/validate_s": Metric("s", "Validation; present on the steps that validated."),
}


_NAMED = (
    (re.compile(r"^(tool|environment|reward|fault|valid/reward)/[^/]+"), r"\1/<name>"),
    (re.compile(r"^valid/source/[^/]+/[^/]+$"), "valid/source/<name>/<score>"),
)
"""Families of metrics, and how the table writes them."""


def check_names(names: Iterable[str]) -> None:
    """Raise on a name that is not in the table.

    Raises:
        ValueError: the message has the unknown name and the nearest known one.
    """
    for name in names:
        if name not in METRICS and not any(pattern.sub(family, name) in METRICS for pattern, family in _NAMED):
            nearest = get_close_matches(name, METRICS, n=1, cutoff=0.3)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise ValueError(f"metric {name!r} is not in arpo.tracking.METRICS; {hint}Add it there with its unit and meaning")


def metrics_markdown() -> str:
    """The Markdown page `docs/metrics.md`, one section per group."""
    groups: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        rows = groups.setdefault(name.split("/")[0], [])
        rows.append(f"| `{name}` | {metric.unit} | {metric.meaning} |")
    sections = [f"## {group}\n\n| Name | Unit | Meaning |\n|---|---|---|\n" + "\n".join(rows) for group, rows in groups.items()]
    return "\n\n".join([_INTRODUCTION, *sections]) + "\n"


_INTRODUCTION = """# Metrics

A run writes one JSON object a line to `metrics.jsonl`: `step` and the metrics below. A value that is not a finite number is
`null`; a metric that a step did not measure is absent. The same names go to TensorBoard, W&B and trackio when
`tracking.sinks` chooses them: each group below is a section there, and the x axis is the step (in W&B
`train/global_step`, as the Hugging Face Trainer and TRL have it). Unit `1` marks shares and ratios. This page is generated from
`arpo.tracking.METRICS`.

Three steps in a row in which every advantage was 0, as no group has rewards that differ, are told while the run goes on, and at
its end: format faults by count, what was cut, the rewards, failed tool calls, one trajectory in full and what to try.
`summary.json` has the same as `no_signal` (null where the run learned), and the report begins with it."""
