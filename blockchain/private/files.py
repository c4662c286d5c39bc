"""A ledger's folder: its two files, and their rows as what they mean.

::

    <home>/organizations/<name>/ledger/
        ledger.sqlite      blocks, records, ciphertexts, anchors, reads
        secrets.sqlite     what opens them
        erasures.jsonl     what was erased: applied again to whatever is restored
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, select

from blockchain.private.database import Database
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
        if not (folder / LEDGER_FILE).is_file():
            raise LedgerFileError(
                f"there is no ledger in {folder}: {LEDGER_FILE} is missing; restore it, if there "
                "was one"
            )
        self.ledger = Database(folder / LEDGER_FILE, "ledger", read_only=read_only)
        try:
            self.secrets = Database(folder / SECRETS_FILE, "secrets", read_only=read_only)
        except BaseException:
            self.ledger.close()
            raise

    def close(self) -> None:
        """Close both files."""
        self.secrets.close()
        self.ledger.close()


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
    columns = (records.c.record, records.c.block, records.c.type, records.c.leaf)
    rows = connection.execute(
        select(*columns).where(records.c.record >= history.size).order_by(records.c.record),
        execution_options={"yield_per": _CHUNK},
    )
    following: Iterator[Any] = iter(rows)
    known = connection.execute(
        select(blocks).where(blocks.c.height >= history.height).order_by(blocks.c.height),
        execution_options={"yield_per": _CHUNK},
    )
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
    rows = connection.execute(
        select(entries.c.position, entries.c.commitment)
        .where(entries.c.record == record)
        .order_by(entries.c.position)
    ).all()
    for one, other in pairwise(rows):
        if other.position != one.position + 1:
            raise InvalidLedgerError(
                "entries.position", f"{one.position} is followed by {other.position}", record=record
            )
    return [row.commitment for row in rows]


def check_witness(files: LedgerFiles, history: History) -> None:
    """Make sure that the ledger's file is not older than the secrets' file knows it to be.

    Raises
    ------
    RolledBackError
        It lacks a block that it had.
    """
    with files.secrets.reading() as connection:
        seen = connection.execute(select(witness)).one_or_none()
    if seen is None:
        return
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
