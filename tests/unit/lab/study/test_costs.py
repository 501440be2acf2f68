import pytest

from arpo.lab.study.costs import Reached, cumulative, reach

CALLS = [10.0, 20.0, 30.0, 40.0]


def test_costs_add_up_over_steps():
    rows = [{"rollout/tool_calls_issued": 4, "rollout/tokens_sampled": 7}, {"rollout/tool_calls_issued": 5}]
    assert cumulative(rows, "tool_calls") == [4, 9]
    assert cumulative(rows, "sampled_tokens") == [7, 7]


@pytest.mark.parametrize(
    ("budget", "step", "is_short"),
    [
        (20, 2, False),  # exactly two steps
        (39, 2, False),  # the checkpoint of step 4 costs 40
        (40, 4, False),
        (59, 4, False),  # two more steps would cost 20, and 19 are left
        (60, 4, True),
    ],
)
def test_a_budget_leads_to_the_last_checkpoint_within_it(budget: float, step: int, is_short: bool):
    assert reach(CALLS, budget, every=2) == Reached(step=step, spent=CALLS[step - 1], budget=budget, is_short=is_short)


def test_a_budget_may_not_reach_the_first_checkpoint():
    assert reach(CALLS, 19, every=2) is None
