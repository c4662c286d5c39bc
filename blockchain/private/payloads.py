"""Payloads, opened by whoever has the key and held against what their leaves commit to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockchain.private import sealing
from blockchain.private.encoding import Leaf, payload_commitment
from blockchain.private.errors import InvalidLedgerError, NotPermittedError, RecordRefusedError
from blockchain.private.keyring import Keyring, payload_place
from blockchain.private.record_fields import Part
from blockchain.private.record_types import (
    Role,
    read_payload,
)
from blockchain.private.sealing import SealError


@dataclass(frozen=True)
class Opened:
    """A record and what it holds, as far as this member may read it.

    Parameters
    ----------
    leaf : Leaf
        The record.
    body : Part or None
        Its body.
    payload : Part or None
        Its payload.
    salt : bytes
        Opens the payload's commitment, 32 bytes; empty where there is no payload.
    """

    leaf: Leaf
    body: Part | None
    payload: Part | None
    salt: bytes = b""


def open_payload(
    keyring: Keyring, leaf: Leaf, row: Any, sealed: Sequence[Any]
) -> tuple[Opened, Role]:
    """Open a record's payload by one of the keys a member has.

    Parameters
    ----------
    keyring : Keyring
        The member's.
    leaf : Leaf
        The record, which has a payload.
    row : Row
        Of ``payloads``.
    sealed : sequence of Row
        Of ``keys``: the payload's key, sealed to each role.

    Raises
    ------
    NotPermittedError
        The member has no such key.
    InvalidLedgerError
        What is there is not what the leaf commits to.
    """
    for secret in sealed:
        try:
            opened = keyring.open_payload_key(secret)
        except SealError as error:
            raise InvalidLedgerError(
                f"keys.sealed of {secret.role}", str(error), record=leaf.record
            ) from error
        if opened is None:
            continue
        key, salt = opened
        try:
            content = sealing.decrypt(
                key,
                row.nonce,
                row.ciphertext,
                payload_place(bytes.fromhex(leaf.ledger), leaf.record, leaf.type),
            )
        except SealError as error:
            raise InvalidLedgerError("payloads", str(error), record=leaf.record) from error
        if leaf.sealed is None or payload_commitment(salt, content).hex() != leaf.sealed.commitment:
            raise InvalidLedgerError(
                "commitment", "the payload is not the one committed to", record=leaf.record
            )
        try:
            payload = read_payload(leaf.type, content)
        except RecordRefusedError as error:
            raise InvalidLedgerError("payload", str(error), record=leaf.record) from error
        return Opened(leaf, leaf.part(), payload, salt), Role(secret.role)
    roles = ", ".join(secret.role for secret in sealed)
    raise NotPermittedError(f"record {leaf.record} ({leaf.type}) can be read by: {roles}")
