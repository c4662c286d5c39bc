"""The Merkle tree over cumulative rewards, from which each organization claims its own.

Inner nodes are those of :mod:`blockchain.merkle`. A leaf is one organization's sum over all rounds
so far, so that one proof against the newest root claims everything not yet claimed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from blockchain.merkle import HashTree, check_hash, leads_to, organization_id

_LEAF_TYPES: Final = ("bytes32", "bytes32", "uint256")


@dataclass(frozen=True)
class RewardLeaf:
    """What one organization has earned in a task so far.

    Parameters
    ----------
    task : bytes
        Id of the task, 32 bytes.
    organization : bytes
        `organization_id` of its name, 32 bytes.
    amount : int
        Wei, cumulative over the rounds; at least 1, for who earned nothing has no leaf.
    """

    task: bytes
    organization: bytes
    amount: int

    def __post_init__(self) -> None:
        check_hash(self.task, "reward leaf: task")
        check_hash(self.organization, "reward leaf: organization")
        if type(self.amount) is not int or not 1 <= self.amount < 2**256:
            raise ValueError(f"reward leaf: amount {self.amount!r}, expected 1 to 2**256 - 1 wei")

    def hash(self) -> bytes:
        """``keccak(keccak(abi.encode(task, organization, amount)))``: 32 bytes."""
        return keccak(keccak(encode(_LEAF_TYPES, (self.task, self.organization, self.amount))))


def reward_leaves(task: bytes, amounts: Mapping[str, int]) -> list[RewardLeaf]:
    """Leaves of all organizations that earned something, in the order of their ids.

    Parameters
    ----------
    task : bytes
        Id of the task, 32 bytes.
    amounts : mapping of str to int
        Cumulative wei by the organization's name, at least 0.
    """
    leaves = [
        RewardLeaf(task, organization_id(name), amount)
        for name, amount in amounts.items()
        if amount != 0
    ]
    return sorted(leaves, key=lambda leaf: leaf.organization)


class RewardTree:
    """The tree over leaves as `reward_leaves` gives them.

    Raises
    ------
    ValueError
        If they are of two tasks, or not in ascending order of the organizations.
    """

    def __init__(self, leaves: Sequence[RewardLeaf]) -> None:
        for before, after in pairwise(leaves):
            if before.task != after.task:
                raise ValueError("reward leaves of two tasks make no tree")
            if before.organization >= after.organization:
                raise ValueError(
                    "reward leaves stand out of order: expected ascending organizations"
                )
        self._positions = {leaf.organization: index for index, leaf in enumerate(leaves)}
        self._tree = HashTree([leaf.hash() for leaf in leaves])

    @property
    def root(self) -> bytes:
        """Merkle root, 32 bytes; zero exactly where nobody earned anything."""
        return self._tree.root

    def proof(self, organization: bytes) -> list[bytes]:
        """Sibling hashes from an organization's leaf up to the root.

        Raises
        ------
        KeyError
            If the organization has no leaf: it earned nothing.
        """
        try:
            return self._tree.proof(self._positions[organization])
        except KeyError:
            raise KeyError(f"organization 0x{organization.hex()} has no reward to prove") from None


def verify_reward(root: bytes, leaf: RewardLeaf, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that `leaf` stands under `root`; a malformed proof does not."""
    return leads_to(root, leaf.hash(), proof)
