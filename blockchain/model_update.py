"""What is signed about a round, as EIP-712 typed data under the contract ``Rounds``.

An organization signs a `ModelUpdate`: it binds the update's commitment to task, round,
organization, parent adapter and terms, and by its domain to one contract on one chain, so that a
signature says one thing in one place. The coordinator signs that it received it, attestors sign
what a round came to.

The commitment is salted, for it stands in manifests and on a public chain; salt and payload are
kept apart from it, in files that can be erased.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from blockchain.merkle import check_hash
from blockchain.typed_data import Domain, check_integer, digest

MODEL_UPDATE_TYPE: Final = (
    "ModelUpdate(bytes32 task,uint64 round,bytes32 organization,bytes32 parentAdapter,"
    "bytes32 terms,bytes32 commitment,uint32 numExamples,uint64 deadline)"
)
RECEIPT_TYPE: Final = "Receipt(bytes32 update)"
ATTESTATION_TYPE: Final = (
    "Attestation(bytes32 task,uint64 round,bytes32 organization,bytes32 updatesRoot,"
    "bytes32 adapter,bytes32 record,bytes32 scores)"
)

#: Bytes of a commitment's salt: guessing an update from its commitment needs guessing this.
SALT_BYTES: Final = 32

#: What stands for a commitment in a `ModelUpdate` that declines a round: public, and opened by
#: nothing, for no hash and salt are known that commit to it. Declining thus is a signed update of
#: the same EIP-712 type, which receipts, submissions, challenges and leaves take as it is; a type
#: of its own would be unknown to contracts that nobody can change.
DECLINED: Final = keccak(b"foedus: nothing was trained")


@dataclass(frozen=True)
class ModelUpdate:
    """One organization's word on one round.

    Parameters
    ----------
    task : bytes
        Id of the task, 32 bytes.
    round : int
        The round, 64 bits.
    organization : bytes
        :func:`blockchain.merkle.organization_id` of its name, 32 bytes.
    parent_adapter : bytes
        Canonical hash of the adapter it trained from, 32 bytes.
    terms : bytes
        Hash of the terms it trained under, 32 bytes.
    commitment : bytes
        :func:`commitment` to the update, 32 bytes; `DECLINED` where there is none.
    num_examples : int
        Records used, 32 bits; 0 where the round is declined.
    deadline : int
        Seconds since the epoch after which the contract no longer takes it, 64 bits.

    Raises
    ------
    ValueError
        If a field has not its size: encoders pad what is shorter, and would sign something else.
    """

    task: bytes
    round: int
    organization: bytes
    parent_adapter: bytes
    terms: bytes
    commitment: bytes
    num_examples: int
    deadline: int

    def __post_init__(self) -> None:
        for field in ("task", "organization", "parent_adapter", "terms", "commitment"):
            check_hash(getattr(self, field), field)
        for field, bits in (("round", 64), ("num_examples", 32), ("deadline", 64)):
            check_integer(field, getattr(self, field), bits)

    def digest(self, domain: Domain) -> bytes:
        """Return what the organization signs, 32 bytes."""
        return digest(domain, MODEL_UPDATE_TYPE, self.values())

    @property
    def declines(self) -> bool:
        """Whether it says that its organization trained nothing in the round."""
        return self.num_examples == 0 and self.commitment == DECLINED

    def values(self) -> dict[str, Any]:
        """Return the fields under the names and in the order of the contract's struct."""
        return {_camel(name): value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Attestation:
    """One attestor's word on a sealed round: it recomputed the aggregate and scored the updates.

    Parameters
    ----------
    task : bytes
        Id of the task, 32 bytes.
    round : int
        The sealed round.
    organization : bytes
        Id of the attestor, 32 bytes.
    updates_root, adapter, record : bytes
        What the round was sealed with, 32 bytes each.
    scores : bytes
        Hash of the contribution scores, 32 bytes.
    """

    task: bytes
    round: int
    organization: bytes
    updates_root: bytes
    adapter: bytes
    record: bytes
    scores: bytes

    def digest(self, domain: Domain) -> bytes:
        """Return what the attestor signs, 32 bytes."""
        values = {_camel(name): value for name, value in asdict(self).items()}
        return digest(domain, ATTESTATION_TYPE, values)


def receipt_digest(update: bytes, domain: Domain) -> bytes:
    """Return what the coordinator signs to say that it has a signed update and its payload.

    Parameters
    ----------
    update : bytes
        Digest of the `ModelUpdate`, 32 bytes.
    """
    return digest(domain, RECEIPT_TYPE, {"update": update})


def commitment(update_hash: bytes, num_examples: int, salt: bytes) -> bytes:
    """Commit to an update and the number of records behind it.

    Parameters
    ----------
    update_hash : bytes
        Canonical hash of the update, 32 bytes.
    num_examples : int
        Records used, 32 bits.
    salt : bytes
        Random, 32 bytes, new for every update.

    Returns
    -------
    bytes
        ``keccak(abi.encode(updateHash, numExamples, salt))``, 32 bytes.
    """
    check_hash(update_hash, "update_hash")
    check_integer("num_examples", num_examples, 32)
    check_hash(salt, "salt")
    return keccak(encode(("bytes32", "uint32", "bytes32"), (update_hash, num_examples, salt)))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
