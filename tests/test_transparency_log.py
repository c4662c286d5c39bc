"""The log's tree against the RFC's definitions, its reference vectors, and corrupted proofs."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockchain import transparency_log as log
from tests.consistency_cases import (
    REFERENCE_LEAVES,
    REFERENCE_ROOTS,
    Claim,
    claim,
    corruptions,
    largest_power_of_two_below,
    make_log,
    path,
)
from tests.make_vectors import VECTORS, vectors

sizes = st.integers(1, 140)


def reference_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = largest_power_of_two_below(len(leaves))
    return hashlib.sha256(
        b"\x01" + reference_root(leaves[:k]) + reference_root(leaves[k:])
    ).digest()


def reference_inclusion(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162, section 2.1.3.1, as it is written there."""
    if len(leaves) == 1:
        return []
    k = largest_power_of_two_below(len(leaves))
    if m < k:
        return [*reference_inclusion(m, leaves[:k]), reference_root(leaves[k:])]
    return [*reference_inclusion(m - k, leaves[k:]), reference_root(leaves[:k])]


def reference_consistency(m: int, leaves: list[bytes], b: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 9162, section 2.1.4.1, as it is written there."""
    if m == len(leaves):
        return [] if b else [reference_root(leaves)]
    k = largest_power_of_two_below(len(leaves))
    if m <= k:
        return [*reference_consistency(m, leaves[:k], b), reference_root(leaves[k:])]
    return [*reference_consistency(m - k, leaves[k:], False), reference_root(leaves[:k])]


def test_the_reference_leaves_have_their_known_roots():
    for size, known in enumerate(REFERENCE_ROOTS):
        assert log.root(REFERENCE_LEAVES[:size]).hex() == known
    assert log.root([]) == log.EMPTY_ROOT


# Of Certificate Transparency's own tests, indices here counted from 0.
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
G = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
H = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
J = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"


@pytest.mark.parametrize(
    ("index", "size", "known"),
    [(0, 1, []), (0, 8, [A, B, C]), (5, 8, [D, E, F]), (2, 3, [G]), (1, 5, [H, B, D])],
)
def test_inclusion_proofs_of_the_reference_are_the_known_ones(index, size, known):
    leaves = REFERENCE_LEAVES[:size]
    proof = log.inclusion_proof(leaves, index)
    assert [node.hex() for node in proof] == known
    assert log.verify_inclusion(leaves[index], index, size, log.root(leaves), proof)


@pytest.mark.parametrize(
    ("old_size", "new_size", "known"),
    [(1, 1, []), (1, 8, [A, B, C]), (6, 8, [J, E, F]), (2, 5, [B, D])],
)
def test_consistency_proofs_of_the_reference_are_the_known_ones(old_size, new_size, known):
    true = claim(REFERENCE_LEAVES[:new_size], old_size)
    assert [node.hex() for node in true.proof] == known
    assert true.verifies()


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_the_root_is_the_one_of_the_definition(leaves):
    assert log.root(leaves) == reference_root(leaves)


@given(sizes, st.data())
def test_inclusion_proofs_are_those_of_the_definition_and_verify(size, data):
    leaves = make_log(size)
    index = data.draw(st.integers(0, size - 1))
    proof = log.inclusion_proof(leaves, index)
    assert proof == reference_inclusion(index, leaves)
    assert log.verify_inclusion(leaves[index], index, size, log.root(leaves), proof)


@given(sizes, st.data())
def test_no_inclusion_proof_verifies_for_anything_else(size, data):
    leaves = make_log(size)
    index = data.draw(st.integers(0, size - 1))
    root, proof = log.root(leaves), log.inclusion_proof(leaves, index)
    leaf = leaves[index]
    for other in range(size):
        if other != index:
            assert not log.verify_inclusion(leaf, other, size, root, proof)
            assert not log.verify_inclusion(leaves[other], index, size, root, proof)
    assert not log.verify_inclusion(leaf, size, size, root, proof)
    assert not log.verify_inclusion(leaf, index, 0, root, proof)
    assert not log.verify_inclusion(leaf, index, 2 * size, root, proof)
    assert not log.verify_inclusion(leaf + b"0", index, size, root, proof)
    assert not log.verify_inclusion(leaf, index, size, log.root([*leaves, b""]), proof)
    for node in (bytes(32), root, log.leaf_hash(leaf)):
        assert not log.verify_inclusion(leaf, index, size, root, [*proof, node])
        assert not log.verify_inclusion(leaf, index, size, root, [node, *proof])
    # Right at every step, but one level above the tree's root.
    lifted = hashlib.sha256(b"\x01" + bytes(32) + root).digest()
    assert not log.verify_inclusion(leaf, index, size, lifted, [*proof, bytes(32)])
    for i, node in enumerate(proof):
        rest = proof[:i], proof[i + 1 :]
        flipped = bytes([node[0] ^ 0x80]) + node[1:]
        assert not log.verify_inclusion(leaf, index, size, root, [*rest[0], *rest[1]])
        assert not log.verify_inclusion(leaf, index, size, root, proof[:i])
        assert not log.verify_inclusion(leaf, index, size, root, [*rest[0], flipped, *rest[1]])


def test_an_inner_node_is_no_leaf():
    hashes = [log.leaf_hash(leaf) for leaf in REFERENCE_LEAVES[:2]]
    root = log.root(REFERENCE_LEAVES[:2])
    assert hashlib.sha256(b"\x01" + hashes[0] + hashes[1]).digest() == root
    for content in (hashes[0] + hashes[1], b"\x01" + hashes[0] + hashes[1]):
        assert not log.verify_inclusion(content, 0, 1, root, [])


def test_every_size_up_to_64_is_consistent_with_every_smaller_one():
    leaves = make_log(64)
    for new_size in range(1, 65):
        for old_size in range(1, new_size + 1):
            true = claim(leaves[:new_size], old_size)
            assert list(true.proof) == reference_consistency(old_size, leaves[:new_size])
            assert true.verifies(), (old_size, new_size)


@given(sizes, st.data())
def test_no_corruption_of_a_consistency_proof_verifies(size, data):
    true = claim(make_log(size), data.draw(st.integers(1, size)))
    assert true.verifies()
    for name, false in corruptions(true):
        assert not false.verifies(), name


def test_a_consistency_proof_has_dozens_of_corruptions():
    names = [name for name, _ in corruptions(claim(make_log(8), 6))]
    assert len(names) == len(set(names)) >= 70


@given(sizes, st.data())
def test_a_fork_has_no_proof(size, data):
    leaves = make_log(size)
    old_size = data.draw(st.integers(1, size))
    forked = data.draw(st.integers(0, old_size - 1))
    other = [*leaves[:forked], b"another leaf", *leaves[forked + 1 :]]
    true = claim(leaves, old_size)
    assert not replace(claim(other, old_size), old_root=true.old_root).verifies()
    assert not replace(true, new_root=log.root(other)).verifies()
    assert not replace(
        true, proof=claim(other, old_size).proof, new_root=log.root(other)
    ).verifies()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_other_sizes_verify_only_where_they_have_the_same_path(old, new, other_old, other_new):
    # A limit of the RFC's trees: what binds a size to a root is the signature over both.
    if old > new or other_old > other_new:
        return
    said = replace(claim(make_log(new), old), old_size=other_old, new_size=other_new)
    assert said.verifies() == (path(old, new) == path(other_old, other_new))


def test_a_root_does_not_bind_its_size():
    assert replace(claim(make_log(8), 1), new_size=5).verifies()


@pytest.mark.parametrize(
    ("size", "valid"), [(2**40, True), (2**63, True), (2**64 - 1, True), (2**64, False)]
)
def test_sizes_are_valid_up_to_64_bits(size, valid):
    # A tree nobody can build: one leaf, and a made-up sibling at every height up to its root.
    proof = [hashlib.sha256(bytes([i])).digest() for i in range((size - 1).bit_length())]
    new = log.leaf_hash(b"")
    for node in proof:
        new = hashlib.sha256(b"\x01" + new + node).digest()
    assert Claim(1, size, log.leaf_hash(b""), new, tuple(proof)).verifies() == valid
    assert log.verify_inclusion(b"", 0, size, new, proof) == valid
    assert not Claim(1, size, log.leaf_hash(b""), new, tuple(proof[:-1])).verifies()
    assert not Claim(1, size, log.leaf_hash(b""), new, (*proof, proof[0])).verifies()


def test_a_proof_longer_than_the_bound_is_not_valid_even_if_it_is_right():
    # From 2**63 - 1 leaves to two more takes 65 hashes, and to fewer leaves at most 64.
    for height, valid in ((3, True), (62, True), (63, False)):
        proof = [hashlib.sha256(bytes([i])).digest() for i in range(height + 2)]
        old, new = proof[0], hashlib.sha256(b"\x01" + proof[0] + proof[1]).digest()
        for node in proof[2:-1]:
            old = hashlib.sha256(b"\x01" + node + old).digest()
            new = hashlib.sha256(b"\x01" + node + new).digest()
        new = hashlib.sha256(b"\x01" + new + proof[-1]).digest()
        size = 2**height - 1
        assert path(size, size + 2) == ["start", "right of the new"] + (
            ["left of both"] * (height - 1) + ["right of the new"]
        )
        assert Claim(size, size + 2, old, new, tuple(proof)).verifies() == valid


_ODD = [None, True, -1, 1.0, "1", 2**64, 2**300, b"", bytes(31), bytes(33), [], object()]


@pytest.mark.parametrize("odd", _ODD)
def test_malformed_arguments_are_not_valid(odd):
    root = log.root(REFERENCE_LEAVES)
    consistent = (6, 8, log.root(REFERENCE_LEAVES[:6]), root, claim(REFERENCE_LEAVES, 6).proof)
    included = (REFERENCE_LEAVES[5], 5, 8, root, log.inclusion_proof(REFERENCE_LEAVES, 5))
    for verify, arguments in (
        (log.verify_consistency, consistent),
        (log.verify_inclusion, included),
    ):
        assert verify(*arguments)
        for i, argument in enumerate(arguments):
            assert not verify(*arguments[:i], odd, *arguments[i + 1 :])
            if isinstance(argument, list | tuple):
                assert not verify(*arguments[:i], [odd, *argument[1:]], *arguments[i + 1 :])


def test_a_truth_value_is_no_size():
    true = claim(REFERENCE_LEAVES, 1)
    assert true.verifies()
    assert not replace(true, old_size=True).verifies()
    assert log.verify_inclusion(b"", 0, 1, true.old_root, [])
    assert not log.verify_inclusion(b"", 0, True, true.old_root, [])
    assert not log.verify_inclusion(b"", False, 1, true.old_root, [])


@given(
    st.lists(st.one_of(st.integers(), st.binary(max_size=33), st.none(), st.text()), min_size=4),
    st.one_of(st.none(), st.lists(st.binary(min_size=31, max_size=33), max_size=70)),
)
def test_hostile_arguments_never_raise(values, proof):
    assert not log.verify_consistency(*values[:4], proof)
    assert not log.verify_inclusion(*values[:4], proof)


@pytest.mark.parametrize("index", [-1, 8, 9])
def test_a_leaf_that_is_not_there_has_no_proof(index):
    with pytest.raises(IndexError, match=f"leaf {index} of a tree with 8 leaves"):
        log.inclusion_proof(REFERENCE_LEAVES, index)


@pytest.mark.parametrize("old_size", [-1, 0, 9])
def test_a_size_that_the_tree_never_had_has_no_proof(old_size):
    with pytest.raises(ValueError, match=f"expected 1 to 8.* got {old_size}"):
        log.consistency_proof(REFERENCE_LEAVES, old_size)


@pytest.mark.parametrize("size", [1, 2, 100, 1000])
def test_a_proof_costs_no_more_hashes_than_the_tree_has_nodes(size, monkeypatch):
    calls = []
    sha256 = hashlib.sha256
    monkeypatch.setattr(log.hashlib, "sha256", lambda data: calls.append(data) or sha256(data))
    leaves = make_log(size)
    for run in (
        lambda: log.root(leaves),
        lambda: log.inclusion_proof(leaves, 0),
        lambda: log.consistency_proof(leaves, (size + 1) // 2),
    ):
        calls.clear()
        run()
        assert len(calls) <= 2 * size - 1


def test_the_vectors_on_disk_are_those_of_this_code():
    assert VECTORS.read_text() == vectors(), "run `python -m tests.make_vectors`"


def test_each_vector_verifies_exactly_if_it_is_valid():
    cases = json.loads(VECTORS.read_text())["cases"]
    for case in cases:
        said = Claim(
            case["oldSize"],
            case["newSize"],
            bytes.fromhex(case["oldRoot"][2:]),
            bytes.fromhex(case["newRoot"][2:]),
            tuple(bytes.fromhex(node[2:]) for node in case["proof"]),
        )
        assert said.verifies() == case["valid"], case["name"]
    assert sum(case["valid"] for case in cases) == 42
    assert len(cases) > 400
