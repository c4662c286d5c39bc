"""The tree that grows, against the list-based one, another library's, and RFC 9162's bounds."""

from collections.abc import Callable

import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockchain import transparency_log as log
from blockchain.growing_tree import GrowingTree
from tests.consistency_cases import REFERENCE_LEAVES, REFERENCE_ROOTS, make_log

leaves_of_any_kind = st.lists(st.binary(max_size=8), max_size=40)

#: Changes of a tree, each made on a list too: what it is, where (as a part of the size), with what.
changes = st.lists(
    st.tuples(
        st.sampled_from(["extend", "truncate", "replace"]), st.floats(0, 1), leaves_of_any_kind
    ),
    max_size=12,
)


def tree_of(leaves):
    return GrowingTree(log.leaf_hash(leaf) for leaf in leaves)


def changed(tree, leaves, how, where, given_leaves):
    """Make one change on the tree; what the list of leaves is then."""
    place = int(where * len(leaves))
    if how == "extend":
        tree.extend(log.leaf_hash(leaf) for leaf in given_leaves)
        return [*leaves, *given_leaves]
    if how == "truncate":
        tree.truncate(place)
        return leaves[:place]
    if place == len(leaves) or not given_leaves:
        return leaves
    tree.replace(place, log.leaf_hash(given_leaves[0]))
    return [*leaves[:place], given_leaves[0], *leaves[place + 1 :]]


def check_same(tree, leaves):
    """Hold a tree against a list of leaves: its leaves, and the root of each size."""
    assert tree.size == len(leaves)
    assert [tree.leaf(i) for i in range(tree.size)] == [log.leaf_hash(leaf) for leaf in leaves]
    for size in range(len(leaves) + 1):
        assert tree.root(size) == log.root(leaves[:size])
    assert tree.root() == log.root(leaves)


def test_every_proof_of_every_size_is_the_list_based_one_and_verifies():
    leaves = make_log(33)
    tree = tree_of(leaves)
    for size in range(1, len(leaves) + 1):
        root = tree.root(size)
        for index in range(size):
            proof = tree.inclusion_proof(index, size)
            assert proof == log.inclusion_proof(leaves[:size], index)
            assert log.verify_inclusion(leaves[index], index, size, root, proof)
        for old_size in range(1, size + 1):
            proof = tree.consistency_proof(old_size, size)
            assert proof == log.consistency_proof(leaves[:size], old_size)
            assert log.verify_consistency(old_size, size, tree.root(old_size), root, proof)


@settings(max_examples=60)
@given(first=leaves_of_any_kind, following=changes, data=st.data())
def test_after_any_changes_in_any_order_it_is_the_tree_of_its_leaves(first, following, data):
    tree, leaves = tree_of(first), first
    for change in following:
        leaves = changed(tree, leaves, *change)
    check_same(tree, leaves)
    if not leaves:
        return
    size = data.draw(st.integers(1, len(leaves)), "size")
    index = data.draw(st.integers(0, size - 1), "index")
    old_size = data.draw(st.integers(1, size), "old size")
    assert tree.inclusion_proof(index, size) == log.inclusion_proof(leaves[:size], index)
    assert tree.consistency_proof(old_size, size) == log.consistency_proof(leaves[:size], old_size)


@given(leaves=leaves_of_any_kind, more=leaves_of_any_kind)
def test_what_was_appended_and_dropped_again_leaves_no_trace(leaves, more):
    tree = tree_of(leaves)
    tree.extend(log.leaf_hash(leaf) for leaf in more)
    tree.truncate(len(leaves))
    check_same(tree, leaves)
    tree.extend(log.leaf_hash(leaf) for leaf in more)
    check_same(tree, [*leaves, *more])


@given(leaves=st.lists(st.binary(max_size=8), min_size=1, max_size=40), data=st.data())
def test_a_leaf_that_is_replaced_and_put_back_leaves_no_trace(leaves, data):
    tree = tree_of(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    tree.replace(index, bytes(32))
    assert tree.root() != log.root(leaves)
    tree.replace(index, log.leaf_hash(leaves[index]))
    check_same(tree, leaves)


@settings(max_examples=60)
@given(leaves=st.lists(st.binary(max_size=8), min_size=1, max_size=70), data=st.data())
def test_roots_and_inclusion_proofs_are_those_of_pymerkle(leaves, data):
    tree, other = tree_of(leaves), pymerkle.InmemoryTree("sha256")
    other.append_entries(leaves)
    size = data.draw(st.integers(1, len(leaves)), "size")
    index = data.draw(st.integers(0, size - 1), "index")
    assert tree.root(size) == other.get_root(size)
    # Theirs count leaves from 1, and begin with the leaf itself.
    proof = other.prove_inclusion(index + 1, size)
    assert [tree.leaf(index), *tree.inclusion_proof(index, size)] == list(proof.path)


@settings(max_examples=60)
@given(leaves=st.lists(st.binary(max_size=8), min_size=1, max_size=70), data=st.data())
def test_pymerkle_finds_any_two_of_its_roots_consistent(leaves, data):
    tree, other = tree_of(leaves), pymerkle.InmemoryTree("sha256")
    other.append_entries(leaves)
    new_size = data.draw(st.integers(1, len(leaves)), "new size")
    old_size = data.draw(st.integers(1, new_size), "old size")
    old_root, new_root = tree.root(old_size), tree.root(new_size)
    proof = other.prove_consistency(old_size, new_size)
    pymerkle.verify_consistency(old_root, new_root, proof)
    with pytest.raises(pymerkle.InvalidProof):
        pymerkle.verify_consistency(bytes(32), new_root, proof)


def test_the_reference_leaves_have_their_known_roots():
    tree = tree_of(REFERENCE_LEAVES)
    assert [tree.root(size).hex() for size in range(9)] == REFERENCE_ROOTS


@given(size=st.integers(1, 3000), data=st.data())
def test_a_proof_has_at_most_one_hash_for_each_level_of_the_tree(size, data):
    tree = GrowingTree(i.to_bytes(32) for i in range(size))
    levels = (size - 1).bit_length()
    index = data.draw(st.integers(0, size - 1), "index")
    old_size = data.draw(st.integers(1, size), "old size")
    assert len(tree.inclusion_proof(index)) <= levels
    # The subtree at the old tree's right edge comes before its siblings.
    assert len(tree.consistency_proof(old_size)) <= levels + 1
    assert len(tree.inclusion_proof(0)) == levels


REFUSED: dict[str, Callable[[GrowingTree], object]] = {
    "root of more leaves than there are": lambda tree: tree.root(6),
    "root of fewer than none": lambda tree: tree.root(-1),
    "inclusion in more leaves than there are": lambda tree: tree.inclusion_proof(0, 6),
    "inclusion in fewer than none": lambda tree: tree.inclusion_proof(0, -1),
    "inclusion of a leaf after the last": lambda tree: tree.inclusion_proof(5),
    "inclusion of a leaf beyond the size": lambda tree: tree.inclusion_proof(3, 3),
    "inclusion of a leaf before the first": lambda tree: tree.inclusion_proof(-1),
    "inclusion in nothing": lambda tree: tree.inclusion_proof(0, 0),
    "consistency with nothing": lambda tree: tree.consistency_proof(0),
    "consistency with fewer than nothing": lambda tree: tree.consistency_proof(-1),
    "consistency with a larger tree": lambda tree: tree.consistency_proof(4, 3),
    "consistency of more leaves than there are": lambda tree: tree.consistency_proof(1, 6),
}


@pytest.mark.parametrize("ask", REFUSED.values(), ids=REFUSED.keys())
def test_sizes_and_leaves_that_the_tree_does_not_have_are_refused(ask):
    with pytest.raises(ValueError, match=r"(expected|tree with) \d"):
        ask(tree_of(make_log(5)))


def test_a_tree_without_leaves_has_the_root_of_nothing_and_no_proofs():
    tree = GrowingTree()
    assert (tree.size, tree.root()) == (0, log.EMPTY_ROOT)
    with pytest.raises(ValueError, match="leaf 0 of a tree with 0 leaves"):
        tree.inclusion_proof(0)
    with pytest.raises(ValueError, match="old_size: expected 1 to 0, got 1"):
        tree.consistency_proof(1)


@pytest.mark.parametrize("index", [-1, 5])
def test_a_leaf_that_is_not_there_is_neither_told_nor_replaced(index):
    tree = tree_of(make_log(5))
    root = tree.root()
    for ask in (tree.leaf, lambda number: tree.replace(number, root)):
        with pytest.raises(IndexError, match="of a tree with 5 leaves"):
            ask(index)
    with pytest.raises(ValueError, match="expected 0 to 5"):
        tree.truncate(-1)
    assert tree.root() == root
