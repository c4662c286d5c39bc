"""Shares of full effort: whole, ascending, never nothing."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_app.agent.action_space import ACTIONS, SKIP, ActionSpace
from strategies.effort import EFFORT_NAMES, Effort

EFFORTS = len(EFFORT_NAMES)

percents = st.sets(st.integers(1, 100), min_size=EFFORTS, max_size=EFFORTS).map(
    lambda some: tuple(sorted(some))
)
efforts = st.builds(Effort, st.sampled_from(["steps", "rank"]), percents)
fulls = st.integers(1, 10**6) | st.integers(1, 64)


@given(efforts, fulls)
def test_a_share_is_the_smallest_whole_number_that_is_no_less_and_at_least_one(effort, full):
    of = effort.records if effort.kind == "steps" else effort.rank
    for percent in effort.percents:
        share = of(percent, full)
        assert type(share) is int
        assert 1 <= share <= full
        assert share - 1 < Fraction(full * percent, 100) <= share
    assert of(100, full) == full


@given(efforts, fulls)
def test_more_effort_is_never_less_and_what_the_effort_is_not_about_stays_whole(effort, full):
    records = [effort.records(percent, full) for percent in effort.percents]
    ranks = [effort.rank(percent, full) for percent in effort.percents]
    assert records == sorted(records)
    assert ranks == sorted(ranks)
    assert (ranks if effort.kind == "steps" else records) == [full] * EFFORTS


@given(efforts, fulls)
def test_the_ranks_that_may_be_trained_are_those_of_the_efforts_and_the_full_one(effort, full):
    ranks = effort.ranks(full)
    assert ranks[-1] == full
    assert ranks[0] >= 1
    assert list(ranks) == sorted(set(ranks))
    assert set(ranks) == {full, *(effort.rank(percent, full) for percent in effort.percents)}


def test_shares_are_as_computed_by_hand():
    steps, rank = Effort("steps", (25, 50, 100)), Effort("rank", (25, 50, 90))
    assert [steps.records(percent, 130) for percent in steps.percents] == [33, 65, 130]
    assert [steps.rank(percent, 16) for percent in steps.percents] == [16, 16, 16]
    assert steps.ranks(16) == (16,)
    assert rank.ranks(16) == (4, 8, 15, 16)
    assert rank.ranks(1) == (1,)
    assert rank.records(25, 130) == 130


@pytest.mark.parametrize(
    "malformed",
    [
        (),
        (100,),
        (25, 50),
        (25, 50, 75, 100),
        (50, 25, 100),
        (25, 25, 100),
        (100, 50, 25),
        (0, 50, 100),
        (-5, 50, 100),
        (25, 50, 101),
        (float("nan"), 50, 100),
        (25, 50, float("inf")),
    ],
)
def test_percents_that_are_no_three_ascending_shares_are_refused(malformed):
    with pytest.raises(ValueError, match=r"expected (3 ascending percents|percents of 1 to 100)$"):
        Effort("steps", malformed)


@given(efforts)
def test_an_action_is_its_effort_and_staying_away_is_none(effort):
    space = ActionSpace(effort)
    assert [space.percent(action) for action in range(len(ACTIONS))] == [0, *effort.percents]
    assert space.percent(SKIP) == 0
