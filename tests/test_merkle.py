"""The Merkle tree against a naive reference, and dozens of corruptions of every valid proof."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from blockchain import merkle
from blockchain.merkle import EMPTY_ROOT, Leaf, organization_id
from tests.chain_samples import digest, make_leaves

TASK = digest("task")
sizes = st.integers(1, 70)


def corruptions(leaf: Leaf, proof: list[bytes]) -> Iterator[tuple[str, Leaf, list[bytes]]]:
    """Everything that could be said instead of a leaf and its proof, each with a name."""
    for byte in range(0, 32, 3):
        flipped = bytes(b ^ (1 if i == byte else 0) for i, b in enumerate(leaf.digest))
        yield f"digest byte {byte} flipped", replace(leaf, digest=flipped), proof
    yield "digest zero", replace(leaf, digest=bytes(32)), proof
    yield "digest reversed", replace(leaf, digest=leaf.digest[::-1]), proof
    yield "digest hashed", replace(leaf, digest=keccak(leaf.digest)), proof
    yield "leaf's hash for its digest", replace(leaf, digest=leaf.hash()), proof
    yield "index after", replace(leaf, index=leaf.index + 1), proof
    yield "index of 32 bits", replace(leaf, index=2**32 - 1), proof
    yield "other verdict", replace(leaf, verdict=leaf.verdict ^ 1), proof
    yield "verdict of 16 bits", replace(leaf, verdict=2**16 - 1), proof
    yield "zero appended", leaf, [*proof, bytes(32)]
    yield "zero prepended", leaf, [bytes(32), *proof]
    yield "leaf itself appended", leaf, [*proof, leaf.hash()]
    yield "leaf itself prepended", leaf, [leaf.hash(), *proof]
    for i, sibling in enumerate(proof):
        rest = (proof[:i], proof[i + 1 :])
        yield f"sibling {i} removed", leaf, [*rest[0], *rest[1]]
        yield f"sibling {i} doubled", leaf, [*rest[0], sibling, sibling, *rest[1]]
        yield f"sibling {i} zero", leaf, [*rest[0], bytes(32), *rest[1]]
        yield f"sibling {i} hashed", leaf, [*rest[0], keccak(sibling), *rest[1]]
        flipped = bytes([sibling[0] ^ 0x80]) + sibling[1:]
        yield f"sibling {i} flipped", leaf, [*rest[0], flipped, *rest[1]]
    if len(proof) > 1:
        yield "proof reversed", leaf, proof[::-1]
        yield "two siblings swapped", leaf, [proof[1], proof[0], *proof[2:]]


def reference_root(hashes: list[bytes]) -> bytes:
    """The same tree, by recursion: a left half as large as a full tree can be."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    left, right = sorted([reference_root(hashes[:half]), reference_root(hashes[half:])])
    return keccak(left + right)


@given(sizes)
def test_the_root_is_the_one_of_a_naive_recursion(size):
    leaves = make_leaves(TASK, 1, size)
    assert merkle.root(leaves) == reference_root([leaf.hash() for leaf in leaves])


@given(sizes, st.data())
def test_every_leaf_of_a_tree_is_proven(size, data):
    leaves = make_leaves(TASK, 1, size)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.proof(leaves, index)
    assert merkle.verify(merkle.root(leaves), leaves[index], proof)
    assert len(proof) <= (size - 1).bit_length()


@given(sizes)
def test_a_tree_gives_the_proof_of_every_leaf_that_is_asked_for_alone(size):
    leaves = make_leaves(TASK, 1, size)
    tree = merkle.tree(leaves)
    assert [tree.proof(i) for i in range(size)] == [merkle.proof(leaves, i) for i in range(size)]
    assert all(merkle.verify(tree.root, leaf, tree.proof(leaf.index)) for leaf in leaves)


def test_all_proofs_of_a_tree_cost_no_more_hashes_than_its_root(monkeypatch):
    hashed = []
    monkeypatch.setattr(merkle, "keccak", lambda data: hashed.append(data) or keccak(data))
    leaves = make_leaves(TASK, 1, 50)
    tree = merkle.tree(leaves)
    for index in range(50):
        tree.proof(index)
    assert len(hashed) == 2 * 50 + 49


@given(sizes, st.data())
def test_no_corruption_of_a_valid_proof_verifies(size, data):
    leaves = make_leaves(TASK, 1, size)
    index = data.draw(st.integers(0, size - 1))
    root, proof = merkle.root(leaves), merkle.proof(leaves, index)
    for name, leaf, siblings in corruptions(leaves[index], proof):
        assert (leaf, siblings) != (leaves[index], proof), name
        assert not merkle.verify(root, leaf, siblings), name


def test_a_proof_has_dozens_of_corruptions():
    leaves = make_leaves(TASK, 1, 8)
    names = [name for name, _, _ in corruptions(leaves[3], merkle.proof(leaves, 3))]
    assert len(names) == len(set(names)) >= 40


@given(st.integers(2, 40), st.data())
def test_a_proof_is_not_valid_for_another_leaf_or_another_root(size, data):
    leaves = make_leaves(TASK, 1, size)
    one, other = data.draw(st.permutations(range(size)))[:2]
    root, proof = merkle.root(leaves), merkle.proof(leaves, one)
    assert not merkle.verify(root, leaves[other], proof)
    assert not merkle.verify(merkle.root(leaves[:-1]), leaves[one], proof)


def test_the_64_bytes_of_an_inner_node_are_no_leaf():
    leaves = make_leaves(TASK, 1, 4)
    hashes = [leaf.hash() for leaf in leaves]
    content = b"".join(sorted([reference_root(hashes[:2]), reference_root(hashes[2:])]))
    assert keccak(content) == merkle.root(leaves)
    # A leaf is three words, and hashed twice: nothing that can be said in it is an inner node.
    number = int.from_bytes(content[60:64])
    for digest_of in (content[:32], content[32:], keccak(content)):
        forged = Leaf(digest_of, number, number % 2**16)
        assert not merkle.verify(merkle.root(leaves), forged, [])


@pytest.mark.parametrize("sibling", [b"", bytes(31), bytes(33), bytes(64), "0" * 32, None])
def test_a_malformed_sibling_is_not_valid(sibling):
    leaves = make_leaves(TASK, 1, 2)
    assert not merkle.verify(merkle.root(leaves), leaves[0], [sibling])


def test_a_proof_deeper_than_any_tree_is_not_valid():
    node = (leaf := make_leaves(TASK, 1, 1)[0]).hash()
    proof = [digest(f"sibling {i}") for i in range(33)]
    for depth, sibling in enumerate(proof, 1):
        node = keccak(b"".join(sorted([node, sibling])))
        assert merkle.verify(node, leaf, proof[:depth]) == (depth <= 32)


def test_a_tree_without_leaves_has_the_zero_root_and_holds_nothing():
    assert merkle.root([]) == EMPTY_ROOT == bytes(32)
    assert not merkle.verify(EMPTY_ROOT, make_leaves(TASK, 1, 1)[0], [])
    with pytest.raises(IndexError):
        merkle.proof([], 0)


def test_leaves_out_of_place_make_no_tree():
    leaves = make_leaves(TASK, 1, 3)
    with pytest.raises(ValueError, match="stands at position"):
        merkle.root(leaves[::-1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("digest", bytes(31)),
        ("digest", bytes(33)),
        ("digest", "0" * 32),
        ("index", -1),
        ("index", 2**32),
        ("verdict", 2**16),
        ("verdict", True),
    ],
)
def test_a_leaf_with_a_field_of_the_wrong_size_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        replace(make_leaves(TASK, 1, 1)[0], **{field: value})


def test_leaf_hashes_and_organization_ids_are_pinned():
    leaf = Leaf(bytes([1]) * 32, 3, 2)
    assert (
        organization_id("cinema").hex()
        == "012bd4f74e70a501222e20ab655e7aee8020248537d00246b81431f23a2f1488"
    )
    assert leaf.hash().hex() == "6f5009d805716b47a8934d75c798c6cf84fd018664fd6d76a5724fe26abce5c3"


def test_the_vectors_that_the_contract_is_held_to_are_those_of_this_code():
    from tests.make_vectors import INCLUSION_VECTORS, inclusion_vectors

    assert INCLUSION_VECTORS.read_text() == inclusion_vectors(), (
        "run `python -m tests.make_vectors`"
    )
