"""Rewards: the pool is never exceeded, nothing is taken back, and copies earn nothing more."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockchain.canonical import canonical_json
from blockchain.merkle import EMPTY_ROOT
from blockchain.reward_tree import verify_reward
from strategies.rewards import RewardTable, RewardTerms, round_rewards
from strategies.scores import ScoreTable
from strategies.settings import RunSettings
from tests.chain_samples import digest

TASK = digest("task")
names = st.text(min_size=1, max_size=6)
score = st.integers(0, 10**9)
scores = st.dictionaries(names, score, max_size=8)
pools = st.integers(0, 10**24)
constants = st.integers(1, 10**9)


def table(scored, round=1, task=TASK):
    return ScoreTable.of(
        scored, task=task, round=round, validation=digest("rows"), method="leave-one-out"
    )


@given(scores, pools, constants)
def test_a_round_pays_at_most_its_pool(scored, pool, constant):
    paid = round_rewards(scored, pool=pool, constant=constant)
    assert paid.keys() == scored.keys()
    assert sum(paid.values()) <= pool
    assert all(amount >= 0 for amount in paid.values())


@given(scores, pools, constants)
def test_a_score_of_zero_is_paid_nothing(scored, pool, constant):
    paid = round_rewards(scored, pool=pool, constant=constant)
    assert all(paid[name] == 0 for name, value in scored.items() if value == 0)


@given(scores.filter(bool), score, pools, constants)
def test_a_higher_score_is_paid_no_less_and_costs_the_others_no_more_than_it_earns(
    scored, more, pool, constant
):
    name = min(scored)
    before = round_rewards(scored, pool=pool, constant=constant)
    after = round_rewards(scored | {name: scored[name] + more}, pool=pool, constant=constant)
    assert after[name] >= before[name]
    assert all(after[other] <= before[other] for other in scored if other != name)


@given(scores.filter(bool), st.integers(2, 5), pools, constants)
def test_the_shares_of_one_that_appears_as_several_are_paid_no_more_than_the_one(
    scored, parts, pool, constant
):
    name = min(scored)
    one = round_rewards(scored, pool=pool, constant=constant)
    share = scored[name] // parts
    split = {other: value for other, value in scored.items() if other != name}
    split |= {f"copy number {part}": share for part in range(parts)}
    several = round_rewards(split, pool=pool, constant=constant)
    assert sum(several[f"copy number {part}"] for part in range(parts)) <= one[name]


@given(scores, pools)
def test_a_round_that_gained_as_much_as_the_constant_leaves_half_unpaid(scored, pool):
    total = sum(scored.values())
    if total == 0:
        return
    paid = sum(round_rewards(scored, pool=pool, constant=total).values())
    assert pool // 2 - len(scored) <= paid <= pool // 2


@given(st.lists(scores, min_size=1, max_size=6), pools, constants)
def test_cumulative_amounts_never_decrease_and_sum_to_what_the_rounds_paid(rounds, pool, constant):
    terms, rewards, paid = RewardTerms(pool, constant), RewardTable.empty(TASK), 0
    for number, scored in enumerate(rounds, start=1):
        after = rewards.after(table(scored, number), terms)
        assert all(after.amounts[name] >= amount for name, amount in rewards.amounts.items())
        paid += sum(round_rewards(scored, pool=pool, constant=constant).values())
        rewards = after
        assert rewards.total == paid <= pool * number
        assert (rewards.root() == EMPTY_ROOT) == (rewards.total == 0)
    for name, amount in rewards.amounts.items():
        if amount:
            assert verify_reward(rewards.root(), rewards.leaf(name), rewards.proof(name))


@given(scores, pools, constants)
def test_a_table_survives_the_round_trip_through_canonical_json(scored, pool, constant):
    rewards = RewardTable.empty(TASK).after(table(scored), RewardTerms(pool, constant))
    assert RewardTable.from_json(json.loads(canonical_json(rewards.to_json()))) == rewards


def test_the_example_of_the_documentation():
    paid = round_rewards({"a": 60_000, "b": 30_000, "c": 0}, pool=10**15, constant=10_000)
    assert paid == {"a": 6 * 10**14, "b": 3 * 10**14, "c": 0}


def test_the_terms_of_a_run_are_wei_and_micro_nats():
    assert RewardTerms.of(RunSettings()) == RewardTerms(pool=10**15, constant=10_000)


def test_a_round_counts_once_and_in_its_own_task_only():
    terms = RewardTerms(10**15, 10_000)
    rewards = RewardTable.empty(TASK).after(table({"a": 5}, round=3), terms)
    for number in (1, 3):
        with pytest.raises(ValueError, match="counted up to 3"):
            rewards.after(table({"a": 5}, round=number), terms)
    with pytest.raises(ValueError, match="scores of task"):
        rewards.after(table({"a": 5}, round=4, task=digest("other")), terms)


def test_who_earned_nothing_has_no_leaf():
    rewards = RewardTable.empty(TASK).after(table({"a": 5, "b": 0}), RewardTerms(10**15, 1))
    with pytest.raises(KeyError, match="'b' has earned nothing"):
        rewards.proof("b")
    with pytest.raises(KeyError, match="'stranger' has earned nothing"):
        rewards.leaf("stranger")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"round": True},
        {"round": -1},
        {"round": "1"},
        {"task": "AB" * 32},
        {"task": "ab" * 31},
        {"task": None},
        {"amounts": {"a": 5}},
        {"amounts": {"a": "05"}},
        {"amounts": {"a": "-5"}},
        {"amounts": {"a": "٣"}},
        {"amounts": {"a": "9" * 78}},
        {"amounts": {"a": "9" * 5000}},
        {"amounts": {"": "5"}},
        {"amounts": [["a", "5"]]},
        {"more": 1},
    ],
)
def test_a_document_in_any_other_form_is_refused(change):
    document = RewardTable(TASK, 1, {"a": 5}).to_json()
    with pytest.raises(ValueError, match="reward"):
        RewardTable.from_json(document | change)


@pytest.mark.parametrize(("pool", "constant"), [(-1, 1), (1, 0), (1, -5)])
def test_terms_out_of_range_are_refused(pool, constant):
    with pytest.raises(ValueError, match="expected at least 0 and 1"):
        round_rewards({"a": 1}, pool=pool, constant=constant)
