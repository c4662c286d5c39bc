"""Tasks and rounds as the contract ``Rounds`` holds them."""

from dataclasses import dataclass
from enum import IntEnum

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from blockchain.merkle import check_hash
from blockchain.sender import TransactionReceipt


class Phase(IntEnum):
    """Phase of a round; it only ever moves forward. Numbered as in the contract."""

    NONE = 0
    OPEN = 1
    VOID = 2
    SEALED = 3
    DISPUTED = 4
    FINAL = 5

    @property
    def has_result(self) -> bool:
        """Whether the round was sealed, whatever became of it since."""
        return self >= Phase.SEALED


@dataclass(frozen=True)
class DisputeTerms:
    """What a task says about omissions, for good.

    Parameters
    ----------
    challenge_window : int
        Seconds after a seal in which an omission may be challenged.
    response_window : int
        Seconds after that in which a challenge may be answered.
    bond : int
        Wei that a challenge costs until it is settled.
    """

    challenge_window: int
    response_window: int
    bond: int


@dataclass(frozen=True)
class TaskRecord:
    """A task as it stands on the chain; every hash has 32 bytes.

    The next round builds on ``head_round``. Rounds up to ``branch_start`` that are not final were
    left behind by a dispute.
    """

    task: bytes
    coordinator: str
    terms: bytes
    genesis_adapter: bytes
    challenge_window: int
    response_window: int
    bond: int
    last_round: int
    head_round: int
    last_final_round: int
    branch_start: int
    head_adapter: bytes
    opened_block: int


@dataclass(frozen=True)
class RoundRecord:
    """A round as it stands on the chain; every hash has 32 bytes, zero where not yet set.

    ``record`` folds the manifest's hash, the rewards' root and their total (`record_digest`);
    ``closed_at`` is in seconds since the epoch.
    """

    task: bytes
    round: int
    phase: Phase
    parent_round: int
    parent_adapter: bytes
    leaf_count: int
    updates_root: bytes
    adapter_hash: bytes
    record: bytes
    scores: bytes
    opened_block: int
    closed_block: int
    closed_at: int
    open_challenges: int


@dataclass(frozen=True)
class Seal:
    """What a round is sealed with.

    Parameters
    ----------
    updates_root : bytes
        Root over the round's leaves, as `merkle.root` computes it, 32 bytes.
    leaf_count : int
        Number of leaves; 0 exactly when the root is zero.
    adapter_hash : bytes
        Hash of the new global adapter, 32 bytes.
    manifest_hash : bytes
        Hash of the round's manifest, 32 bytes.
    rewards_root : bytes
        Root over what each organization has earned so far, 32 bytes; zero while that is nothing.
    rewards_total : int
        The sum of it, wei.
    """

    updates_root: bytes
    leaf_count: int
    adapter_hash: bytes
    manifest_hash: bytes
    rewards_root: bytes = bytes(32)
    rewards_total: int = 0

    def __post_init__(self) -> None:
        for field in ("updates_root", "adapter_hash", "manifest_hash", "rewards_root"):
            check_hash(getattr(self, field), field)

    @property
    def record(self) -> bytes:
        """The digest of manifest and rewards that the chain stores."""
        return record_digest(self.manifest_hash, self.rewards_root, self.rewards_total)


@dataclass(frozen=True)
class OpenedTask:
    """Id of a task (32 bytes), and the receipt of the transaction that opened it."""

    task: bytes
    receipt: TransactionReceipt


def record_digest(manifest_hash: bytes, rewards_root: bytes, rewards_total: int) -> bytes:
    """``keccak(abi.encode(manifestHash, rewardsRoot, rewardsTotal))``: one word for three."""
    values = (manifest_hash, rewards_root, rewards_total)
    return keccak(encode(("bytes32", "bytes32", "uint256"), values))
