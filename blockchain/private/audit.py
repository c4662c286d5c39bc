"""Whether a ledger is as its members wrote it: rebuilt from the raw rows, nothing stored trusted.

Every leaf is hashed again, every block's signature, link, root and policy checked, every payload
that the member can open held against its commitment, every table held against the leaves in both
directions. Nothing is written, and no content is handed out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from eth_account.signers.local import LocalAccount
from sqlalchemy import func, select

from blockchain.private.audit_payloads import SealedLeaves, check_payloads
from blockchain.private.data_sets import read_entries
from blockchain.private.database import Database
from blockchain.private.encoding import Block, Leaf
from blockchain.private.errors import InvalidLedgerError, LedgerFileError, NotPermittedError
from blockchain.private.files import LedgerFiles, check_witness, follow
from blockchain.private.history import History
from blockchain.private.keyring import Keyring
from blockchain.private.policy import Policy
from blockchain.private.read_log import check_reads
from blockchain.private.schema import (
    entries,
    entry_secrets,
    keys,
    outbox,
    records,
    role_keys,
    witness,
)

#: How often a ledger is looked at anew that others wrote meanwhile.
_ATTEMPTS: Final = 10

#: Called with how much is done, and how much there is.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Audited:
    """A ledger that holds.

    Parameters
    ----------
    history : History
        Its state.
    opened, closed : int
        Payloads that were opened and held against their commitments; payloads that this member
        cannot open, of which only the ciphertexts were checked.
    reads : int or None
        Reads logged; None where no member's key was at hand to check the log.
    """

    history: History
    opened: int
    closed: int
    reads: int | None


def audit(
    folder: Path,
    account: LocalAccount | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Audited:
    """Check a whole ledger.

    Parameters
    ----------
    folder : Path
        The ledger's folder.
    account : LocalAccount, optional
        A member's; without one no payload is opened and no MAC checked.
    progress : callable
        Told how far it is.

    Raises
    ------
    InvalidLedgerError
        Naming the first block and field that does not hold.
    NotPermittedError
        The account is no member.
    LedgerFileError
        A file cannot be read.
    """
    furthest = 0

    def onwards(done: int, whole: int) -> None:
        nonlocal furthest
        furthest = max(done, furthest)
        progress(furthest, max(furthest, whole))

    for _ in range(_ATTEMPTS):
        files = LedgerFiles(folder, read_only=True)
        databases = (files.ledger, files.secrets)
        try:
            before = [_written(database) for database in databases]
            try:
                # Both as they are now, the secrets no older, whatever others write meanwhile.
                with files.ledger.reading(), files.secrets.reading():
                    return _audit(files, account, onwards)
            except InvalidLedgerError:
                # What others erased in between is missing from the secrets alone.
                if [_written(database) for database in databases] == before:
                    raise
        finally:
            files.close()
    raise LedgerFileError(f"{folder}: others keep writing to it: try again when they are done")


def _written(database: Database) -> object:
    """Return what changes whenever another process writes to a file."""
    with database.explained():
        return database.connection.exec_driver_sql("PRAGMA data_version").scalar()


def _check_file(database: Database) -> None:
    """Make sure that a file is whole: pages, types of values, and that indexes are their tables'.

    Raises
    ------
    LedgerFileError
        It is damaged.
    """
    with database.reading() as connection:
        found = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar())
        surplus = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')"
        ).scalar()
    if surplus is not None:
        raise LedgerFileError(
            f"{database.path}: it has a trigger or view {surplus!r:.80}, expected none: restore it "
            "from a backup"
        )
    if found != "ok":
        raise LedgerFileError(
            f"{database.path}: the file is damaged ({' '.join(found.split()):.200}): restore it "
            "from a backup"
        )


def _audit(files: LedgerFiles, account: LocalAccount | None, progress: Progress) -> Audited:
    for database in (files.ledger, files.secrets):
        _check_file(database)
    history, sealed = History(), SealedLeaves()
    count = 0

    def told(block: Block, leaves: Sequence[Leaf], policy: Policy) -> None:
        sealed.take(block, leaves, policy)
        progress(block.size, 2 * count)

    try:
        with files.ledger.reading() as connection:
            count = connection.execute(select(func.count()).select_from(records)).scalar_one()
            follow(connection, history, told)
    except InvalidLedgerError:
        _check_before(files, account, sealed)
        raise
    if history.height == 0:
        raise InvalidLedgerError("blocks.height", "there is no block", block=0)
    check_witness(files, history)
    _check_secrets(files, history, sealed)
    keyring = _keyring(files, history, account)
    if keyring is not None:
        _check_macs(files, history, keyring)
    found = check_payloads(
        files, history, sealed, keyring, lambda record: progress(count + record, 2 * count)
    )
    _check_entries(files, history)
    if len(found.data_keys) == len(history.data_sets):
        with files.secrets.reading() as connection:
            read_entries(connection, history, found.data_keys)
    _check_surplus(files, history)
    reads = None
    if keyring is not None:
        with files.ledger.reading() as connection:
            reads = check_reads(connection, keyring, history.reads)
    _check_outbox(files, history)
    progress(2 * count, 2 * count)
    return Audited(history, found.opened, found.closed, reads)


def _check_before(files: LedgerFiles, account: LocalAccount | None, sealed: SealedLeaves) -> None:
    """Raise what is wrong with the payloads of blocks before a broken one, if anything is."""
    history = History()
    with files.ledger.reading() as connection:
        follow(connection, history, below=len(sealed.sizes))
    if history.height:
        try:
            keyring = _keyring(files, history, account)
        except (NotPermittedError, InvalidLedgerError):
            # Admitted later, or of another ledger than the first block.
            keyring = None
        # The blocks that are not read may have erased some.
        check_payloads(files, history, sealed, keyring, whole=False)


def _keyring(files: LedgerFiles, history: History, account: LocalAccount | None) -> Keyring | None:
    if account is None:
        return None
    if not history.members.roles_of(account.address):
        raise NotPermittedError(f"{account.address} is no member of the ledger in {files.folder}")
    keyring = Keyring(history.ledger, account)
    with files.secrets.reading() as connection:
        keyring.load(connection)
    return keyring


def _check_secrets(files: LedgerFiles, history: History, sealed: SealedLeaves) -> None:
    """Make sure that no role's key is lost, and that there is a witness if there has to be."""
    with files.secrets.reading() as connection:
        known = connection.execute(select(role_keys.c.role, role_keys.c.generation).distinct())
        there = {(row.role, row.generation) for row in known}
    current = ((role, key.generation) for role, key in history.members.role_keys.items())
    for role, generation in chain(current, *sealed.roles.values()):
        if (role, generation) not in there:
            raise InvalidLedgerError(
                "role_keys.role", f"nobody was given the key of {role}, generation {generation}"
            )
    if files.witness is None and any(record >= sealed.sizes[0] for record in sealed.leaves):
        raise InvalidLedgerError("witness.id", "there is none, and payloads were sealed")


def _check_surplus(files: LedgerFiles, history: History) -> None:
    """Make sure that there is nothing for entries to come but what a killed writer leaves."""
    with files.secrets.reading() as connection:
        last_key = connection.execute(select(func.max(keys.c.record))).scalar()
        last = connection.execute(select(func.max(entry_secrets.c.position))).scalar()
    # It leaves the key of their data set as well.
    if last is not None and last >= history.entries.size and (last_key or 0) < history.size:
        raise InvalidLedgerError(
            "entry_secrets.position", f"{last}, there are {history.entries.size} entries"
        )


def _check_entries(files: LedgerFiles, history: History) -> None:
    """Make sure that each entry is of the data set that added it, and that there are no others."""
    expected = {
        position: known.record
        for known in history.data_sets
        for position in range(known.first, known.size)
    }
    with files.ledger.reading() as connection:
        for row in connection.execute(select(entries.c.position, entries.c.record)):
            if expected.get(row.position) != row.record:
                raise InvalidLedgerError(
                    "entries.position",
                    f"{row.position} is of record {row.record}, which did not add it",
                    record=row.record,
                )


def _check_macs(files: LedgerFiles, history: History, keyring: Keyring) -> None:
    with files.secrets.reading() as connection:
        for row in connection.execute(select(role_keys)):
            keyring.check_row("role_keys", row)
        for row in connection.execute(select(witness)):
            keyring.check_row("witness", row)
        # Of a block that never was; those of blocks that are were checked with the payloads.
        for row in connection.execute(select(keys).where(keys.c.record >= history.size)):
            keyring.check_row("keys", row)
    with files.ledger.reading() as connection:
        for row in connection.execute(select(outbox)):
            keyring.check_row("outbox", row)


def _check_outbox(files: LedgerFiles, history: History) -> None:
    with files.ledger.reading() as connection:
        for row in connection.execute(select(outbox).order_by(outbox.c.size)):
            if not 0 < row.size <= history.size or history.tree.root(row.size) != row.root:
                raise InvalidLedgerError(
                    "outbox.root",
                    f"an anchor of {row.size} records, which are not the {history.size} here",
                )
