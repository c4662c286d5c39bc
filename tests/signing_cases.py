"""Keys and signed updates of made-up organizations, the same every time."""

import hashlib
from collections.abc import Mapping
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from flwr.app import ConfigRecord, MetricRecord, RecordDict

from blockchain.canonical import hash_arrays
from blockchain.typed_data import Domain, sign_digest
from strategies import protocol
from strategies.signed_update import Opening, SignedUpdate, TaskContext, sign_decline

DOMAIN = Domain(31337, "0x" + "5F" * 20)
DEADLINE = 2**40

#: Organizations of the small federation.
NAMES = ("east", "north", "south", "west")


def account_of(name: str) -> LocalAccount:
    """The signing key of an organization, or of whoever else is named."""
    account: LocalAccount = Account.from_key(hashlib.sha256(f"key of {name}".encode()).digest())
    return account


def salt_of(name: str, round_number: int) -> bytes:
    """The salt of an organization's commitment in a round."""
    return hashlib.sha256(f"salt {name} {round_number}".encode()).digest()


def signed_update(
    context: TaskContext,
    name: str,
    round_number: int,
    parent: bytes,
    *,
    update_hash: bytes,
    num_examples: int,
    account: LocalAccount | None = None,
) -> SignedUpdate:
    """What an organization signs, with the salt that it has for the round."""
    opening = Opening(update_hash, salt_of(name, round_number))
    update = context.update(
        name,
        round_number,
        parent,
        committed=opening.commitment(num_examples),
        num_examples=num_examples,
        deadline=DEADLINE,
    )
    signature = sign_digest(update.digest(context.domain), account or account_of(name))
    return SignedUpdate(update, signature, opening)


def signed_reply(
    context: TaskContext,
    name: str,
    round_number: int,
    parent: bytes,
    arrays: Mapping[str, Any],
    num_examples: int,
    *,
    account: LocalAccount | None = None,
) -> RecordDict:
    """An organization's whole reply with these arrays."""
    signed = signed_update(
        context,
        name,
        round_number,
        parent,
        update_hash=hash_arrays(arrays),
        num_examples=num_examples,
        account=account,
    )
    return RecordDict(
        {
            protocol.UPDATE: protocol.array_record(dict(arrays)),
            protocol.HEADER: protocol.header_record(
                {
                    "organization": name,
                    "round": round_number,
                    "num-examples": num_examples,
                    "commitment": signed.update.commitment,
                    "deadline": DEADLINE,
                    "signature": signed.signature,
                }
            ),
            protocol.OPENING: ConfigRecord(
                {"update-hash": signed.opening.update_hash, "salt": signed.opening.salt}
            ),
            protocol.METRICS: MetricRecord({"last-loss": 0.5}),
        }
    )


def decline_reply(context: TaskContext, name: str, round_number: int, parent: bytes) -> RecordDict:
    """An organization's whole reply where it trains nothing."""
    signed = sign_decline(context, account_of(name), name, round_number, parent, deadline=DEADLINE)
    return RecordDict(
        {
            protocol.HEADER: protocol.header_record(
                {
                    "organization": name,
                    "round": round_number,
                    "num-examples": signed.update.num_examples,
                    "commitment": signed.update.commitment,
                    "deadline": DEADLINE,
                    "signature": signed.signature,
                }
            ),
            protocol.METRICS: MetricRecord({"tokens": 0, "received-loss": 0.75}),
        }
    )
