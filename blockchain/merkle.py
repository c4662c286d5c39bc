"""The Merkle tree over a round's updates, as the contract ``Rounds`` verifies it.

One leaf for each signed update that reached the coordinator, accepted or not. Leaves are hashed
twice, so that the 64 bytes of an inner node can never be passed off as a leaf; inner nodes are the
keccak-256 of their two children in ascending order, as OpenZeppelin's ``MerkleProof`` computes
them; a node without a sibling moves up unchanged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

#: Verdict of an update that counts; every other verdict is the code of why it does not.
ACCEPTED: Final = 0

#: Root of a tree without leaves.
EMPTY_ROOT: Final = bytes(32)

_LEAF_TYPES: Final = ("bytes32", "uint32", "uint16")

#: A tree of at most 2**32 leaves is no deeper than this.
_LONGEST_PROOF: Final = 32


def organization_id(name: str) -> bytes:
    """Identify an organization on the chain: keccak-256 (32 bytes) of its name in UTF-8."""
    if not name:
        raise ValueError("an organization needs a name, got an empty one")
    return keccak(name.encode())


@dataclass(frozen=True)
class Leaf:
    """One signed update of a round, and what became of it.

    Parameters
    ----------
    digest : bytes
        What the organization signed, 32 bytes: see `blockchain.model_update.ModelUpdate`. It binds
        task, round, organization and update.
    index : int
        Position in the tree, from 0.
    verdict : int
        `ACCEPTED`, or the code of the rejection, at most 65535; the manifest says what it means.
    """

    digest: bytes
    index: int
    verdict: int

    def __post_init__(self) -> None:
        check_hash(self.digest, f"leaf {self.index}: digest")
        for field, bits in (("index", 32), ("verdict", 16)):
            value = getattr(self, field)
            if type(value) is not int or not 0 <= value < 2**bits:
                raise ValueError(f"leaf: {field} must be an integer of {bits} bits, got {value!r}")

    def hash(self) -> bytes:
        """``keccak(keccak(abi.encode(digest, index, verdict)))``: 32 bytes."""
        return keccak(keccak(encode(_LEAF_TYPES, (self.digest, self.index, self.verdict))))


class HashTree:
    """A tree whose every level is kept: made once, each of its proofs costs only its own length.

    Parameters
    ----------
    hashes : sequence of bytes
        Hashes of the leaves, 32 bytes each, in their order.
    """

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self._levels = [list(hashes)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_parents(self._levels[-1]))

    @property
    def root(self) -> bytes:
        """The root, 32 bytes; `EMPTY_ROOT` where there are no leaves."""
        top = self._levels[-1]
        return top[0] if top else EMPTY_ROOT

    def proof(self, index: int) -> list[bytes]:
        """Sibling hashes from leaf `index` up to the root, at most ``ceil(log2(n))`` of them.

        Raises
        ------
        IndexError
            If there is no such leaf.
        """
        leaves = len(self._levels[0])
        if not 0 <= index < leaves:
            raise IndexError(f"leaf {index} of a tree with {leaves} leaves")
        siblings = []
        for level in self._levels[:-1]:
            # A node without a sibling moves up unchanged.
            if index ^ 1 < len(level):
                siblings.append(level[index ^ 1])
            index //= 2
        return siblings


def tree(leaves: Sequence[Leaf]) -> HashTree:
    """Return the tree over `leaves`; `ValueError` where one stands elsewhere than it says."""
    for position, leaf in enumerate(leaves):
        if leaf.index != position:
            raise ValueError(f"leaf {leaf.index} stands at position {position} of its tree")
    return HashTree([leaf.hash() for leaf in leaves])


def root(leaves: Sequence[Leaf]) -> bytes:
    """Merkle root over `leaves`, 32 bytes; `EMPTY_ROOT` where there are none."""
    return tree(leaves).root


def proof(leaves: Sequence[Leaf], index: int) -> list[bytes]:
    """Sibling hashes from leaf `index` up to the root; for many leaves, ask one `tree`."""
    return tree(leaves).proof(index)


def verify(root: bytes, leaf: Leaf, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that `leaf` stands under `root`.

    It does not know the number of leaves: whoever has it checks that the index lies below it.
    A proof is taken as it comes from others, so a malformed one is simply not valid.
    """
    return leads_to(root, leaf.hash(), proof)


def leads_to(root: bytes, node: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` leads from a leaf's hash, 32 bytes, to `root`; see `verify`."""
    if len(proof) > _LONGEST_PROOF or root == EMPTY_ROOT:
        return False
    for sibling in proof:
        if not isinstance(sibling, bytes) or len(sibling) != 32:
            return False
        node = _parent(node, sibling)
    return node == root


def check_hash(value: bytes, name: str) -> bytes:
    """Return `value` if it is 32 bytes; what is shorter would be padded by the ABI encoder."""
    if not isinstance(value, bytes) or len(value) != 32:
        given = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
        raise ValueError(f"{name}: expected 32 bytes, got {given}")
    return value


def _parents(level: Sequence[bytes]) -> list[bytes]:
    pairs = [_parent(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs


def _parent(left: bytes, right: bytes) -> bytes:
    return keccak(left + right if left < right else right + left)
