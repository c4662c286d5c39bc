"""Signing structs as EIP-712 typed data, and finding out who signed.

``encode_typed_data`` of eth-account accepts fields that the type does not have and pads hashes that
are too short; here every value must have exactly the size that its type says.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_keys.constants import SECPK1_N
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_typing import Hash32
from eth_utils.address import is_address, to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from blockchain.merkle import check_hash

_DOMAIN_TYPE_HASH: Final = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_DOMAIN_VERSION: Final = keccak(b"1")


class SignatureError(ValueError):
    """A signature is malformed, or another key's than it should be."""


@dataclass(frozen=True)
class Domain:
    """Where a signature counts: one contract on one chain.

    Parameters
    ----------
    chain_id : int
        The chain.
    contract : str
        Address of the contract, ``0x`` and hexadecimal.
    name : str
        Name of the domain, as the contract's constructor gives it.
    """

    chain_id: int
    contract: str
    name: str = "Foedus Rounds"

    def separator(self) -> bytes:
        """Return EIP-712's domain separator, 32 bytes."""
        return _separator(self)


def digest(domain: Domain, type_string: str, values: Mapping[str, Any]) -> bytes:
    """Return what is signed: EIP-712's ``keccak(0x1901 || separator || hashStruct)``.

    Parameters
    ----------
    domain : Domain
        Where the signature counts.
    type_string : str
        EIP-712's ``encodeType`` of a struct of ``bytes32``, ``uint`` and ``address`` fields.
    values : mapping of str to object
        The struct's fields, no more and no fewer.

    Returns
    -------
    bytes
        32 bytes.

    Raises
    ------
    ValueError
        If a field is missing, surplus, or has not its type's size.
    """
    fields = _fields(type_string)
    if values.keys() != fields.keys():
        differing = ", ".join(sorted(values.keys() ^ fields.keys()))
        raise ValueError(f"{type_string.partition('(')[0]}: missing or surplus: {differing}")
    checked = [_checked(name, kind, values[name]) for name, kind in fields.items()]
    struct = keccak(encode(("bytes32", *fields.values()), (keccak(type_string.encode()), *checked)))
    return keccak(b"\x19\x01" + domain.separator() + struct)


def sign_digest(digest: bytes, account: LocalAccount) -> bytes:
    """Sign a digest.

    Returns
    -------
    bytes
        ``r || s || v``, 65 bytes, the same for the same input (RFC 6979), with s in the lower half
        of the group's order and v 27 or 28.
    """
    signed = account.unsafe_sign_hash(Hash32(check_hash(digest, "digest")))
    return signed.r.to_bytes(32) + signed.s.to_bytes(32) + signed.v.to_bytes(1)


def recover(digest: bytes, signature: bytes) -> str:
    """Return the address whose key made a signature over a digest, checksummed.

    What OpenZeppelin's ``ECDSA`` refuses is refused here too: another length, a ``v`` other than
    27 and 28, and the mirrored signature with s in the upper half (EIP-2), which anyone can make
    of a valid one.

    Raises
    ------
    SignatureError
        If it is malformed. A well-formed signature of another digest gives another address.
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
        key = Signature(vrs=(v, r, s)).recover_public_key_from_msg_hash(digest)
    except BadSignature:
        raise SignatureError("no key can have made this signature") from None
    return str(key.to_checksum_address())


def check_signer(digest: bytes, signature: bytes, *addresses: str) -> None:
    """Make sure that a digest was signed with the key of one of the addresses.

    Raises
    ------
    SignatureError
        If it was not.
    """
    recovered = recover(digest, signature)
    expected = [to_checksum_address(address) for address in addresses]
    if recovered not in expected:
        raise SignatureError(f"signed by {recovered}, expected {' or '.join(expected) or 'nobody'}")


def check_integer(name: str, value: int, bits: int) -> int:
    """Return `value` if it is a whole number of so many bits.

    Raises
    ------
    ValueError
        If it is not.
    """
    if type(value) is not int or not 0 <= value < 2**bits:
        raise ValueError(f"{name}: {value!r}, expected a whole number of {bits} bits")
    return value


@functools.lru_cache(maxsize=64)
def _separator(domain: Domain) -> bytes:
    return keccak(
        encode(
            ("bytes32", "bytes32", "bytes32", "uint256", "address"),
            (
                _DOMAIN_TYPE_HASH,
                keccak(domain.name.encode()),
                _DOMAIN_VERSION,
                check_integer("chain_id", domain.chain_id, 256),
                to_canonical_address(domain.contract),
            ),
        )
    )


@functools.cache
def _fields(type_string: str) -> dict[str, str]:
    """Return the types of a struct's fields by name, in their order."""
    inner = type_string[type_string.index("(") + 1 : -1]
    return {name: kind for kind, name in (field.split(" ") for field in inner.split(","))}


def _checked(name: str, kind: str, value: Any) -> Any:
    if kind == "bytes32":
        return check_hash(value, name)
    if kind == "address":
        if not is_address(value):
            raise ValueError(f"{name}: {value!r}, expected an address")
        return to_canonical_address(value)
    bits = re.fullmatch(r"uint(\d+)", kind)
    if bits is None:
        raise ValueError(f"{name}: a field of type {kind}, which is not supported")
    return check_integer(name, value, int(bits[1]))
