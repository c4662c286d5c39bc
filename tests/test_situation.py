"""What an agent sees before a round, what its budget allows, and what it learns from."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_app.agent.action_space import ACTIONS, SKIP, STATE_SHAPE
from client_app.agent.situation import (
    REMEMBERED_ROUNDS,
    UNLIMITED,
    Outcome,
    Situation,
    reward_of,
)

amounts = st.integers(0, 10**24) | st.integers(0, 20)
outcomes = st.lists(st.builds(Outcome, earned=amounts, cost=amounts), max_size=8)
costs = st.tuples(st.just(0), amounts, amounts, amounts)
rounds = st.integers(1, 1000).flatmap(lambda last: st.tuples(st.integers(1, last), st.just(last)))
situations = st.builds(
    lambda place, **known: Situation(round=place[0], rounds=place[1], **known),
    rounds,
    budget=amounts,
    spent=amounts,
    outcomes=outcomes,
    last_action=st.integers(0, len(ACTIONS) - 1),
    costs=costs,
)

EARLY = Situation(
    round=1, rounds=6, budget=900, spent=0, outcomes=(), last_action=SKIP, costs=(0, 100, 200, 300)
)
BUDGET_LEFT, YIELD, LAST, PROGRESS = range(4)


def seen(coordinate, **known):
    return replace(EARLY, **known).state()[coordinate]


@given(situations)
def test_a_situation_has_a_place_in_the_tables(situation):
    state = situation.state()
    assert len(state) == len(STATE_SHAPE)
    assert all(type(value) is int for value in state)
    assert all(0 <= value < size for value, size in zip(state, STATE_SHAPE, strict=True))


@given(situations, amounts)
def test_the_more_was_spent_the_less_of_the_budget_is_left(situation, more):
    after = replace(situation, spent=situation.spent + more)
    assert after.state()[BUDGET_LEFT] <= situation.state()[BUDGET_LEFT]
    assert after.state()[YIELD:] == situation.state()[YIELD:]


@given(situations.filter(lambda s: s.outcomes), st.data(), amounts)
def test_the_more_was_earned_the_higher_the_yield_and_the_more_it_cost_the_lower(
    situation, data, more
):
    changed = data.draw(st.integers(0, len(situation.outcomes) - 1))

    def state_with(earned, cost):
        known = list(situation.outcomes)
        was = known[changed]
        known[changed] = Outcome(was.earned + earned, was.cost + cost)
        return replace(situation, outcomes=known).state()

    before = situation.state()
    assert state_with(more, 0)[YIELD] >= before[YIELD]
    if sum(outcome.cost for outcome in situation.outcomes[-REMEMBERED_ROUNDS:]):
        assert state_with(0, more)[YIELD] <= before[YIELD]


@given(situations, outcomes)
def test_what_is_long_ago_does_not_count(situation, older):
    recent = list(situation.outcomes)[-REMEMBERED_ROUNDS:]
    recent += [Outcome(1, 1)] * (REMEMBERED_ROUNDS - len(recent))
    with_older = replace(situation, outcomes=[*older, *recent])
    assert with_older.state() == replace(situation, outcomes=recent).state()


@given(situations)
def test_staying_away_is_always_permitted_and_no_action_beyond_what_is_left(situation):
    permitted = situation.permitted()
    assert len(permitted) == len(situation.costs)
    assert permitted[SKIP] is True
    for action, (allowed, cost) in enumerate(zip(permitted, situation.costs, strict=True)):
        if action != SKIP:
            within = situation.budget in (UNLIMITED, max(situation.budget, situation.spent + cost))
            assert allowed is (within and cost > 0)


@given(situations, amounts)
def test_having_spent_more_permits_no_more(situation, more):
    later = replace(situation, spent=situation.spent + more).permitted()
    before = situation.permitted()
    assert [one and two for one, two in zip(before, later, strict=True)] == list(later)


@pytest.mark.parametrize(
    ("spent", "left"),
    [(0, 2), (300, 2), (301, 1), (600, 1), (601, 0), (900, 0), (5000, 0)],
)
def test_thirds_of_the_budget_are_told_apart(spent, left):
    assert seen(BUDGET_LEFT, spent=spent) == left


def test_without_a_budget_there_is_always_enough():
    unlimited = replace(EARLY, budget=UNLIMITED, spent=10**30)
    assert unlimited.state()[BUDGET_LEFT] == 2
    assert unlimited.permitted() == (True,) * len(ACTIONS)


@pytest.mark.parametrize("budget", [0, 900])
def test_where_there_is_nothing_to_train_on_there_is_nothing_but_to_stay_away(budget):
    nothing = replace(EARLY, budget=budget, costs=(0, 0, 0, 0))
    assert nothing.permitted() == (True, False, False, False)


@pytest.mark.parametrize(
    ("spent", "permitted"),
    [
        (600, (True, True, True, True)),
        (601, (True, True, True, False)),
        (701, (True, True, False, False)),
        (801, (True, False, False, False)),
        (901, (True, False, False, False)),
    ],
)
def test_the_last_token_may_be_spent_and_none_beyond_it(spent, permitted):
    assert replace(EARLY, spent=spent).permitted() == permitted


@pytest.mark.parametrize(
    ("earned", "expected"),
    [((199,), 1), ((200,), 2), ((0,), 1), ((0, 0), 0), ((99, 1), 1), ((199, 199), 1)],
)
def test_the_yield_is_that_of_the_rounds_known_and_one_that_earned_twice_its_cost(earned, expected):
    outcomes = [Outcome(wei, 100) for wei in earned]
    known = (sum(earned) + 200) // (100 * (len(earned) + 1))
    assert seen(YIELD, outcomes=outcomes) == min(2, known) == expected


def test_where_nothing_is_known_or_nothing_was_spent_training_is_expected_to_pay():
    assert seen(YIELD, outcomes=()) == 2
    assert seen(YIELD, outcomes=[Outcome(0, 0)]) == 2


def test_only_the_rounds_remembered_make_up_the_yield():
    bad, good = Outcome(0, 10), Outcome(10**6, 10)
    assert seen(YIELD, outcomes=[good, bad, bad, bad, bad]) == 0
    assert seen(YIELD, outcomes=[bad, good, bad, bad, bad]) == 2


@pytest.mark.parametrize(("action", "expected"), [(0, 0), (1, 1), (2, 1), (3, 2)])
def test_the_last_action_was_none_some_or_full_effort(action, expected):
    assert seen(LAST, last_action=action) == expected


@pytest.mark.parametrize(
    ("round", "rounds", "half"), [(1, 6, 0), (3, 6, 0), (4, 6, 1), (1, 3, 0), (2, 3, 1), (1, 1, 1)]
)
def test_the_second_half_of_a_task_begins_after_its_middle(round, rounds, half):
    assert seen(PROGRESS, round=round, rounds=rounds) == half


@pytest.mark.parametrize(
    ("paid", "cost", "failed", "expected"),
    [
        # Full effort: 400 tokens at 5 wei, 2,000 wei.
        (2000, 400, False, 0.0),
        (3000, 400, False, 0.5),
        (0, 400, False, -1.0),
        (1000, 100, False, 0.25),
        (0, 100, True, -0.75),
        (5000, 0, False, 2.5),
    ],
)
def test_the_reward_is_what_is_left_in_units_of_full_effort(paid, cost, failed, expected):
    earned = reward_of(paid=paid, cost=cost, full_cost=400, price=5, failed=failed, penalty=0.5)
    assert earned == expected


@given(
    st.integers(1, 10**12),
    st.integers(1, 10**18),
    st.floats(0, 1e3),
    st.integers(0, 10**24),
    st.integers(1, 10**24),
)
def test_staying_away_earns_nothing_and_a_higher_payment_no_less(
    full_cost, price, penalty, paid, more
):
    terms = {"full_cost": full_cost, "price": price, "penalty": penalty}
    assert reward_of(paid=0, cost=0, failed=False, **terms) == 0.0
    counted = reward_of(paid=paid, cost=full_cost, failed=False, **terms)
    assert reward_of(paid=paid + more, cost=full_cost, failed=False, **terms) >= counted
    assert reward_of(paid=paid, cost=full_cost, failed=True, **terms) == counted - penalty


@pytest.mark.parametrize(("full_cost", "price"), [(0, 5), (-1, 5), (400, 0), (400, -1)])
def test_effort_that_costs_nothing_is_no_unit(full_cost, price):
    with pytest.raises(ValueError, match=f"full cost {full_cost} tokens at {price} wei"):
        reward_of(paid=0, cost=0, full_cost=full_cost, price=price, failed=False, penalty=0.0)
