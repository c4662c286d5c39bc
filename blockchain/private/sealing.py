"""Who can read what: payloads under keys of their own, and those keys sealed to roles.

- A payload is encrypted with AES-256-GCM under a random key of its own.
- That key, and the payload's salt, are sealed to the public key of each role that may read it, by
  HPKE (RFC 9180; X25519, HKDF-SHA256, AES-256-GCM).
- A role's private key is sealed likewise to each member that has the role.
- A member's own X25519 key is derived from its signing key: whoever opens the keystore can read,
  and there is no second secret to keep.

Rows that change after they were written carry a MAC (HMAC-SHA256) under a key that all members
have: it shows that one of them wrote it.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_account.signers.local import LocalAccount

from blockchain.canonical import CanonicalJSON, canonical_json

#: Bytes of a key, a salt and a MAC.
KEY_SIZE: Final = 32

_NONCE_SIZE: Final = 12
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_MEMBER_INFO: Final = b"foedus.ledger.member-encryption.v1"
_MAC_INFO: Final = b"foedus.ledger.mac.v1"
_SUPPRESSION_INFO: Final = b"foedus.ledger.suppression.v1"


class SealError(ValueError):
    """A sealed or encrypted value does not open with this key."""


def random_key() -> bytes:
    """Return 32 bytes of the system's randomness."""
    return os.urandom(KEY_SIZE)


def new_private_key() -> bytes:
    """Return a fresh X25519 private key, 32 bytes."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """Return the public key of an X25519 private key, both 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def member_private_key(account: LocalAccount) -> bytes:
    """Derive a member's X25519 private key from its signing key (HKDF, RFC 5869), 32 bytes."""
    return _derived(bytes(account.key), _MEMBER_INFO)


def mac_key(private: bytes) -> bytes:
    """Derive the MAC's key from the private key that all members share, 32 bytes."""
    return _derived(private, _MAC_INFO)


def suppression_key(private: bytes) -> bytes:
    """Derive from it the key under which forgotten ids are still recognized, 32 bytes."""
    return _derived(private, _SUPPRESSION_INFO)


def seal(public: bytes, content: bytes, context: bytes) -> bytes:
    """Seal bytes to a public key, for one place alone.

    Parameters
    ----------
    public : bytes
        X25519 public key, 32 bytes.
    content : bytes
        What is sealed.
    context : bytes
        Where it belongs (HPKE's ``info``): it opens nowhere else.
    """
    return bytes(_SUITE.encrypt(content, X25519PublicKey.from_public_bytes(public), info=context))


def unseal(private: bytes, sealed: bytes, context: bytes) -> bytes:
    """Open what was sealed to a key for one place.

    Raises
    ------
    SealError
        It was sealed to another key or for another place, or was altered.
    """
    try:
        return bytes(_SUITE.decrypt(sealed, _loaded(private), info=context))
    except (InvalidTag, ValueError) as error:
        raise SealError("it was sealed to another key, or altered") from error


def encrypt(key: bytes, content: bytes, context: bytes) -> tuple[bytes, bytes]:
    """Encrypt under a 32-byte key; nonce (12 bytes) and ciphertext (16 bytes longer)."""
    nonce = os.urandom(_NONCE_SIZE)
    return nonce, AESGCM(key).encrypt(nonce, content, context)


def decrypt(key: bytes, nonce: bytes, ciphertext: bytes, context: bytes) -> bytes:
    """Decrypt what `encrypt` made.

    Raises
    ------
    SealError
        The key or the place is another one, or it was altered.
    """
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, context)
    except (InvalidTag, ValueError) as error:
        raise SealError("it was encrypted under another key, or altered") from error


def place(ledger: bytes, kind: str, **where: CanonicalJSON) -> bytes:
    """Name a place in a ledger, for `seal` and `encrypt`."""
    return canonical_json({"ledger": ledger.hex(), "kind": kind, **where})


def mac(key: bytes, kind: str, row: Mapping[str, CanonicalJSON]) -> bytes:
    """Authenticate a row of a table (HMAC-SHA256, RFC 2104), 32 bytes."""
    return hmac.new(key, canonical_json({"kind": kind, "row": dict(row)}), hashlib.sha256).digest()


def same(one: bytes, other: bytes) -> bool:
    """Compare MACs in constant time."""
    return hmac.compare_digest(one, other)


def keyed_id(key: bytes, record_id: str) -> bytes:
    """Recognize an id without holding it: HMAC-SHA256 under the suppression key, 32 bytes."""
    return hmac.new(key, record_id.encode(), hashlib.sha256).digest()


#: Loading a key derives its public one: each is used for many payloads.
_loaded: Final = lru_cache(maxsize=64)(X25519PrivateKey.from_private_bytes)


def _derived(secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), KEY_SIZE, salt=None, info=info).derive(secret)
