"""Backups of a ledger, and their restoring: what was erased since is erased from them first.

A backup is a folder with whole copies of both files and of the list of erasures. Copies made by
hand, of files in use, may lack what is still in a write-ahead log.
"""

import shutil
from pathlib import Path
from typing import Final

from eth_account.signers.local import LocalAccount

from blockchain.durable_file import sync_folder, write_durably
from blockchain.private.audit import Audited, audit
from blockchain.private.database import folder_lock
from blockchain.private.erasure import ErasureJournal
from blockchain.private.errors import LedgerFileError
from blockchain.private.files import LEDGER_FILE, SECRETS_FILE, LedgerFiles
from blockchain.private.ledger import Ledger

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


def restore(folder: Path, source: Path, account: LocalAccount) -> Audited:
    """Put a backup in a ledger's place, once it holds and holds nothing that was erased.

    Parameters
    ----------
    folder : Path
        The ledger's folder. Its list of erasures, if it is there, counts as well as the backup's.
    source : Path
        The backup's folder; nothing of it is changed.
    account : LocalAccount
        A member's.

    Returns
    -------
    Audited
        The restored ledger. The caller holds it against the last anchor.

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
        for name in (LEDGER_FILE, SECRETS_FILE):
            write_durably(aside / name, (source / name).read_bytes(), _PRIVATE)
        journal = ErasureJournal(aside)
        journal.merge(ErasureJournal(source), ErasureJournal(folder))
        # Erases what the list names, and finishes what the backup had begun.
        Ledger(aside, account).close()
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
        shutil.rmtree(aside)
    return checked
