"""A ledger's folder: its two files, and their rows as what they mean.

::

    <home>/organizations/<name>/ledger/
        ledger.sqlite      blocks, records, ciphertexts, anchors, reads
        secrets.sqlite     what opens them
        erasures.jsonl     what was erased: applied again to whatever is restored
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from blockchain.private.database import Database, accessible
from blockchain.private.encoding import Block, Leaf, ledger_id, read_leaf
from blockchain.private.errors import (
    InvalidLedgerError,
    LedgerFileError,
    RecordRefusedError,
    RolledBackError,
)
from blockchain.private.history import History
from blockchain.private.policy import Policy
from blockchain.private.record_types import Genesis
from blockchain.private.schema import blocks, entries, records, witness

LEDGER_FILE: Final = "ledger.sqlite"
SECRETS_FILE: Final = "secrets.sqlite"

_CHUNK: Final = 1000

# Laid out once: that takes longer than SQLite takes to answer.
_BLOCKS: Final = (
    select(blocks).where(blocks.c.height >= bindparam("first")).order_by(blocks.c.height)
)
_RECORDS: Final = (
    select(records.c.record, records.c.block, records.c.type, records.c.leaf)
    .where(records.c.record >= bindparam("first"))
    .order_by(records.c.record)
)
_COMMITTED: Final = (
    select(entries.c.position, entries.c.commitment)
    .where(entries.c.record == bindparam("record"))
    .order_by(entries.c.position)
)

#: What `follow` tells of: a block that was applied, its records, and the policy it was under.
Followed = Callable[[Block, Sequence[Leaf], Policy], None]


class LedgerFiles:
    """Both files of a ledger, open.

    Parameters
    ----------
    folder : Path
        The ledger's folder.
    read_only : bool
        Nothing is written.

    Raises
    ------
    LedgerFileError
        There is no ledger, or a file of it cannot be opened.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        with accessible(folder):
            if not (folder / LEDGER_FILE).is_file():
                raise LedgerFileError(
                    f"there is no ledger in {folder}: {LEDGER_FILE} is missing; restore it, if "
                    "there was one"
                )
        with ExitStack() as opened:
            self.ledger = Database(folder / LEDGER_FILE, "ledger", read_only=read_only)
            opened.callback(self.ledger.close)
            self.secrets = Database(folder / SECRETS_FILE, "secrets", read_only=read_only)
            opened.callback(self.secrets.close)
            with self.secrets.reading() as connection:
                #: The row of ``witness``, if any. Who reads the ledger after this finds its block,
                #: whatever others write meanwhile.
                self.witness: Any = _only(connection.execute(select(witness)).all())
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close both files."""
        self._opened.close()


def follow(
    connection: Connection,
    history: History,
    told: Followed | None = None,
    *,
    below: int | None = None,
) -> None:
    """Apply the blocks of a file that come after those a history has.

    Parameters
    ----------
    connection : Connection
        To ``ledger.sqlite``, in a transaction.
    history : History
        What is known so far.
    told : callable, optional
        Called with each block applied, its records, and the policy in force for it.
    below : int, optional
        Stop before the block of this height.

    Raises
    ------
    InvalidLedgerError
        Naming the first block and field that does not hold. The history is then of no more use.
    """
    chunks = {"yield_per": _CHUNK}
    rows = connection.execute(_RECORDS, {"first": history.size}, execution_options=chunks)
    following: Iterator[Any] = iter(rows)
    known = connection.execute(_BLOCKS, {"first": history.height}, execution_options=chunks)
    for row in known:
        if below is not None and row.height >= below:
            return
        own = list(islice(following, max(0, row.size - history.size)))
        for expected, record in enumerate(own, start=history.size):
            if record.record != expected:
                raise InvalidLedgerError(
                    "records.record",
                    f"record {record.record} follows, record {expected} is missing",
                    block=row.height,
                    record=expected,
                )
        block = Block(
            version=row.version,
            ledger=history.ledger if history.height else _claimed_ledger(own),
            height=row.height,
            previous=row.previous,
            size=row.size,
            root=row.root,
            policy=row.policy,
            time=row.time,
            author=row.author,
        )
        policy = history.policy
        leaves = history.apply(
            block,
            row.signature,
            [record.leaf for record in own],
            lambda record: committed_by(connection, record),
        )
        for leaf, record in zip(leaves, own, strict=True):
            _same("records.block", record.block, block.height, block.height, leaf.record)
            _same("records.type", record.type, leaf.type, block.height, leaf.record)
        if told is not None:
            told(block, leaves, policy or history.members)
    surplus = next(following, None)
    if surplus is not None:
        raise InvalidLedgerError("records.record", "it belongs to no block", record=surplus.record)


def committed_by(connection: Connection, record: int) -> list[bytes]:
    """Return the commitments of the entries that a data-set record added, in order."""
    rows = connection.execute(_COMMITTED, {"record": record}).all()
    for one, other in pairwise(rows):
        if other.position != one.position + 1:
            raise InvalidLedgerError(
                "entries.position", f"{one.position} is followed by {other.position}", record=record
            )
    return [row.commitment for row in rows]


def _only(rows: Sequence[Any]) -> Any:
    if len(rows) > 1:
        raise InvalidLedgerError("witness.id", f"{len(rows)} rows, expected one")
    return rows[0] if rows else None


def check_witness(files: LedgerFiles, history: History) -> None:
    """Make sure that the ledger's file is not older than the secrets' file knows it to be.

    Raises
    ------
    RolledBackError
        It lacks a block that it had.
    """
    seen = files.witness
    if seen is None:
        return
    if seen.height < 0:
        raise InvalidLedgerError("witness.height", f"{seen.height}, expected a height")
    if history.height < seen.height:
        raise RolledBackError(
            "height",
            f"{history.height} blocks, and {SECRETS_FILE} was last written when there were "
            f"{seen.height}: an older {LEDGER_FILE} was put in its place",
        )
    if history.height == seen.height:
        head = history.head
    else:
        with files.ledger.reading() as connection:
            head = connection.execute(
                select(blocks.c.previous).where(blocks.c.height == seen.height)
            ).scalar_one()
    if head != seen.head:
        raise RolledBackError(
            "previous",
            f"0x{head.hex()}, when {SECRETS_FILE} was last written it was 0x{seen.head.hex()}: "
            "the two files are of different ledgers",
            block=seen.height,
        )


def _claimed_ledger(own: Sequence[Any]) -> bytes:
    """Return the id of the ledger that the first record begins; a malformed one is named later."""
    try:
        genesis = read_leaf(own[0].leaf).part() if own else None
    except RecordRefusedError:
        return b""
    return ledger_id(genesis) if isinstance(genesis, Genesis) else b""


def _same(name: str, found: object, expected: object, block: int, record: int) -> None:
    if found != expected:
        raise InvalidLedgerError(name, f"{found}, expected {expected}", block=block, record=record)
