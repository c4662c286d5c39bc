"""Likeness of updates: what they do counts, not how they are written, and only their direction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.factors import A_SUFFIX, B_SUFFIX
from strategies.aggregation import RULES, Contribution
from strategies.aggregation.likeness import (
    NEAR_DUPLICATE_COSINE,
    near_duplicates,
    negligible,
    update_gram,
)
from tests.aggregation_cases import MIXED, dense_of_contribution, federations

EXACT_RULES = ["ffa", "flora", "accumulators"]


def gram_of(vectors):
    matrix = np.array(vectors, dtype=np.float64).reshape(len(vectors), -1)
    return matrix @ matrix.T


vectors = st.integers(1, 6).flatmap(
    lambda count: st.lists(
        st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=count, max_size=count
    )
)


@pytest.mark.parametrize("name", EXACT_RULES)
@settings(max_examples=25, deadline=None)
@given(federation=federations())
def test_inner_products_are_those_of_the_dense_updates(name, federation):
    rule = federation.rule(name)
    contributions = federation.contributions(rule, 1)
    state = rule.initial_state()
    flat = [
        np.concatenate(
            [update.ravel() for update in dense_of_contribution(rule, state, c).values()]
        )
        for c in contributions
    ]
    expected = gram_of(flat)
    size = np.sqrt(np.outer(np.diagonal(expected), np.diagonal(expected)))
    assert np.all(np.abs(update_gram(rule, 1, contributions) - expected) <= 1e-6 * size)


@pytest.mark.parametrize("name", sorted(RULES))
def test_inner_products_are_symmetric_and_those_of_each_pair_alone(name):
    rule = MIXED.rule(name)
    contributions = MIXED.contributions(rule, 1)
    gram = update_gram(rule, 1, contributions)
    assert np.array_equal(gram, gram.T)
    alone = update_gram(rule, 1, [contributions[2], contributions[0]])
    assert np.array_equal(alone, gram[np.ix_([2, 0], [2, 0])])


@pytest.mark.parametrize("name", ["flora", "accumulators"])
def test_a_pair_written_at_another_balance_of_its_factors_is_the_same_update(name):
    rule = MIXED.rule(name)
    original = MIXED.contributions(rule, 1)[0]
    disguised = {
        key: array * np.float32(64 if key.endswith(A_SUFFIX) else 1 / 64)
        for key, array in original.arrays.items()
    }
    copy = Contribution("copy", original.num_examples, disguised)
    assert near_duplicates(update_gram(rule, 1, [original, copy])) == [[0, 1]]


def test_a_pair_with_a_factor_of_zeros_is_no_update_whatever_the_other_holds():
    rule = MIXED.rule("flora")
    sent = MIXED.contributions(rule, 1)
    hollow = {
        key: np.zeros_like(array) if key.endswith(B_SUFFIX) else array
        for key, array in sent[0].arrays.items()
    }
    gram = update_gram(rule, 1, [Contribution("hollow", 1, hollow), *sent[1:]])
    assert negligible(gram) == [True, False, False, False]


@given(vectors, st.integers(1, 1000))
def test_groups_hold_every_update_once_and_do_not_depend_on_lengths(rows, factor):
    groups = near_duplicates(gram_of(rows))
    assert sorted(k for group in groups for k in group) == list(range(len(rows)))
    assert all(group == sorted(group) for group in groups)
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    scaled = [[factor * value for value in rows[0]], *rows[1:]]
    assert near_duplicates(gram_of(scaled)) == groups


@given(vectors, st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = near_duplicates(gram_of([rows[k] for k in order]))
    renamed = sorted(sorted(order[k] for k in group) for group in shuffled)
    assert renamed == sorted(near_duplicates(gram_of(rows)))


def at_angle(cosine):
    return [cosine, np.sqrt(1 - cosine**2)]


def test_a_cosine_above_the_threshold_makes_a_group_and_one_below_does_not():
    assert near_duplicates(gram_of([[1, 0], at_angle(0.9901)])) == [[0, 1]]
    assert near_duplicates(gram_of([[1, 0], at_angle(0.9899)])) == [[0], [1]]
    assert near_duplicates(gram_of([[1, 0], [-1, 0]])) == [[0], [1]]
    assert near_duplicates(gram_of([[1, 0], [0, 0], [0, 0]])) == [[0], [1], [2]]


def test_groups_join_through_others():
    step = np.arccos(NEAR_DUPLICATE_COSINE) * 0.9
    chain = [[np.cos(k * step), np.sin(k * step)] for k in (0, 2, 1, 9)]
    assert near_duplicates(gram_of(chain)) == [[0, 1, 2], [3]]


def test_an_update_is_negligible_beside_the_lower_median_and_not_beside_the_largest():
    assert negligible(gram_of([[1.0], [1.0], [1e-3], [1.1e-3]])) == [False, False, False, False]
    assert negligible(gram_of([[1.0], [1.0], [1.0], [1e-3], [1.1e-3]])) == [
        False, False, False, True, False,
    ]  # fmt: skip
    assert negligible(gram_of([[1e9], [1e9], [1.0], [1.0]])) == [False, False, False, False]
    assert negligible(gram_of([[0.0], [0.0]])) == [True, True]
    assert negligible(np.zeros((0, 0))) == []
