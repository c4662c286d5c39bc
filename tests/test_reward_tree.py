"""The tree of rewards against a naive reference; leaves in one order, and none without a reward."""

from dataclasses import replace

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from blockchain.merkle import EMPTY_ROOT, organization_id
from blockchain.reward_tree import (
    RewardLeaf,
    RewardTree,
    reward_leaves,
    verify_reward,
)
from tests.chain_samples import digest
from tests.test_merkle import reference_root

TASK = digest("task")
amounts = st.dictionaries(
    st.text(min_size=1, max_size=8), st.integers(0, 2**256 - 1), min_size=1, max_size=40
)


@given(amounts)
def test_the_root_is_the_one_of_a_naive_recursion_over_the_paid_in_order_of_their_ids(table):
    paid = sorted((organization_id(name), amount) for name, amount in table.items() if amount)
    hashes = [
        keccak(keccak(TASK + organization + amount.to_bytes(32, "big")))
        for organization, amount in paid
    ]
    expected = reference_root(hashes) if hashes else bytes(32)
    assert RewardTree(reward_leaves(TASK, table)).root == expected


@given(amounts)
def test_everybody_who_earned_something_proves_it_and_nobody_else_can(table):
    leaves = reward_leaves(TASK, table)
    tree = RewardTree(leaves)
    root = tree.root
    for name, amount in table.items():
        if amount == 0:
            with pytest.raises(KeyError, match="no reward"):
                tree.proof(organization_id(name))
            continue
        leaf = RewardLeaf(TASK, organization_id(name), amount)
        proof = tree.proof(leaf.organization)
        assert verify_reward(root, leaf, proof)
        assert not verify_reward(root, replace(leaf, amount=amount % (2**256 - 1) + 1), proof)
        assert not verify_reward(root, replace(leaf, task=digest("other")), proof)
        assert not verify_reward(root, replace(leaf, organization=digest("other")), proof)
        assert not verify_reward(root, leaf, [*proof, bytes(32)])


@given(amounts)
def test_the_root_is_zero_exactly_where_nobody_earned_anything(table):
    root = RewardTree(reward_leaves(TASK, table)).root
    assert (root == EMPTY_ROOT) == (sum(table.values()) == 0)


@given(amounts)
def test_the_order_in_which_organizations_are_named_does_not_matter(table):
    reverse = dict(reversed(table.items()))
    assert reward_leaves(TASK, table) == reward_leaves(TASK, reverse)


def test_leaves_out_of_order_twice_or_of_two_tasks_make_no_tree():
    leaves = reward_leaves(TASK, {"a": 1, "b": 2, "c": 3})
    for wrong in (leaves[::-1], [leaves[0], leaves[0]]):
        with pytest.raises(ValueError, match="out of order"):
            RewardTree(wrong)
    with pytest.raises(ValueError, match="two tasks"):
        RewardTree([leaves[0], replace(leaves[1], task=digest("other"))])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", bytes(31)),
        ("organization", bytes(33)),
        ("organization", "0" * 32),
        ("amount", 0),
        ("amount", -1),
        ("amount", 2**256),
        ("amount", True),
        ("amount", 1.0),
    ],
)
def test_a_leaf_with_a_field_of_the_wrong_size_is_refused(field, value):
    leaf = RewardLeaf(TASK, organization_id("cinema"), 5)
    with pytest.raises(ValueError, match=field):
        replace(leaf, **{field: value})


def test_a_leafs_hash_is_pinned():
    leaf = RewardLeaf(bytes([1]) * 32, organization_id("cinema"), 10**15)
    assert leaf.hash().hex() == "65eed97e1c4f79540a2a8958da6ec451222a66878d4130df9e98ffe0592da353"
