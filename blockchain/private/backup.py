"""Backups of a ledger, and their restoring: what was erased since is erased from them first.

A backup is a folder with whole copies of both files and of the list of erasures. Copies made by
hand, of files in use, may lack what is still in a write-ahead log.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from eth_account.signers.local import LocalAccount
from sqlalchemy import select

from blockchain.durable_file import sync_folder, write_durably
from blockchain.private.audit import Audited, audit
from blockchain.private.database import folder_lock
from blockchain.private.erasure import ErasureJournal
from blockchain.private.errors import LedgerFileError
from blockchain.private.files import LEDGER_FILE, SECRETS_FILE, LedgerFiles
from blockchain.private.ledger import Ledger
from blockchain.private.schema import blocks

_PRIVATE: Final = 0o600
_ASIDE: Final = ".restoring"


def back_up(ledger: Ledger, target: Path) -> None:
    """Copy a ledger, while others may use it, into a folder that is not there yet.

    Raises
    ------
    LedgerFileError
        The folder is there, or a copy cannot be made.
    """
    try:
        target.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise LedgerFileError(f"{target} is there already: give a new folder") from None
    # Under the ledger's write lock nobody changes the secrets.
    with ledger.files.ledger.writing():
        ledger.files.secrets.copy_to(target / SECRETS_FILE)
        ledger.files.ledger.copy_to(target / LEDGER_FILE)
    journal = ErasureJournal(ledger.folder).path
    if journal.exists():
        write_durably(target / journal.name, journal.read_bytes(), _PRIVATE)
    sync_folder(target)


def restore(
    folder: Path,
    source: Path,
    account: LocalAccount,
    accept: Callable[[Audited], None] = lambda _: None,
) -> Audited:
    """Put a backup in a ledger's place, once it holds and holds nothing that was erased.

    No other process may have the ledger open: it would go on writing to the file that was replaced.

    Parameters
    ----------
    folder : Path
        The ledger's folder. Its list of erasures, if it is there, counts as well as the backup's.
    source : Path
        The backup's folder; nothing of it is changed.
    account : LocalAccount
        A member's.
    accept : callable
        Raises where the backup, as audited, is not to be taken: most often because more was
        anchored than it holds (`blockchain.private.anchoring.check_anchor`).

    Returns
    -------
    Audited
        The restored ledger.

    Raises
    ------
    LedgerFileError, InvalidLedgerError
        The backup is incomplete, or does not hold. The ledger is as it was.
    """
    for name in (LEDGER_FILE, SECRETS_FILE):
        if not (source / name).is_file():
            raise LedgerFileError(f"{source} is no backup: {name} is missing")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = folder / _ASIDE
    with folder_lock(folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        try:
            return _restore(folder, source, account, accept)
        finally:
            shutil.rmtree(aside)


def _restore(
    folder: Path, source: Path, account: LocalAccount, accept: Callable[[Audited], None]
) -> Audited:
    aside = folder / _ASIDE
    for name in (LEDGER_FILE, SECRETS_FILE):
        write_durably(aside / name, (source / name).read_bytes(), _PRIVATE)
    # Brings an older version up to date.
    LedgerFiles(aside).close()
    accept(audit(aside, account))
    journal = ErasureJournal(aside)
    journal.merge(ErasureJournal(source), ErasureJournal(folder))
    # Erases what the list names, says so, and finishes what the backup had begun.
    with Ledger(aside, account):
        if _genesis(folder) not in {None, _genesis(aside)}:
            raise LedgerFileError(f"{source} is a backup of another ledger than {folder}")
    checked = audit(aside, account)
    files = LedgerFiles(aside)
    files.secrets.checkpoint()
    files.ledger.checkpoint()
    files.close()
    for name in (journal.path.name, SECRETS_FILE, LEDGER_FILE):
        if not (aside / name).exists():
            continue
        for end in ("-wal", "-shm"):
            (folder / f"{name}{end}").unlink(missing_ok=True)
        (aside / name).replace(folder / name)
    sync_folder(folder)
    return checked


def _genesis(folder: Path) -> bytes | None:
    """Return the root of a ledger's first block; None where that cannot be read."""
    try:
        files = LedgerFiles(folder, read_only=True)
    except LedgerFileError:
        return None
    try:
        with files.ledger.reading() as connection:
            return connection.execute(
                select(blocks.c.root).where(blocks.c.height == 0)
            ).scalar_one_or_none()
    except LedgerFileError:
        return None
    finally:
        files.close()
