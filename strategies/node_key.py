"""The key by which a SuperLink knows an organization's SuperNode, in the form that Flower reads.

``node`` is the private key (OpenSSH, P-384, no passphrase: the SuperNode asks for none), readable
by its owner alone; ``node.pub`` goes to the coordinator.
"""

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from eth_utils.crypto import keccak

from blockchain.durable_file import write_durably

_PRIVATE: Final = 0o600


class NodeKeyError(Exception):
    """A node's key is missing or malformed; one line says which, and nothing of a key."""


def make_node_key(folder: Path) -> Path:
    """Make a node's key pair, unless there is one; return the private key's path."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "node"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP384R1())
        write_durably(
            path,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            ),
            _PRIVATE,
        )
    # Made of the private key each time: a kill between the two leaves nothing half done.
    write_durably(path.with_suffix(".pub"), public_key_of(path) + "\n")
    return path


def public_key_of(path: Path) -> str:
    """Return the public half of a private key, one line in OpenSSH's form.

    Raises
    ------
    NodeKeyError
        If there is no such key.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        raise NodeKeyError(f"{path}: no private key in OpenSSH's form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NodeKeyError(f"{path}: no key on an elliptic curve of NIST, which Flower asks for")
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode("ascii")
    )


def read_public_key(text: str) -> ec.EllipticCurvePublicKey:
    """Read a node's public key that came from outside.

    Raises
    ------
    NodeKeyError
        If it is anything else.
    """
    try:
        key = serialization.load_ssh_public_key(text.strip().encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        raise NodeKeyError(f"{text[:40]!r}: no public key in OpenSSH's form") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise NodeKeyError(f"{text[:40]!r}: no key on an elliptic curve of NIST")
    return key


def node_key_hash(text: str) -> bytes:
    """Return what the registry keeps of a node's public key: keccak-256 of its DER, 32 bytes.

    Of the SubjectPublicKeyInfo (RFC 5480), whatever comment stands beside the key.

    Raises
    ------
    NodeKeyError
        See :func:`read_public_key`.
    """
    return keccak(
        read_public_key(text).public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
