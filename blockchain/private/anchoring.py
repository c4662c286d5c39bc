"""Anchors of the ledger on the public chain, by an outbox that survives a kill at each step.

An anchor is *prepared* (its size, root and signature are on the disk) before it is *sent*, and
*confirmed* once the chain has it. Whatever is found unfinished is held against the chain, which
takes an anchor only where the ledger is proven to begin with what was anchored before: so a second
try changes nothing, and a rewritten ledger cannot be anchored.
"""

import time
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, delete, insert, select, update

from blockchain.anchors import Anchor, Anchors, AnchorStatement
from blockchain.merkle import check_hash
from blockchain.private.drafts import Draft
from blockchain.private.errors import InvalidLedgerError, RolledBackError
from blockchain.private.history import History
from blockchain.private.ledger import Ledger
from blockchain.private.read_log import reads_so_far
from blockchain.private.schema import blocks, outbox
from blockchain.typed_data import sign_digest

#: Seconds that an anchor's signature can be used for.
_SIGNATURE_SECONDS: Final = 3600
_NO_TRANSACTION: Final = b""

State = Literal["prepared", "sent", "confirmed"]


@dataclass(frozen=True)
class OutboxRow:
    """An anchor, as the outbox has it.

    Parameters
    ----------
    size : int
        Records that it covers.
    root : bytes
        Root over them, 32 bytes.
    state : {"prepared", "sent", "confirmed"}
        How far it is.
    transaction : bytes
        Hash of the transaction, 32 bytes; empty until it is confirmed, and where another process
        confirmed it.
    block : int
        Block of the public chain; 0 until it is confirmed.
    """

    size: int
    root: bytes
    state: State
    transaction: bytes
    block: int


@dataclass(frozen=True)
class Stretch:
    """What no anchor covers.

    Parameters
    ----------
    records : int
        How many records.
    seconds : int
        Age of the oldest of them; 0 where there is none.
    """

    records: int
    seconds: int


def check_anchor(history: History, last: Anchor) -> None:
    """Hold the ledger against its last anchor on the chain.

    Raises
    ------
    RolledBackError
        The ledger is shorter than what was anchored.
    InvalidLedgerError
        It does not begin with what was anchored.
    """
    if last.size > history.size:
        raise RolledBackError(
            "size",
            f"{history.size} records, {last.size} are anchored in block {last.block} of the public "
            "chain: records were cut off, or an older file was put in place",
        )
    root = history.tree.root(last.size)
    if last.size and root != last.root:
        raise InvalidLedgerError(
            "root",
            f"the first {last.size} records make 0x{root.hex()}, anchored in block {last.block} "
            f"of the public chain is 0x{last.root.hex()}: the ledger was rewritten",
        )


def unanchored(ledger: Ledger, last: Anchor) -> Stretch:
    """Return what the last anchor does not cover."""
    left = ledger.history.size - last.size
    if left <= 0:
        return Stretch(0, 0)
    after = select(blocks.c.time).where(blocks.c.size > last.size).order_by(blocks.c.height)
    with ledger.files.ledger.reading() as connection:
        oldest = connection.execute(after.limit(1)).scalar_one()
    return Stretch(left, max(0, int(time.time()) - int(oldest)))


def anchor(ledger: Ledger, anchors: Anchors) -> OutboxRow | None:
    """Anchor the ledger as it is now, and finish what an earlier attempt left.

    Parameters
    ----------
    ledger : Ledger
        By the organization itself: the chain takes its signing key's word alone.
    anchors : Anchors
        The contract, by an account that pays.

    Returns
    -------
    OutboxRow or None
        The anchor; None where all is anchored already.

    Raises
    ------
    RolledBackError, InvalidLedgerError
        The ledger is not what was anchored before.
    ChainError
        The chain did not take it. It stays in the outbox, and is sent with the next try.
    """
    history = ledger.history
    organization = history.organization
    last = anchors.last(organization)
    check_anchor(history, last)
    settle(ledger, last)
    if history.size == last.size:
        return None
    _note_reads(ledger)
    history = ledger.history
    deadline = int(time.time()) + _SIGNATURE_SECONDS
    statement = AnchorStatement(organization, history.size, history.tree.root(), deadline)
    signature = sign_digest(statement.digest(anchors.domain), ledger.account)
    row = {
        "size": statement.size,
        "root": statement.root,
        "deadline": deadline,
        "signature": signature,
        "state": "prepared",
        "transaction": _NO_TRANSACTION,
        "block": 0,
    }
    _put(ledger, row)
    row["state"] = "sent"
    _put(ledger, row)
    proof = history.tree.consistency_proof(last.size) if last.size else []
    receipt = anchors.anchor(statement, signature, proof)
    confirmed = {
        **row,
        "state": "confirmed",
        "transaction": receipt.hash,
        "block": receipt.block_number,
    }
    _put(ledger, confirmed)
    return _shown(confirmed)


def settle(ledger: Ledger, last: Anchor) -> None:
    """Say of what is unfinished in the outbox what became of it.

    Parameters
    ----------
    ledger : Ledger
        The ledger, held against `last` already.
    last : Anchor
        What stands on the chain.
    """
    for row in outbox_rows(ledger):
        if row.state == "confirmed":
            continue
        if (row.size, row.root) == (last.size, last.root):
            with ledger.files.ledger.writing() as connection:
                values = _values(connection, row.size)
                _replace(ledger, connection, {**values, "state": "confirmed", "block": last.block})
        else:
            # It never got there, or a later one went beyond it: the next one covers it.
            with ledger.files.ledger.writing() as connection:
                connection.execute(delete(outbox).where(outbox.c.size == row.size))


def outbox_rows(ledger: Ledger) -> list[OutboxRow]:
    """Return the outbox, smallest anchor first; `InvalidLedgerError` for a row no member wrote."""
    with ledger.files.ledger.reading() as connection:
        rows = connection.execute(select(outbox).order_by(outbox.c.size)).all()
    for row in rows:
        ledger.keyring.check_row("outbox", row)
    return [
        OutboxRow(row.size, check_hash(row.root, "root"), row.state, row.transaction, row.block)
        for row in rows
    ]


def _note_reads(ledger: Ledger) -> None:
    """Put how far the log of reads goes under the root that is anchored."""
    with ledger.files.ledger.reading() as connection:
        reads = reads_so_far(connection)
    if reads.count > ledger.history.reads.count:
        ledger.append(Draft(reads))


def _put(ledger: Ledger, row: dict[str, Any]) -> None:
    with ledger.files.ledger.writing() as connection:
        _replace(ledger, connection, row)


def _replace(ledger: Ledger, connection: Connection, row: dict[str, Any]) -> None:
    signed = ledger.keyring.signed_row("outbox", ledger.history_within(connection).members, row)
    there = connection.execute(select(outbox.c.size).where(outbox.c.size == row["size"])).first()
    if there is None:
        connection.execute(insert(outbox), signed)
    else:
        connection.execute(update(outbox).where(outbox.c.size == row["size"]), signed)


def _values(connection: Connection, size: int) -> dict[str, Any]:
    row = connection.execute(select(outbox).where(outbox.c.size == size)).one()
    names = ("size", "root", "deadline", "signature", "state", "transaction", "block")
    return {name: getattr(row, name) for name in names}


def _shown(row: dict[str, Any]) -> OutboxRow:
    return OutboxRow(row["size"], row["root"], row["state"], row["transaction"], row["block"])
