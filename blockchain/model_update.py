"""What an organization signs for a round, as EIP-712 typed data.

The signed struct binds the update's commitment to task, round, organization, parent adapter and
terms, and by its domain to one contract on one chain: a signature says one thing in one place.

The commitment is salted, for it stands in manifests and on a public chain; salt and payload are
kept apart from it, in files that can be erased.
"""

from dataclasses import dataclass
from typing import Final

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_keys.constants import SECPK1_N
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_typing import Hash32
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from blockchain.merkle import check_hash

#: EIP-712, "Definition of encodeType".
MODEL_UPDATE_TYPE: Final = (
    "ModelUpdate(bytes32 task,uint64 round,bytes32 organization,bytes32 parentAdapter,"
    "bytes32 terms,bytes32 commitment,uint32 numExamples,uint64 deadline)"
)
_TYPE_HASH: Final = keccak(MODEL_UPDATE_TYPE.encode())
_DOMAIN_TYPE_HASH: Final = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_DOMAIN_NAME: Final = keccak(b"Foedus Rounds")
_DOMAIN_VERSION: Final = keccak(b"1")

#: Bytes of a commitment's salt: guessing an update from its commitment needs guessing this.
SALT_BYTES: Final = 32


class SignatureError(ValueError):
    """A signature is malformed, or another key's than it should be."""


@dataclass(frozen=True)
class Domain:
    """Where a signature counts.

    Parameters
    ----------
    chain_id : int
        The chain.
    contract : str
        Address of the contract, ``0x`` and hexadecimal.
    """

    chain_id: int
    contract: str

    def separator(self) -> bytes:
        """Return EIP-712's domain separator, 32 bytes."""
        return keccak(
            encode(
                ("bytes32", "bytes32", "bytes32", "uint256", "address"),
                (
                    _DOMAIN_TYPE_HASH,
                    _DOMAIN_NAME,
                    _DOMAIN_VERSION,
                    _checked_integer("chain_id", self.chain_id, 256),
                    to_canonical_address(self.contract),
                ),
            )
        )


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
        :func:`commitment` to the update, 32 bytes.
    num_examples : int
        Records used, 32 bits.
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
            _checked_integer(field, getattr(self, field), bits)

    def digest(self, domain: Domain) -> bytes:
        """Return what is signed: EIP-712's ``keccak(0x1901 || separator || hashStruct)``."""
        struct = keccak(
            encode(
                (
                    *("bytes32", "bytes32", "uint64", "bytes32", "bytes32"),
                    *("bytes32", "bytes32", "uint32", "uint64"),
                ),
                (
                    _TYPE_HASH,
                    self.task,
                    self.round,
                    self.organization,
                    self.parent_adapter,
                    self.terms,
                    self.commitment,
                    self.num_examples,
                    self.deadline,
                ),
            )
        )
        return keccak(b"\x19\x01" + domain.separator() + struct)


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
    _checked_integer("num_examples", num_examples, 32)
    check_hash(salt, "salt")
    return keccak(encode(("bytes32", "uint32", "bytes32"), (update_hash, num_examples, salt)))


def sign(update: ModelUpdate, domain: Domain, account: LocalAccount) -> bytes:
    """Sign an update.

    Returns
    -------
    bytes
        ``r || s || v``, 65 bytes, the same for the same input (RFC 6979), with s in the lower half
        of the group's order and v 27 or 28.
    """
    signed = account.unsafe_sign_hash(Hash32(update.digest(domain)))
    return signed.r.to_bytes(32) + signed.s.to_bytes(32) + signed.v.to_bytes(1)


def signer(update: ModelUpdate, domain: Domain, signature: bytes) -> str:
    """Return the address whose key made a signature, checksummed.

    What OpenZeppelin's ``ECDSA`` refuses is refused here too: another length, a ``v`` other than
    27 and 28, and the mirrored signature with s in the upper half (EIP-2), which anyone can make
    of a valid one.

    Raises
    ------
    SignatureError
        If it is malformed. A well-formed signature of another struct gives another address.
    """
    if not isinstance(signature, bytes) or len(signature) != 65:
        given = f"{len(signature)} bytes" if isinstance(signature, bytes) else "no bytes"
        raise SignatureError(f"a signature of {given}, expected 65")
    if signature[64] not in (27, 28):
        raise SignatureError(f"a signature with v = {signature[64]}, expected 27 or 28")
    if int.from_bytes(signature[32:64]) > SECPK1_N // 2:
        raise SignatureError("a signature with s in the upper half, expected the lower")
    r, s, v = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64]), signature[64] - 27
    try:
        key = Signature(vrs=(v, r, s)).recover_public_key_from_msg_hash(update.digest(domain))
    except BadSignature:
        raise SignatureError("no key can have made this signature") from None
    return str(key.to_checksum_address())


def check_signed_by(update: ModelUpdate, domain: Domain, signature: bytes, address: str) -> None:
    """Make sure that an update was signed with the key of an address.

    Raises
    ------
    SignatureError
        If it was not.
    """
    recovered = signer(update, domain, signature)
    if recovered != to_checksum_address(address):
        raise SignatureError(f"signed by {recovered}, expected {to_checksum_address(address)}")


def _checked_integer(name: str, value: int, bits: int) -> int:
    if type(value) is not int or not 0 <= value < 2**bits:
        raise ValueError(f"{name}: {value!r}, expected a whole number of {bits} bits")
    return value
