"""Credit on one small tree: a [3 tokens] -> observation -> b [2] or c [6]; d [1]. Leaves of 5, 9 and 1 sampled tokens."""

from math import sqrt
from statistics import mean, stdev

import pytest
import torch

from arpo.batching.policy_batch import TreeCredit
from arpo.errors import DataError
from arpo.training.algorithm_config import (
    AdvantageConfig,
    AppoAdvantageConfig,
    GigpoAdvantageConfig,
    LossConfig,
    OutcomeAdvantageConfig,
    PpoClipLossConfig,
    TreeGrpoAdvantageConfig,
    TreerlAdvantageConfig,
)
from arpo.training.credit import assign_credit, node_credit
from arpo.tree import NodeKind, RolloutTree
from arpo.types import Reward

EXACT = OutcomeAdvantageConfig(epsilon=1e-30)
PLAIN = OutcomeAdvantageConfig(scale="none")
TOKEN_MEAN = PpoClipLossConfig(aggregation="token_mean")
SEQUENCE_MEAN = PpoClipLossConfig(aggregation="sequence_mean")
NAMES = ("prompt", "a", "observation", "b", "c", "d")


def on_nodes(tree: RolloutTree, credit: TreeCredit) -> dict[str, tuple[float, float]]:
    """(weight, advantage) of the nodes by name, in depth-first order."""
    found = node_credit(tree, credit)
    return dict(zip(NAMES, zip(found.weights, found.advantages, strict=True), strict=True))


def of_leaves(tree: RolloutTree, credit: TreeCredit) -> list[float]:
    """The advantage of each leaf's own node."""
    found = node_credit(tree, credit)
    return [found.advantages[leaf.id] for leaf in tree.leaves()]


def claims_of(tree: RolloutTree, advantage: AdvantageConfig, loss: LossConfig = TOKEN_MEAN) -> dict[str, float]:
    """What each leaf claims on the sampled nodes of its path, e.g. "b on a"."""
    (credit,) = assign_credit([tree], advantage, loss)
    rows = credit.advantages.tolist()
    on_path = {"b": ("a", "b"), "c": ("a", "c"), "d": ("d",)}
    leaves = dict(zip("bcd", rows, strict=True))
    named = {f"{leaf} on {node}": leaves[leaf][NAMES.index(node)] for leaf, nodes in on_path.items() for node in nodes}
    sampled = [i for i, name in enumerate(NAMES) if name not in ("prompt", "observation")]
    assert sum(row[i] != 0 for row in rows for i in sampled) == sum(value != 0 for value in named.values()), "0 elsewhere"
    return named


def test_every_token_counts_alike(make_tree):
    """Mean 0.5, std sqrt((0.25 + 0.25 + 0) / 2) = 0.5: advantages 1, -1, 0. Lengths 3 + 2, 3 + 6, 1: 15 tokens in all."""
    tree = make_tree((1.0, 0.0, 0.5))
    (credit,) = assign_credit([tree], EXACT, TOKEN_MEAN)
    assert credit.denominator == 15
    assert credit.leaf_weights.tolist() == [1, 1, 1]
    assert credit.token_scale is None
    found = on_nodes(tree, credit)
    expected = {"prompt": (3, 0), "a": (2, 0), "observation": (2, 0), "b": (1, 1), "c": (1, -1), "d": (1, 0)}
    assert all(found[name] == pytest.approx(expected[name], abs=1e-15) for name in NAMES)


def test_every_trajectory_counts_alike(make_tree):
    """Weights 1/5, 1/9, 1. On a: weight 14/45, advantage (1/5 - 1/9) / (14/45) = 4/14. On the prompt: (4/45) / (59/45)."""
    tree = make_tree((1.0, 0.0, 0.5))
    (credit,) = assign_credit([tree], EXACT, SEQUENCE_MEAN)
    assert credit.denominator == 3
    found = on_nodes(tree, credit)
    assert found["b"] == pytest.approx((1 / 5, 1))
    assert found["c"] == pytest.approx((1 / 9, -1))
    assert found["d"] == pytest.approx((1, 0))
    assert found["a"] == found["observation"] == pytest.approx((14 / 45, 4 / 14))
    assert found["prompt"] == pytest.approx((59 / 45, 4 / 59))


def test_no_length_counts(make_tree):
    """Three trajectories of at most 40 tokens."""
    (credit,) = assign_credit([make_tree()], EXACT, PpoClipLossConfig(aggregation="constant"), max_tokens=40)
    assert (credit.leaf_weights.tolist(), credit.denominator) == ([1, 1, 1], 120)
    with pytest.raises(ValueError, match="max_tokens"):
        assign_credit([make_tree()], EXACT, PpoClipLossConfig(aggregation="constant"))


def test_inverse_branching_divides_at_forks(make_tree):
    """Shares 1/2, 1/2, 1: denominator 5/2 + 9/2 + 1 = 8; mean (1/2 + 0 + 1/2) / 2 = 0.5."""
    tree = make_tree((1.0, 0.0, 0.5))
    advantage = OutcomeAdvantageConfig(scale="none", leaf_weighting="inverse_branching")
    (credit,) = assign_credit([tree], advantage, TOKEN_MEAN)
    assert (credit.leaf_weights.tolist(), credit.denominator) == ([0.5, 0.5, 1.0], 8)
    assert of_leaves(tree, credit) == [0.5, -0.5, 0.0]
    assert on_nodes(tree, credit)["a"] == (1, 0)
    assert assign_credit([tree], advantage, SEQUENCE_MEAN)[0].denominator == 2, "as many as initial trajectories"


def test_baselines(make_tree):
    """Others' means: 0.25, 0.75, 0.5. Outside a: 0.5; outside b: (0 + 0.5) / 2; outside c: (1 + 0.5) / 2; outside d: 0.5."""
    tree = make_tree((1.0, 0.0, 0.5))
    of = {
        b: claims_of(tree, OutcomeAdvantageConfig(scale="none", baseline=b)) for b in ("leave_one_out", "subtree_out", "none")
    }  # pyright: ignore
    assert of["leave_one_out"] == {"b on a": 0.75, "b on b": 0.75, "c on a": -0.75, "c on c": -0.75, "d on d": 0.0}
    assert of["subtree_out"] == {"b on a": 0.5, "b on b": 0.75, "c on a": -0.5, "c on c": -0.75, "d on d": 0.0}
    assert of["none"] == {"b on a": 1.0, "b on b": 1.0, "c on a": 0.0, "c on c": 0.0, "d on d": 0.5}


def test_subtree_out_with_inverse_branching(make_tree):
    """Outside b: c with 1/2 and d with 1: (0 + 0.5) / 1.5 = 1/3; outside c: (0.5 + 0.5) / 1.5 = 2/3."""
    config = OutcomeAdvantageConfig(scale="none", baseline="subtree_out", leaf_weighting="inverse_branching")
    found = claims_of(make_tree((1.0, 0.0, 0.5)), config)
    assert found == pytest.approx({"b on a": 0.5, "b on b": 2 / 3, "c on a": -0.5, "c on c": -2 / 3, "d on d": 0.0})


def test_attribution_on_shared_tokens(make_tree):
    """Advantages 1 and -1 with weights 1/5 and 1/9. On a: plain mean 0; mixed 0.25: weighted mean (4/45) / (14/45) = 2/7, so
    2/28 + 0.75 * (+-1).
    """
    tree = make_tree((1.0, 0.0, 0.5))
    hard = claims_of(tree, OutcomeAdvantageConfig(epsilon=1e-30, attribution="hard"), SEQUENCE_MEAN)
    mixed = claims_of(tree, OutcomeAdvantageConfig(epsilon=1e-30, attribution="mixed", mix=0.25), SEQUENCE_MEAN)
    assert hard == pytest.approx({"b on a": 0, "b on b": 1, "c on a": 0, "c on c": -1, "d on d": 0})
    assert mixed == pytest.approx({"b on a": 1 / 14 + 0.75, "b on b": 1, "c on a": 1 / 14 - 0.75, "c on c": -1, "d on d": 0})


@pytest.mark.parametrize(
    ("aggregation", "weights", "denominator"),
    [
        # b holds 3/2 + 2 = 7/2 tokens, c 3/2 + 6 = 15/2, d 1: 12 distinct ones
        ("token_mean", (1, 1, 1, 1), 12),
        # 2/7, 2/15, 1; on a their mean (2/7 + 2/15) / 2 = 22/105: 3 * 22/105 + 2 * 2/7 + 6 * 2/15 + 1 = 3
        ("sequence_mean", (22 / 105, 2 / 7, 2 / 15, 1), 3),
        ("constant", (1, 1, 1, 1), 120),
    ],
)
def test_a_shared_token_counts_once(make_tree, aggregation, weights, denominator):
    """Advantages 1, -1, 0; on a their plain mean 0."""
    tree = make_tree((1.0, 0.0, 0.5))
    advantage = OutcomeAdvantageConfig(epsilon=1e-30, attribution="once")
    (credit,) = assign_credit([tree], advantage, PpoClipLossConfig(aggregation=aggregation), max_tokens=40)
    assert credit.denominator == pytest.approx(denominator, rel=1e-14)
    found = on_nodes(tree, credit)
    expected = zip("abcd", weights, (0, 1, -1, 0), strict=True)
    assert all(found[name] == pytest.approx((weight, value), abs=1e-14) for name, weight, value in expected)
    assert claims_of(tree, advantage)["b on a"] == 0


def test_the_plain_mean_of_a_short_and_a_long_sharer(make_tree):
    """Lengths 2 and 8 with advantages 1 and -1 under `sequence_mean`: 0, where weights 1/2 and 1/8 would give 0.6."""
    task = make_tree().task
    tree = RolloutTree.from_prompt(task, [1])
    shared = tree.append(tree.root, NodeKind.COMPLETION, [2], logprobs=[-1.0])
    for length, reward in ((1, 1.0), (7, -1.0)):
        leaf = tree.append(shared, NodeKind.COMPLETION, [3] * length, logprobs=[-1.0] * length)
        leaf.reward = Reward(value=reward)
    for mode in ("hard", "once"):
        advantage = OutcomeAdvantageConfig(scale="none", attribution=mode)
        assert assign_credit([tree], advantage, SEQUENCE_MEAN)[0].advantages[:, shared.id].tolist() == [0, 0]


def test_the_scale_of_the_whole_batch(make_tree):
    """Over 15 tokens, 5 of reward 1, 9 of 0 and 1 of 0.5; the second tree adds 5 of 3, 9 of 2, 1 of 1: mean and std of all."""
    trees = [make_tree((1.0, 0.0, 0.5)), make_tree((3.0, 2.0, 1.0), first_id=60, name="u")]
    tokens = [1.0] * 5 + [0.0] * 9 + [0.5] + [3.0] * 5 + [2.0] * 9 + [1.0]
    config = OutcomeAdvantageConfig(baseline="none", scale="batch_std", epsilon=1e-30)
    credits = assign_credit(trees, config, TOKEN_MEAN)
    found = [a for tree, credit in zip(trees, credits, strict=True) for a in of_leaves(tree, credit)]
    assert found == pytest.approx([(r - mean(tokens)) / stdev(tokens) for r in (1.0, 0.0, 0.5, 3.0, 2.0, 1.0)])


def test_where_a_completion_is_cut_into_nodes_does_not_matter(make_tree):
    whole, cut = make_tree(), make_tree()
    c = cut.split(cut.nodes[NAMES.index("c")], 4)
    cut.nodes[-1].reward, c.reward = c.reward, None
    for config in (OutcomeAdvantageConfig(baseline="none", scale="batch_std"), GigpoAdvantageConfig()):
        (of_whole,) = assign_credit([whole], config, SEQUENCE_MEAN)
        (of_cut,) = assign_credit([cut], config, SEQUENCE_MEAN)
        assert torch.allclose(of_cut.advantages[:, : len(whole.nodes)], of_whole.advantages, atol=1e-14)
        assert torch.equal(of_cut.advantages[:, -1], of_cut.advantages[:, c.id])
        assert of_cut.leaf_weights.equal(of_whole.leaf_weights)


def test_gigpo_compares_steps_of_one_situation(make_tree):
    """At discount 1/2, after the prompt: returns 1/2 (b), 0 (c), 1/2 (d), so 1/6, -1/3, 1/6; after the observation 1 and 0, so
    1/2 and -1/2. Outcome 1/2, -1/2, 0; weight 2.
    """
    config = GigpoAdvantageConfig(scale="none", step_weight=2.0, discount=0.5)
    found = claims_of(make_tree((1.0, 0.0, 0.5)), config)
    assert found == pytest.approx({"b on a": 5 / 6, "b on b": 1.5, "c on a": -7 / 6, "c on c": -1.5, "d on d": 1 / 3})


def test_gigpo_scales_each_situation_by_its_own_spread(make_tree):
    """Steps after the observation: std of (1, 0) is sqrt(1/2), so +-sqrt(1/2); outcome +-1."""
    found = claims_of(make_tree((1.0, 0.0, 0.5)), GigpoAdvantageConfig(epsilon=1e-30, discount=0.5))
    assert (found["b on b"], found["c on c"]) == pytest.approx((1 + sqrt(0.5), -1 - sqrt(0.5)))


def test_gigpo_takes_other_observations_for_other_situations(make_tree):
    tree = make_tree((1.0, 0.0, 0.5))
    d = tree.nodes[NAMES.index("d")]
    other = tree.append(d, NodeKind.OBSERVATION, [90])
    end = tree.append(other, NodeKind.COMPLETION, [91], logprobs=[-1.0], entropies=[0.5])
    end.reward = Reward(value=0.5)
    (credit,) = assign_credit([tree], GigpoAdvantageConfig(scale="none"), TOKEN_MEAN)
    assert credit.advantages[2, end.id] == 0, "outcome 0, and alone in its situation"
    other.token_ids = list(tree.nodes[NAMES.index("observation")].token_ids)
    (credit,) = assign_credit([tree], GigpoAdvantageConfig(scale="none"), TOKEN_MEAN)
    assert credit.advantages[2, end.id] == 0, "0.5 is the mean of 1, 0 and 0.5"
    assert credit.advantages[0, NAMES.index("b")] == pytest.approx(0.5 + 0.5)


def test_tree_grpo_adds_the_own_tree(make_tree):
    """Within a's tree +-0.5, d's tree has one leaf; in the whole group 0.5, -0.5, 0."""
    found = claims_of(make_tree((1.0, 0.0, 0.5)), TreeGrpoAdvantageConfig(scale="none"))
    assert found == {"b on a": 1.0, "b on b": 1.0, "c on a": -1.0, "c on c": -1.0, "d on d": 0.0}


def test_a_branch_at_the_prompt_belongs_to_the_tree_before_it(make_tree):
    """Where d began as a fork of a's tree: within the tree, and in the group, +0.5, -0.5, 0; twice in all."""
    tree = make_tree((1.0, 0.0, 0.5))
    tree.nodes[NAMES.index("d")].is_branch = True
    assert of_leaves(tree, assign_credit([tree], TreeGrpoAdvantageConfig(scale="none"), TOKEN_MEAN)[0]) == [1.0, -1.0, 0.0]
    tree.leaves()[2].reward = Reward(value=0.8)
    in_tree = assign_credit([tree], TreeGrpoAdvantageConfig(scale="none"), TOKEN_MEAN)[0]
    assert of_leaves(tree, in_tree) == pytest.approx([0.8, -1.2, 0.4])  # mean 0.6 on both levels


def test_treerl_rewards_the_steps_between_forks(make_tree):
    """V(prompt) 0.5, V(a) 0.5, so a has 0; b: 0.5 + 0.5, c: -0.5 - 0.5, d: 0. With 0, 0, 0.9: 0.3, 0; a -0.6 / sqrt(2)."""
    found = claims_of(make_tree((1.0, 0.0, 0.5)), TreerlAdvantageConfig())
    assert found == {"b on a": 0.0, "b on b": 1.0, "c on a": 0.0, "c on c": -1.0, "d on d": 0.0}
    found = claims_of(make_tree((0.0, 0.0, 0.9)), TreerlAdvantageConfig())
    a = -0.6 / sqrt(2)
    assert found == pytest.approx({"b on a": a, "b on b": -0.3, "c on a": a, "c on c": -0.3, "d on d": 1.2})


def test_appo_compares_trajectories_and_branches_apart(make_tree):
    """b and d start at the prompt: mean 0.75, +-0.25; against the branches c and e, of rewards 0 and 0.5: 0.75 and 0.25.

    So (0.25 + 0.75) / 2 and (-0.25 + 0.25) / 2. Only b and d are trained: 5 + 1 tokens.
    """
    tree = make_tree((1.0, 0.0, 0.5))
    branch = tree.append(tree.nodes[2], NodeKind.COMPLETION, [90, 91], logprobs=[-1.0, -1.0], is_branch=True)
    branch.reward = Reward(value=0.5)
    (credit,) = assign_credit([tree], AppoAdvantageConfig(scale="none"), TOKEN_MEAN)
    b, c, e, d = (leaf.id for leaf in tree.leaves())
    assert [tree.nodes[i].is_branch for i in (b, c, e, d)] == [False, True, True, False]
    assert credit.leaf_weights.tolist() == [1, 0, 0, 1]
    assert credit.denominator == 6
    assert credit.advantages[0, [1, b]].tolist() == [0.5, 0.5]
    assert credit.advantages[3, d] == 0
    assert not credit.advantages[1:3].any()
    found = node_credit(tree, credit)
    assert (found.weights[c], found.advantages[c]) == (0, 0), "nothing is learned there, and the viewer can show it"
    (credit,) = assign_credit([tree], AppoAdvantageConfig(scale="none"), SEQUENCE_MEAN)
    assert (credit.leaf_weights.tolist(), credit.denominator) == ([0.2, 0, 0, 1], 2)
    # scaled: +-0.25 over 0.353553 for the group from the prompt; 0.75 and 0.25 over 0.353553 against the branches
    (credit,) = assign_credit([tree], AppoAdvantageConfig(epsilon=1e-30), TOKEN_MEAN)
    assert credit.advantages[[0, 3], [b, d]].tolist() == pytest.approx([sqrt(2), 0], abs=1e-12)


def test_entropy_scales_tokens_over_the_whole_batch(make_tree):
    """Entropies of the 12 + 12 distinct tokens; a shared token counts once; the factors of a token are 1 + a z."""
    trees = [make_tree(), make_tree(name="u")]
    trees[1].nodes[-1].entropies = [2.0]
    entropies = [h for tree in trees for node in tree.nodes if node.is_sampled for h in node.entropies or []]
    assert len(entropies) == 24
    credits = assign_credit(trees, OutcomeAdvantageConfig(entropy_scale=0.2, epsilon=1e-30), TOKEN_MEAN)
    scale = credits[1].token_scale
    assert scale is not None
    assert [s is None for s in scale] == [not node.is_sampled for node in trees[1].nodes]
    assert scale[-1] is not None
    assert scale[-1].tolist() == pytest.approx([1 + 0.2 * (2.0 - mean(entropies)) / stdev(entropies)])


def test_entropy_is_never_silently_missing(make_tree):
    tree = make_tree()
    tree.nodes[1].entropies = None
    with pytest.raises(DataError, match=r"advantage.entropy_scale = 0.2: node 1 of task 't' has 3 tokens and 0 entropies; use"):
        assign_credit([tree], OutcomeAdvantageConfig(entropy_scale=0.2), TOKEN_MEAN)


def test_an_unscored_leaf_is_named(make_tree):
    tree = make_tree()
    tree.leaves()[1].reward = None
    with pytest.raises(ValueError, match="leaf 4 of task 't' has no reward; call score_tree first"):
        assign_credit([tree], PLAIN, TOKEN_MEAN)


def test_without_the_standard_deviation(make_tree):
    tree = make_tree((1.0, 0.0, 0.5))
    (credit,) = assign_credit([tree], PLAIN, TOKEN_MEAN)
    assert of_leaves(tree, credit) == [0.5, -0.5, 0.0]


def test_groups_are_normalised_apart_and_share_one_denominator(make_tree):
    """The second group's rewards are 10 times the first's plus 3: the same advantages."""
    first, second = make_tree((1.0, 0.0, 0.5)), make_tree((13.0, 3.0, 8.0), name="u")
    of_first, of_second = assign_credit([first, second], EXACT, TOKEN_MEAN)
    assert of_first.denominator == of_second.denominator == 15
    assert of_leaves(second, of_second) == pytest.approx(of_leaves(first, of_first))


@pytest.mark.parametrize(("aggregation", "expected"), [("token_mean", 8), ("sequence_mean", 2), ("constant", 80)])
def test_a_tree_adds_the_same_to_the_denominator_whatever_is_beside_it(aggregation: str, expected: float, make_tree):
    """Shares 1/2, 1/2, 1 of 5, 9 and 1 tokens: 8 tokens; 2 initial trajectories; 2 times 40 tokens."""
    loss = PpoClipLossConfig(aggregation=aggregation)  # pyright: ignore[reportArgumentType]
    trees = [make_tree(name=str(i)) for i in range(3)]
    config = OutcomeAdvantageConfig(leaf_weighting="inverse_branching")
    together = assign_credit(trees, config, loss, max_tokens=40)
    assert [credit.denominator for credit in together] == [expected] * 3
    assert [assign_credit([tree], config, loss, max_tokens=40)[0].denominator for tree in trees] == [expected] * 3


def test_shaped_rewards_replace_the_leaves_own(make_tree):
    tree = make_tree((1.0, 0.0, 0.5))
    (credit,) = assign_credit([tree], PLAIN, TOKEN_MEAN, rewards=[torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)])
    assert of_leaves(tree, credit) == [-1.0, 2.0, -1.0]
    assert [leaf.reward.value for leaf in tree.leaves()] == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("baseline", ["group_mean", "leave_one_out", "subtree_out"])
@pytest.mark.parametrize("scale", ["group_std", "none"])
def test_equal_rewards_give_no_signal(baseline: str, scale: str, make_tree):
    tree, other = make_tree((-1.1, -1.1, -1.1)), make_tree((1.0, 0.0, 0.5))
    config = OutcomeAdvantageConfig(baseline=baseline, scale=scale)  # pyright: ignore[reportArgumentType]
    without, with_signal = assign_credit([tree, other], config, TOKEN_MEAN)
    assert without.is_zero
    assert not with_signal.is_zero


@pytest.mark.parametrize("config", [GigpoAdvantageConfig(discount=1.0), TreeGrpoAdvantageConfig(), AppoAdvantageConfig()])
def test_equal_rewards_give_no_signal_in_any_comparison(config: AdvantageConfig, make_tree):
    credits = assign_credit([make_tree((0.3, 0.3, 0.3))], config, TOKEN_MEAN)
    assert credits[0].is_zero


def test_without_a_baseline_equal_rewards_teach(make_tree):
    trees = [make_tree((1.0, 1.0, 1.0)), make_tree((0.0, 0.0, 0.0), name="u")]
    credits = assign_credit(trees, OutcomeAdvantageConfig(baseline="none", scale="batch_std"), TOKEN_MEAN)
    assert not any(credit.is_zero for credit in credits)


def test_assigning_credit_leaves_the_tree_as_it_is(make_tree):
    tree = make_tree()
    first, again = (assign_credit([tree], OutcomeAdvantageConfig(), TOKEN_MEAN)[0] for _ in range(2))
    assert tree == make_tree()
    assert on_nodes(tree, first) == on_nodes(tree, again)
