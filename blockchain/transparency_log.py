"""The Merkle tree of Certificate Transparency (RFC 9162, section 2.1), as ``Anchors`` verifies it.

An organization's ledger only ever grows, and a consistency proof shows it: the tree of a given
size and root begins with exactly the leaves of an earlier size and root. Hashes are SHA-256;
leaves and inner nodes have different prefixes, so that neither can be passed off as the other.

A root does not bind its size: some proofs also verify for other sizes, whose trees have the same
path. Whoever signs or stores a root therefore signs or stores its size beside it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

#: Root of a tree without leaves, the hash of nothing (RFC 9162, section 2.1.1).
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

#: Most hashes in a proof: any inclusion proof, and any consistency proof up to 2**63 leaves.
LONGEST_PROOF: Final = 64

_LEAF_PREFIX: Final = b"\x00"
_NODE_PREFIX: Final = b"\x01"

#: Sizes are 64-bit on the chain.
_SIZE_LIMIT: Final = 2**64


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of one leaf, ``SHA-256(0x00 || leaf)``: 32 bytes (RFC 9162, section 2.1.1)."""
    return hashlib.sha256(_LEAF_PREFIX + leaf).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Merkle tree hash over `leaves`, 32 bytes (RFC 9162, section 2.1.1).

    The RFC splits a tree at the largest power of two below its size; level by level, that is the
    tree in which a node without a sibling moves up unchanged.
    """
    level = [leaf_hash(leaf) for leaf in leaves]
    while len(level) > 1:
        level = _parents(level)
    return level[0] if level else EMPTY_ROOT


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Sibling hashes from leaf `index` up to the root (RFC 9162, section 2.1.3.1).

    Raises
    ------
    IndexError
        There is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of a tree with {len(leaves)} leaves")
    return list(_siblings([leaf_hash(leaf) for leaf in leaves], index))


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Hashes that show that `leaves` extend their first `old_size` (RFC 9162, section 2.1.4.1).

    They are the largest full subtree at the right edge of the old tree, and its siblings up to
    the new root. The subtree is left out where it is the whole old tree, whose root the verifier
    has; between equal sizes there is nothing to show, and the proof is empty.

    Raises
    ------
    ValueError
        The old size is not from 1 up to the number of leaves.
    """
    if not 1 <= old_size <= len(leaves):
        raise ValueError(
            f"old_size: expected 1 to {len(leaves)}, the number of leaves, got {old_size}"
        )
    if old_size == len(leaves):
        return []
    level = [leaf_hash(leaf) for leaf in leaves]
    index = old_size - 1
    while index & 1:
        level = _parents(level)
        index >>= 1
    start = [level[index]] if index else []
    return [*start, *_siblings(level, index)]


def verify_inclusion(
    leaf: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether `proof` shows that `leaf` stands at `index` (RFC 9162, section 2.1.3.2).

    A proof is taken as it comes from others, so a malformed one is simply not valid.

    Parameters
    ----------
    leaf : bytes
        The leaf itself. It is hashed here, so that no inner node can be passed off as one.
    index : int
        Position of the leaf, from 0.
    size : int
        Number of leaves of the tree.
    root : bytes
        Root of the tree, 32 bytes.
    proof : Sequence[bytes]
        Sibling hashes from the leaf up to the root.
    """
    if not _is_size(size) or not _is_size(index) or index >= size:
        return False
    if not isinstance(leaf, bytes) or not _is_hash(root) or not _is_proof(proof):
        return False
    node, last, current = index, size - 1, leaf_hash(leaf)
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            current = parent_hash(sibling, current)
            node, last = _up_to_a_right_child(node, last)
        else:
            current = parent_hash(current, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and current == root


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether `proof` shows that the new tree begins with the old (RFC 9162, section 2.1.4.2).

    A proof is taken as it comes from others, so a malformed one is simply not valid. The RFC
    defines proofs between two sizes of at least 1. Equal sizes need equal roots and no proof.

    Parameters
    ----------
    old_size, new_size : int
        Numbers of leaves of the two trees.
    old_root, new_root : bytes
        Roots of the two trees, 32 bytes each.
    proof : Sequence[bytes]
        What `consistency_proof` returns.
    """
    if not _is_size(old_size) or not _is_size(new_size) or not 0 < old_size <= new_size:
        return False
    if not _is_hash(old_root) or not _is_hash(new_root) or not _is_proof(proof):
        return False
    if old_size == new_size:
        return old_root == new_root and not proof
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    # A node that is now the leftmost one is the whole old tree: the proof leaves it out.
    path = list(proof) if node else [old_root, *proof]
    if not path:
        return False
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = parent_hash(sibling, old), parent_hash(sibling, new)
            node, last = _up_to_a_right_child(node, last)
        else:
            new = parent_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def _up_to_a_right_child(node: int, last: int) -> tuple[int, int]:
    """Follow the last node of its level up while it has no sibling (steps 4.b and 6.b of both)."""
    while node and not node & 1:
        node, last = node >> 1, last >> 1
    return node, last


def _siblings(level: list[bytes], index: int) -> Iterator[bytes]:
    while len(level) > 1:
        if index ^ 1 < len(level):
            yield level[index ^ 1]
        level = _parents(level)
        index >>= 1


def _parents(level: list[bytes]) -> list[bytes]:
    pairs = [parent_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs


def parent_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node, ``SHA-256(0x01 || left || right)``: 32 bytes (section 2.1.1)."""
    return hashlib.sha256(_NODE_PREFIX + left + right).digest()


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < _SIZE_LIMIT


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == 32


def _is_proof(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) <= LONGEST_PROOF
        and all(_is_hash(node) for node in value)
    )
