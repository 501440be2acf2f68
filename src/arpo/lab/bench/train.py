"""`arpo bench train`: tree training beside flat and padded batches, the bare model's limit and TRL, all in one run."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from arpo.algorithms.aggregation import total_denominator
from arpo.batching.config import Packing
from arpo.batching.rows import LeafRow, leaf_rows
from arpo.errors import ConfigError, DataError
from arpo.lab.bench.machine import machine
from arpo.lab.bench.training_data import (
    AGENT_FORKS,
    TreeCounts,
    agent_trees,
    count_trees,
    draw_rewards,
    quickstart_like_trees,
    synthetic_tree,
)
from arpo.lab.bench.training_memory import MemoryRequest, peak_memory_mb
from arpo.lab.bench.training_models import load_or_make, read_config, training_flops, write_model
from arpo.lab.bench.training_peer import TrlTraining
from arpo.lab.bench.training_steps import RUN, Contender, InProcess, LossContender, limit, packed, padded
from arpo.models.logprobs import hidden_to_logprobs
from arpo.models.policy import PolicyModel
from arpo.models.rms_norm import fuse_norms
from arpo.tracking.progress import Progress
from arpo.training.credit import assign_credit
from arpo.tree import RolloutTree
from arpo.tree.serialize import read_trees, write_trees

_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float64": 1e-10}
"""Number format of the model -> largest difference of contenders' losses and gradients."""
PACKINGS: tuple[Packing, ...] = ("tree", "flat")
CONTENDERS = (*PACKINGS, "padded", "limit", "trl")
_RATIO_NOISE = 0.05
"""Standard deviation of ln(p / p_old), so that ratios are not 1 and some are clipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCase:
    """The case of one row of the results."""

    model: str
    trees: str
    """`quickstart`: of a real run; `quickstart_shape`: made up in its shape; `synthetic`: 16 leaves; `agent`: a group of 16
    with a real model's lengths."""
    leaf_length: int = 0
    """Tokens of a synthetic tree's leaves."""
    sharing: float = 0.0
    """Total over unique tokens of a synthetic tree or an agent's group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBenchOptions:
    """What to measure and how."""

    cases: Sequence[TrainingCase]
    trees: Path | None = None
    """File of a quickstart run's rollouts, for the cases `quickstart`."""
    trl_python: Path | None = None
    """Interpreter of the environment TRL is installed in; None leaves TRL out."""
    repeats: int = 5
    """Runs of each contender, in turn; the fastest counts."""
    contenders: Sequence[str] = ("tree", "flat", "padded", "limit")
    """Those to measure, beside TRL; the tree is compared with the padded batch or, without it, with flat packing."""
    batch_tokens: int | None = None
    """Tokens per pass of all contenders; None: what suits each."""
    groups: int = 1
    """Groups of the cases `agent`."""
    memory: bool = True
    """Whether to measure the peak memory of both packings."""
    device: str = "cpu"
    """As torch names it."""
    dtype: str = "float32"
    """Number format of the weights."""
    peak_tflops: float | None = None
    """Peak of the device, for the model-FLOPs utilisation; None leaves that out."""


def make_training_cases(
    models: Sequence[str], kinds: Sequence[str], lengths: Sequence[int], sharings: Sequence[float], *, has_trees: bool
) -> list[TrainingCase]:
    """The cases `quickstart` and every combination of length and sharing, for every model.

    Raises:
        ConfigError: a length or a sharing no synthetic tree has.
    """
    for length in lengths:
        if length < 64:
            raise ConfigError(f"--leaf-length {length}: must be at least 64 tokens")
    for sharing in sharings if "agent" in kinds else ():
        if sharing not in AGENT_FORKS:
            raise ConfigError(f"--sharing {sharing:g}: the agent's groups of --case agent share 1.5 or 2")
    for sharing in sharings:
        if not 1 <= sharing <= 4:
            raise ConfigError(
                f"--sharing {sharing:g}: must be from 1 to 4; 16 leaves of one length share no more in four forks"
            )
    cases: list[TrainingCase] = []
    for model in models:
        if "quickstart" in kinds:
            cases.append(TrainingCase(model=model, trees="quickstart" if has_trees else "quickstart_shape"))
        if "synthetic" in kinds:
            cases += [
                TrainingCase(model=model, trees="synthetic", leaf_length=length, sharing=sharing)
                for length in lengths
                for sharing in sharings
            ]
        if "agent" in kinds:
            cases += [TrainingCase(model=model, trees="agent", sharing=sharing) for sharing in sharings]
    return cases


def run(options: TrainingBenchOptions, progress: Progress) -> Iterator[dict[str, Any]]:
    """Measure case by case; after each yield the content of the JSON file so far."""
    where = {**machine(), "device": _device_name(options.device), "dtype": options.dtype}
    rows: list[dict[str, Any]] = []
    with progress.phase("bench", total=len(options.cases), unit="case") as phase:
        for case in options.cases:
            rows.append({"model": case.model, "trees": case.trees, **compare(case, options)})
            phase.advance(fraction_of_ideal=rows[-1]["fraction_of_ideal"])
            yield {"machine": where, "cases": rows}


def compare(case: TrainingCase, options: TrainingBenchOptions) -> dict[str, Any]:
    """Seconds of every contender on a case, and ratios."""
    trees = make_trees(case, options)
    num_ids = 1 + max(token for tree in trees for node in tree.nodes for token in node.token_ids)
    config = read_config(case.model, num_ids)
    stock, ours = (load_or_make(case.model, num_ids, options.dtype, options.device) for _ in range(2))
    draw_rewards(trees)
    draw_old_logprobs(stock, trees)
    counts = count_trees(trees)
    credits = assign_credit(trees, RUN.advantage, RUN.loss)
    policy = PolicyModel(ours)
    packings = {name: packed(policy, trees, credits, name, counts) for name in PACKINGS if name in options.contenders}
    rows = [row for tree, credit in zip(trees, credits, strict=True) for row in leaf_rows(tree, credit)]
    denominator = total_denominator(credit.denominator for credit in credits)
    contenders: dict[str, Contender] = dict(packings)
    if "padded" in options.contenders:
        contenders["padded"] = padded(stock, rows, denominator)
    if "limit" in options.contenders:
        contenders["limit"] = limit(stock, counts)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.trl_python:
            where = write_model(stock, folder / "model")
            contenders["trl"] = TrlTraining(options.trl_python, where, rows, options.dtype, options.device)
            stack.callback(contenders["trl"].close)
        if options.batch_tokens:
            for contender in contenders.values():
                contender.budgets = [options.batch_tokens]
        agreement = _agreement(packings, contenders, stock, rows, denominator, _TOLERANCE[options.dtype])
        timed = fastest(contenders, options.repeats)
        memory: dict[str, Any] = dict.fromkeys(f"peak_memory_mb_{name}" for name in PACKINGS)
        if options.memory:
            budget = max(timed[name].budget for name in packings)
            memory = _memory(case, options, num_ids, trees, budget, folder)
    tflop = training_flops(config, counts) / 1e12
    utilisation: dict[str, float | None] = dict.fromkeys(("mfu_tree", "mfu_limit"))
    if options.peak_tflops:
        utilisation |= {f"mfu_{n}": tflop / timed[n].seconds / options.peak_tflops for n in ("tree", "limit") if n in timed}
    return {
        **case_row(counts, {name: best.seconds for name, best in timed.items()}),
        **memory,
        **{f"batch_tokens_{name}": best.budget for name, best in timed.items()},
        "num_leaves": counts.num_leaves,
        "sampled_tokens": counts.sampled_tokens,
        "model_tflop": tflop,
        **utilisation,
        **agreement,
        "trl_version": getattr(contenders.get("trl"), "version", None),
    }


def _agreement(
    packings: Mapping[str, InProcess],
    contenders: Mapping[str, Contender],
    stock: PreTrainedModel,
    rows: Sequence[LeafRow],
    denominator: float,
    tolerance: float,
) -> dict[str, float]:
    """Differences from the padded batch or, where that is not measured, of the tree from flat packing."""
    if "padded" not in contenders:
        return _tree_against_flat(packings, stock, tolerance) if len(packings) == len(PACKINGS) else {}
    # stock norms compute in float32 whatever the model's format; with ours, nothing but the packing differs
    fused = padded(fuse_norms(deepcopy(stock)), rows, denominator)
    agreement = check_agreement(packings, fused, tolerance)
    if "trl" in contenders:
        reference = cast(InProcess, contenders["padded"])
        agreement |= check_agreement({"trl": cast(LossContender, contenders["trl"])}, reference, tolerance)
    return agreement


def _tree_against_flat(packings: Mapping[str, InProcess], stock: PreTrainedModel, tolerance: float) -> dict[str, float]:
    """The packings share a model, so `stock` holds flat packing's gradient meanwhile; both steps count as warm-ups."""
    tree, flat = packings["tree"], packings["flat"]
    flat.measure(flat.budgets[-1])
    for holder, parameter in zip(stock.parameters(), flat.model.parameters(), strict=True):
        holder.grad, parameter.grad = parameter.grad, None
    tree.measure(tree.budgets[-1])
    differences = {
        "loss_difference_tree": _difference(tree.loss, flat.loss),
        "gradient_difference_tree": tree.gradient_difference(stock),
    }
    stock.zero_grad(set_to_none=True)
    return _require_agreement(differences, tolerance)


def case_row(counts: TreeCounts, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Sizes, times and ratios; None for a contender that is absent, or whose smallest batch exceeds the device's memory.

    Args:
        counts: The sizes.
        seconds: By contender: `tree`, `flat`, `padded`, `limit` and perhaps `trl`.

    Example: sharing 2 with 1.0 s for the tree and 1.8 s for flat packing is a speed-up of 1.8, a fraction 0.9 of the ideal.
    """

    def ratio(one: str, other: str) -> float | None:
        return known[one] / known[other] if known[one] and known[other] else None  # pyright: ignore[reportOperatorIssue]

    known = {name: seconds[name] if isfinite(seconds.get(name, inf)) else None for name in CONTENDERS}
    speedup = ratio("flat", "tree")
    return {
        "leaf_length": counts.leaf_length,
        "sharing": counts.sharing,
        "unique_tokens": counts.unique_tokens,
        "total_tokens": counts.total_tokens,
        **{f"seconds_{name}": value for name, value in known.items()},
        "speedup_vs_flat": speedup,
        "speedup_vs_padded": ratio("padded", "tree"),
        "speedup_vs_trl": ratio("trl", "tree"),
        "fraction_of_ideal": speedup and speedup / counts.sharing,
        "ratio_to_limit": ratio("tree", "limit"),
    }


def make_trees(case: TrainingCase, options: TrainingBenchOptions) -> list[RolloutTree]:
    """The trees of a case.

    Raises:
        DataError: the file holds no tree, or a leaf without a sampled token.
    """
    num_ids = read_config(case.model).get_text_config().vocab_size
    if case.trees == "synthetic":
        return [synthetic_tree(case.leaf_length, case.sharing, num_ids)]
    if case.trees == "agent":
        return agent_trees(case.sharing, num_ids, options.groups)
    if options.trees is None:
        return quickstart_like_trees(num_ids)
    trees = list(read_trees(options.trees))
    if not trees or not all(t.num_sampled_tokens for tree in trees for t in tree.trajectories()):
        raise DataError(
            f"{options.trees}: holds no trees, or trajectories without a sampled token; give another step's rollouts"
        )
    return trees


def draw_old_logprobs(model: PreTrainedModel, trees: Sequence[RolloutTree], seed: int = 0) -> None:
    """Give each sampled node the model's log-probs plus a little noise, as those before the step; leaf by leaf.

    The log-probs in the file come from another policy and would clip every ratio.
    """
    rng = np.random.default_rng(seed)
    for trajectory in (t for tree in trees for t in tree.trajectories()):
        logprobs, end = _row_logprobs(model, trajectory.token_ids), 0
        for node in trajectory.nodes:
            start, end = end, end + len(node.token_ids)
            if node.is_sampled:
                noise = rng.normal(scale=_RATIO_NOISE, size=len(node.token_ids))
                node.logprobs = (np.array(logprobs[start - 1 : end - 1]) + noise).tolist()


@torch.no_grad()
def _row_logprobs(model: PreTrainedModel, token_ids: Sequence[int]) -> list[float]:
    """Log-probs of every token but the first."""
    ids = torch.tensor([token_ids], device=model.device)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, :-1]
    return hidden_to_logprobs(model, hidden, ids[0, 1:])[0].tolist()


def check_agreement(contenders: Mapping[str, LossContender], reference: InProcess, tolerance: float) -> dict[str, float]:
    """Differences of contenders' losses and gradients from the padded batch's.

    The difference of losses is absolute, as they are sums of advantages of order 1 that nearly cancel. That of gradients is
    relative, see `LossContender.gradient_difference`.

    Raises:
        AssertionError: a contender computes something else, so that a comparison of times would mean nothing.
    """
    reference.measure(reference.budgets[0])
    losses: dict[str, float] = {}
    gradients: dict[str, float] = {}
    for name, contender in contenders.items():
        contender.measure(contender.budgets[0])
        losses[f"loss_difference_{name}"] = _difference(contender.loss, reference.loss)
        gradients[f"gradient_difference_{name}"] = contender.gradient_difference(reference.model)
    return _require_agreement(losses | gradients, tolerance)


def _require_agreement(differences: dict[str, float], tolerance: float) -> dict[str, float]:
    if not max(differences.values()) <= tolerance:
        raise AssertionError(f"contenders disagree by more than {tolerance:g}: {differences}")
    return differences


def _difference(value: float | None, reference: float | None) -> float:
    if value is None or reference is None:  # the smallest batch exceeded the device's memory
        return nan
    return abs(value - reference)


@dataclass(slots=True)
class Timed:
    """A contender's fastest step."""

    budget: int
    seconds: float


def fastest(contenders: Mapping[str, Contender], repeats: int) -> dict[str, Timed]:
    """Each contender at its best budget: the fastest of `repeats` steps, contenders in turn."""
    best: dict[str, Timed] = {}
    for name, contender in contenders.items():
        if not contender.is_warm:
            contender.measure(contender.budgets[-1])
        several = contender.budgets if len(contender.budgets) > 1 else ()
        seconds, budget = min(((contender.measure(b), b) for b in several), default=(inf, contender.budgets[0]))
        best[name] = Timed(budget, seconds)
    for _ in range(repeats):
        for name, contender in contenders.items():
            best[name].seconds = min(best[name].seconds, contender.measure(best[name].budget))
    return best


def _memory(
    case: TrainingCase,
    options: TrainingBenchOptions,
    num_ids: int,
    trees: Sequence[RolloutTree],
    budget: int,
    folder: Path,
) -> dict[str, float]:
    """Peak memory of both packings at the same number of tokens per pass."""
    if options.device != "cpu":
        torch.cuda.empty_cache()
    write_trees(folder / "trees.jsonl", trees)
    peaks: dict[str, float] = {}
    for packing in PACKINGS:
        request = MemoryRequest(
            trees=str(folder / "trees.jsonl"), model=case.model, num_ids=num_ids, packing=packing, budget=budget,
            dtype=options.dtype, device=options.device, num_threads=torch.get_num_threads(),
        )  # fmt: skip
        peaks[f"peak_memory_mb_{packing}"] = peak_memory_mb(request)
    return {**peaks, "batch_tokens_memory": budget}


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device
