"""The one place where a private ledger's bytes are made: leaves, commitments, and what is signed.

A record's leaf is canonical JSON (`blockchain.canonical`), hashed into the RFC 9162 tree. What
members sign is EIP-712 typed data under a domain of the organization's own: name ``Foedus Ledger``,
chain 0, and the organization's address at the ledger's genesis in the contract's place. So no
signature counts in another organization's ledger, nor on any chain.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from pydantic import BaseModel, ConfigDict, ValidationError

from blockchain.canonical import canonical_json, hash_json
from blockchain.private.errors import RecordRefusedError
from blockchain.private.record_fields import Address, Hash, Number, Part, Slug
from blockchain.private.record_types import (
    Genesis,
    Member,
    Role,
    check_parts,
    first_fault,
    read_body,
)
from blockchain.private.sealing import member_private_key, public_key
from blockchain.typed_data import Domain, digest, sign_digest

#: Of blocks and leaves.
VERSION: Final = 1

BLOCK_TYPE: Final = (
    "Block(uint32 version,bytes32 ledger,uint64 height,bytes32 previous,uint64 size,bytes32 root,"
    "bytes32 policy,uint64 time,address author)"
)
ENDORSEMENT_TYPE: Final = "Endorsement(bytes32 ledger,uint64 record,bytes32 leaf,bytes32 role)"
MEMBER_KEY_TYPE: Final = "MemberKey(address member,bytes32 encryption)"

#: Leaf of a data set where a record was forgotten. No commitment is as long as this.
TOMBSTONE_LEAF: Final = b"foedus.ledger.tombstone.v1"

_DOMAIN_NAME: Final = "Foedus Ledger"
_PAYLOAD_TAG: Final = b"foedus.ledger.payload.v1"
_ENTRY_TAG: Final = b"foedus.ledger.entry.v1"
_NOBODY: Final = "0x" + "00" * 20


class Sealed(BaseModel):
    """A payload as its leaf knows it.

    Parameters
    ----------
    commitment : str
        `payload_commitment`, 32 bytes.
    ciphertext : str
        SHA-256 over nonce and ciphertext, 32 bytes: whoever cannot read it sees that it is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    commitment: Hash
    ciphertext: Hash


class Leaf(BaseModel):
    """One record, as the tree holds it for good.

    Parameters
    ----------
    version : int
        Of this encoding.
    ledger : str
        Id of the ledger, 32 bytes.
    record : int
        Number of the record, from 0.
    type : str
        Its type (`blockchain.private.record_types`).
    time : int
        Second since the epoch, by the author's clock.
    author : str
        Address of the member who wrote it.
    role : Role
        As what.
    body : dict or None
        What every member reads.
    sealed : Sealed or None
        Its payload.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Number
    ledger: Hash
    record: Number
    type: Slug
    time: Number
    author: Address
    role: Role
    body: dict[str, Any] | None
    sealed: Sealed | None

    def encoded(self) -> bytes:
        """Return the leaf's bytes."""
        return canonical_json(self.model_dump(mode="json"))

    def part(self) -> Part | None:
        """Return the body as what it is; `RecordRefusedError` for a malformed one."""
        return None if self.body is None else read_body(self.type, canonical_json(self.body))


def read_leaf(encoded: bytes) -> Leaf:
    """Read a leaf strictly.

    Raises
    ------
    RecordRefusedError
        It is malformed, of an unknown type, not canonical, or its body is.
    """
    try:
        leaf = Leaf.model_validate_json(encoded)
    except ValidationError as error:
        raise RecordRefusedError(first_fault(error, "leaf")) from None
    if leaf.version != VERSION:
        raise RecordRefusedError(f"version: {leaf.version}, expected {VERSION}")
    check_parts(leaf.type, body=leaf.body is not None, payload=leaf.sealed is not None)
    try:
        canonical = leaf.encoded()
    except (TypeError, ValueError) as error:
        raise RecordRefusedError(f"leaf: {error}") from error
    if canonical != encoded:
        raise RecordRefusedError("leaf: not in canonical form")
    leaf.part()
    return leaf


@dataclass(frozen=True)
class Block:
    """Some records, signed by the member who wrote them.

    Parameters
    ----------
    version : int
        Of this encoding.
    ledger : bytes
        Id of the ledger, 32 bytes.
    height : int
        Blocks before this one.
    previous : bytes
        Digest of the block before, 32 bytes; zeros for the first.
    size : int
        Records of the ledger up to and with this block.
    root : bytes
        RFC 9162 root over them, 32 bytes.
    policy : bytes
        Hash of the policy in force for this block, 32 bytes.
    time : int
        Second since the epoch, by the author's clock; no block is older than its predecessor.
    author : str
        Address of the member who signs.
    """

    version: int
    ledger: bytes
    height: int
    previous: bytes
    size: int
    root: bytes
    policy: bytes
    time: int
    author: str

    def digest(self, domain: Domain) -> bytes:
        """Return what is signed, 32 bytes; `ValueError` for a field of another size."""
        return digest(domain, BLOCK_TYPE, asdict(self))


def ledger_domain(address: str) -> Domain:
    """Return where signatures of a ledger count: at the organization of this genesis address."""
    return Domain(0, address, _DOMAIN_NAME)


def ledger_id(genesis: Genesis) -> bytes:
    """Return the id of the ledger that begins so, 32 bytes."""
    return hash_json(genesis.model_dump(mode="json"))


def payload_commitment(salt: bytes, payload: bytes) -> bytes:
    """Commit to a payload: SHA-256 over ``tag || salt || payload``, 32 bytes.

    Hiding as long as the salt (32 random bytes) is not known, and it is erased with the payload.
    """
    return hashlib.sha256(_PAYLOAD_TAG + salt + payload).digest()


def entry_commitment(salt: bytes, record_id: str, record_digest: bytes) -> bytes:
    """Commit to one record of the training set: SHA-256 over ``tag || salt || digest || id``.

    Parameters
    ----------
    salt : bytes
        32 random bytes.
    record_id : str
        The record's id.
    record_digest : bytes
        Hash of its content, 32 bytes.

    Returns
    -------
    bytes
        32 bytes.
    """
    return hashlib.sha256(_ENTRY_TAG + salt + record_digest + record_id.encode()).digest()


def ciphertext_hash(nonce: bytes, ciphertext: bytes) -> bytes:
    """Return what a leaf holds of a ciphertext, 32 bytes."""
    return hashlib.sha256(nonce + ciphertext).digest()


def endorsement_digest(
    domain: Domain, ledger: bytes, record: int, leaf: bytes, role: Role
) -> bytes:
    """Return what a member signs who stands behind a record, 32 bytes.

    Parameters
    ----------
    domain : Domain
        The ledger's.
    ledger : bytes
        Id of the ledger, 32 bytes.
    record : int
        Number of the record.
    leaf : bytes
        Hash of its leaf, 32 bytes.
    role : Role
        As what the member stands behind it.
    """
    values = {"ledger": ledger, "record": record, "leaf": leaf, "role": keccak(text=role.value)}
    return digest(domain, ENDORSEMENT_TYPE, values)


def member_key_digest(address: str, encryption: bytes) -> bytes:
    """Return what a member signs to say that a key is its own, 32 bytes; in no ledger alone."""
    values = {"member": address, "encryption": encryption}
    return digest(ledger_domain(_NOBODY), MEMBER_KEY_TYPE, values)


def member_of(account: LocalAccount, *roles: Role) -> Member:
    """Return an account as a member with these roles."""
    encryption = public_key(member_private_key(account))
    proof = sign_digest(member_key_digest(account.address, encryption), account)
    return Member(
        address=account.address,
        roles=tuple(sorted(roles)),
        encryption=encryption.hex(),
        proof=proof.hex(),
    )
