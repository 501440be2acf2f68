"""Which keys change a decision: what is said of every rule and key is compared with decisions on many random trees."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from random import Random
from typing import Any

import pytest

from arpo.config import parse_config
from arpo.errors import ConfigError
from arpo.rollout.branch_history import BranchHistory
from arpo.rollout.config import RolloutConfig
from arpo.rollout.entropy import entropy_delta, normalizer_value
from arpo.rollout.inert_keys import InertKey
from arpo.rollout.rules import BRANCH_RULES, CompletionView, ForkRequest, NodeView, Opportunity, PastGroups, Probe, build_rule
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Message, Task

VOCAB = 8
TURNS = 4
TASK = Task(id="t", messages=(Message(role="user", content="q"),), references=("a",), source="test")


@cache
def entropies(*name: object) -> tuple[float, ...]:
    """Entropies of the first tokens of a completion, the same for the same name; of six tokens or fewer, half certain."""
    random = Random(repr(name))
    scale = random.choice([0.0, 1.0])
    return tuple(scale * random.choice([0.0, 1.0, 1.0]) * random.uniform(0, 8) for _ in range(random.randint(1, 6)))


def logprobs(*name: object) -> tuple[float, ...]:
    """Log-probs of the same tokens; of one without doubt 0."""
    random = Random(f"log-probs of {name!r}")
    return tuple(-2 * h * random.random() for h in entropies(*name))


def decisions(config: RolloutConfig, seed: int) -> list[object]:
    """What a rule decides on one random tree, as a group asks it: N, the forks granted, by turn and after all have ended."""
    rule = build_rule(config.rule)
    path_windows = lambda path, turn: entropies(seed, path, turn)[: config.entropy_window]  # noqa: E731
    normalizer = normalizer_value(config.entropy_normalizer, VOCAB)
    past = PastGroups(num_groups=seed % 5, num_mixed=min(seed % 5, seed // 5 % 5))
    num_initial = rule.plan(config.group_size, config.num_initial_trajectories, None, past)
    if num_initial is None:
        probe = Probe(windows=tuple(path_windows((0,), t) for t in range(TURNS)), normalizer=normalizer)
        num_initial = rule.plan(config.group_size, None, probe, past)
    assert num_initial is not None
    taken: list[object] = [num_initial]
    tree, history = RolloutTree.from_prompt(TASK, [0]), BranchHistory()
    ends: dict[tuple[int, ...], Node] = {(i,): tree.root for i in range(num_initial)}
    missing = config.group_size - num_initial

    def grant(requests: list[ForkRequest]) -> Iterator[ForkRequest]:
        nonlocal missing
        for request in sorted(requests, key=lambda r: -r.priority):
            count = min(request.count, missing)
            missing -= count
            if count:
                taken.append((request.node, request.offset, count))
                yield ForkRequest(node=request.node, count=count, priority=0.0)

    for turn in range(1, TURNS + 1):
        seen: list[Opportunity] = []
        at: dict[int, tuple[int, ...]] = {}
        for path in sorted(ends):
            completion = tree.append(ends[path], NodeKind.COMPLETION, [1])
            ends[path] = node = tree.append(completion, NodeKind.OBSERVATION, [2])
            at[node.id] = path
            window, initial = path_windows(path, turn), path_windows(path[:1], 0)
            delta = entropy_delta(
                window, initial, window=config.entropy_window, normalizer=config.entropy_normalizer, vocab_size=VOCAB
            )
            seen.append(
                Opportunity(
                    node=node.id, turn=turn, entropies=window, call_entropies=path_windows(path, turn - 1),
                    initial_entropies=initial, entropy_delta=delta, normalizer=normalizer,
                    entropies_by_turn=(), consecutive_branches=history.consecutive_branches(tree, node),
                    consecutive_rounds=history.consecutive_rounds(turn),
                )
            )  # fmt: skip
        history.entropies.append(tuple(o.entropy for o in seen))
        seen = [replace(o, entropies_by_turn=tuple(history.entropies)) for o in seen]
        if missing:
            for granted in list(grant(rule.decide(seen, Random(f"{seed} {turn}")))):
                history.record_fork(tree.nodes[granted.node])
                for index in range(granted.count):
                    ends[(*at[granted.node], turn, index)] = tree.nodes[granted.node]
    if rule.forks_inside:
        views = [
            CompletionView(node=i, path=path, entropies=entropies(seed, path), logprobs=logprobs(seed, path))
            for i, path in enumerate(sorted(ends))
        ]
        list(grant(rule.decide_inside(views, missing, Random(f"{seed} inside"))))
    if rule.forks_at_nodes:
        steps = [NodeView(tree=path[0], turn=turn) for path in sorted(ends) for turn in range(TURNS)]
        taken += rule.choose_nodes(steps, missing, Random(f"{seed} nodes"))[:missing]
    return taken


BUDGETS: list[dict[str, Any]] = [
    {"group_size": 8, "num_initial_trajectories": 3},
    {"group_size": 3, "num_initial_trajectories": 2},
    {"group_size": 5, "num_initial_trajectories": 3},
]
PROBES: list[dict[str, Any]] = [*BUDGETS, {"group_size": 8}, {"group_size": 2}]
LEVELS = [(0.5, 0.5), (0.0, 0.0), (0.55, 0.5), (0.5, 0.52), (0.65, 0.67)]
RULES: dict[str, tuple[list[dict[str, Any]], dict[str, tuple[Any, ...]]]] = {
    "none": ([{"group_size": 8}], {}),
    "arpo": (BUDGETS, {"alpha, tau": (*LEVELS,), "beta": (0.2, 1.0, 0.1, 0.0, -0.2, -1.0), "branch_factor": (1, 2, 5)}),
    "aepo": (
        PROBES,
        {
            "alpha, tau": (*LEVELS,), "gamma": (0.2, 1.0, 0.1, 0.0, -0.2), "branch_factor": (1, 2, 5),
            "penalty_slope": (0.05, 0.3, 0.0), "probe_slope": (0.5, 4.0, -2.0),
        },
    ),
    "arpo_released": (
        BUDGETS,
        {
            "branch_probability": (0.5, 0.2, 0.0), "entropy_weight": (0.2, 1.0, 0.0, -0.5), "branch_factor": (1, 2),
            "lag": (True, False), "sum_over_window": (True, False),
        },
    ),
    "aepo_released": (
        PROBES,
        {
            "branch_probability": (0.5, 0.8, 1.0), "entropy_weight": (0.2, 1.0, 0.0, -0.5), "branch_factor": (1, 2),
            "lag": (True, False), "sum_over_window": (True, False), "penalty_slope": (0.05, 0.3, 0.0),
            "probe_slope": (0.5, 4.0, -2.0),
        },
    ),
    "random": (BUDGETS, {"rate": (0.5, 0.1, (0.2, 0.9)), "branch_factor": (1, 2, 5)}),
    "threshold": (
        [{"group_size": 12, "num_initial_trajectories": 6}, {"group_size": 2}],
        {"threshold": ("adaptive", 0.5, 1.5), "num_std": (0.1, 0.4, 1.0), "num_recent": (20, 2), "max_branches": (4, 1, 2)},
    ),
    "token_entropy": (BUDGETS, {"branch_factor": (1, 2, 5)}),
    "random_token": (BUDGETS, {"branch_factor": (1, 2, 5)}),
    "eptree": (BUDGETS, {"tokens_per_tree": (2, 1, 3), "branch_factor": (2, 1, 5)}),
    "random_node": (BUDGETS, {"nodes_per_tree": (2, 1, 3)}),
    "appo": (BUDGETS, {"branches_per_trajectory": (3, 1, 2, 5), "half_life": (32.0, 1.0, 5.0)}),
    "mixed_outcomes": (
        [{"group_size": 12}, {"group_size": 2}],
        {
            "prior": (0.5, 1.0, 0.0), "prior_groups": (2.0, 0.1, 9.0), "max_branch_share": (0.75, 0.3, 1.0),
            "branch_factor": (1, 2, 5),
        },
    ),
}  # fmt: skip
"""Rule -> sizes of the group, and values to try of each key of the rule."""
ROLLOUT: dict[str, tuple[Any, ...]] = {"entropy_normalizer": ("log_vocab", "none", "paper"), "entropy_window": (20, 1)}


def build(sizes: dict[str, Any], rollout: dict[str, Any], rule: dict[str, Any]) -> RolloutConfig | None:
    """The configuration, unless a value is refused for another reason than that it changes no decision."""
    settings = parse_config(RolloutConfig, {"rule": {"type": rule["type"]}, **sizes}, "test")
    try:
        config = settings.rule.model_validate(rule)
    except ValueError:  # the section itself refuses it, as `only_with` says
        return None
    if rule["type"].endswith("released") and rollout["entropy_normalizer"] == "paper":
        return None
    return RolloutConfig.model_construct(**{**dict(settings), **rollout, "rule": config})


def choices(keys: dict[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for values in product(*keys.values()):
        chosen = dict(zip(keys, values, strict=True))
        alpha, tau = chosen.pop("alpha, tau", (None, None))
        yield chosen | ({} if alpha is None else {"alpha": alpha, "tau": tau})


def values_of(key: str, keys: dict[str, tuple[Any, ...]]) -> list[Any]:
    pairs = keys.get("alpha, tau", ())
    return [pair[key == "tau"] for pair in pairs] if key in ("alpha", "tau") else list(keys[key])


def same_decisions(found: InertKey, value: Any, other: Any) -> bool:
    """Whether what is said of a key means that both values make the same decisions."""
    if found.key in ("rule.beta", "rule.gamma") or (found.key == "rule.probe_slope" and "sign" in found.why):
        return value * other > 0
    return found.same is None or {value, other} <= {*found.same}


@pytest.mark.parametrize("name", BRANCH_RULES)
def test_what_is_said_of_a_key_is_so(name: str) -> None:
    """Of an inert key no value changes a decision on any of 12 trees; of another, some value does on one of 1,000."""
    sizes, keys = RULES[name]
    cases = list(product(sizes, choices(ROLLOUT), choices(keys)))
    for budget, rollout, rule in Random(name).sample(cases, min(30, len(cases))):
        config = build(budget, rollout, {"type": name, **rule})
        if config is None or config.rule.never_branches() is not None:
            continue
        said = {found.key: found for found in config.inert_keys()}
        for key in [*rule, "entropy_normalizer"]:
            value = (rollout | rule)[key]
            others: list[tuple[Any, RolloutConfig]] = []
            for other in ROLLOUT[key] if key in ROLLOUT else values_of(key, keys):
                change = {key: other}
                changed = (rollout | change, rule) if key in ROLLOUT else (rollout, rule | change)
                other_config = build(budget, changed[0], {"type": name, **changed[1]})
                if other != value and other_config is not None:
                    others.append((other, other_config))
            found = said.get(key if key in ROLLOUT else f"rule.{key}")
            live = [c for v, c in others if found is None or not same_decisions(found, value, v)]
            for same in (c for _, c in others if c not in live):
                assert all(decisions(config, s) == decisions(same, s) for s in range(12)), (key, budget, rollout, rule)
            differ = any(decisions(config, s) != decisions(c, s) for s in range(1000) for c in live)
            assert differ or not live, (key, budget, rollout, rule)


@pytest.mark.parametrize("name", BRANCH_RULES)
def test_every_key_of_a_rule_is_tried(name: str) -> None:
    _, keys = RULES[name]
    tried = {part for key in keys for part in key.split(", ")}
    assert tried == set(type(parse_config(RolloutConfig, {"rule": {"type": name}}, "test").rule).model_fields) - {"type"}


REFUSED = [
    *(({"rule": {"type": "arpo", "beta": beta}}, "rule.beta") for beta in (0.01, 0.4, 1.0, 5.0, -1.0)),
    *(({"rule": {"type": "aepo", "penalty_slope": 0.0, "gamma": gamma}}, "rule.gamma") for gamma in (0.01, 5.0)),
    ({"rule": {"type": "aepo", "penalty_slope": 0.0}, "entropy_normalizer": "none"}, "entropy_normalizer"),
    ({"rule": {"type": "arpo"}, "entropy_window": 1, "entropy_normalizer": "paper"}, "entropy_normalizer"),
    ({"rule": {"type": "arpo", "alpha": 0.6, "beta": 0.0}, "entropy_normalizer": "none"}, "entropy_normalizer"),
    *(
        ({"rule": {"type": name}, "entropy_normalizer": "none"}, "entropy_normalizer")
        for name in ("none", "random", "threshold", "token_entropy", "random_token", "appo", "eptree", "random_node")
    ),
    ({"rule": {"type": "arpo_released", "entropy_weight": 0.0, "lag": False}}, "rule.lag"),
    ({"rule": {"type": "arpo_released", "entropy_weight": 0.0, "sum_over_window": False}}, "rule.sum_over_window"),
    ({"rule": {"type": "arpo_released", "sum_over_window": False}, "entropy_window": 1}, "rule.sum_over_window"),
    ({"rule": {"type": "arpo", "branch_factor": 2}, "group_size": 2}, "rule.branch_factor"),
    ({"rule": {"type": "eptree", "tokens_per_tree": 3, "branch_factor": 4}, "group_size": 8}, "rule.tokens_per_tree"),
    ({"rule": {"type": "threshold", "max_branches": 3}, "group_size": 2}, "rule.max_branches"),
    ({"rule": {"type": "appo", "branches_per_trajectory": 2}, "group_size": 2}, "rule.branches_per_trajectory"),
    ({"rule": {"type": "appo", "branches_per_trajectory": 5}, "group_size": 8}, "rule.branches_per_trajectory"),
    ({"rule": {"type": "appo", "branches_per_trajectory": 2}, "group_size": 4}, "rule.branches_per_trajectory"),
    ({"rule": {"type": "aepo", "penalty_slope": 0.1, "branch_factor": 9}, "group_size": 8}, "rule.penalty_slope"),
    (
        {"rule": {"type": "aepo_released", "penalty_slope": 0.1}, "group_size": 8, "num_initial_trajectories": 7},
        "rule.penalty_slope",
    ),
]


@pytest.mark.parametrize(("data", "key"), REFUSED)
def test_a_value_without_effect_is_refused_by_name(data: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} = .* has no effect .*; leave it at .*, or "):
        parse_config(RolloutConfig, data, "test")


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "random", "rate": 0.0},
        {"type": "random", "rate": [0.0, 0.0]},
        {"type": "aepo", "gamma": 0.0},
        {"type": "arpo_released", "branch_probability": 0.0, "entropy_weight": 0.0},
        {"type": "aepo_released", "branch_probability": 1.0, "entropy_weight": 0.0},
    ],
)
def test_a_rule_that_never_branches_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="nothing could branch; set "):
        parse_config(RolloutConfig, {"rule": rule}, "test")


def test_a_probe_that_decides_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"probe_slope = 0\.0: .*set num_initial_trajectories"):
        parse_config(RolloutConfig, {"rule": {"type": "aepo", "probe_slope": 0.0}}, "test")
