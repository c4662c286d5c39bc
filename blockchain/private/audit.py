"""Whether a ledger is as its members wrote it: rebuilt from the raw rows, nothing stored trusted.

Every leaf is hashed again, every block's signature, link, root and policy checked, every payload
that the member can open held against its commitment, every table held against the leaves in both
directions. Nothing is written, and no content is handed out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount
from sqlalchemy import func, select

from blockchain.private.audit_payloads import SealedLeaves, check_payloads
from blockchain.private.data_sets import read_entries
from blockchain.private.encoding import Block, Leaf
from blockchain.private.errors import InvalidLedgerError, NotPermittedError
from blockchain.private.files import LedgerFiles, check_witness, follow
from blockchain.private.history import History
from blockchain.private.keyring import Keyring
from blockchain.private.policy import Policy
from blockchain.private.read_log import check_reads
from blockchain.private.schema import entries, keys, outbox, records, role_keys, witness

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
    files = LedgerFiles(folder, read_only=True)
    try:
        return _audit(files, account, progress)
    finally:
        files.close()


def _audit(files: LedgerFiles, account: LocalAccount | None, progress: Progress) -> Audited:
    history, sealed = History(), SealedLeaves()
    with files.ledger.reading() as connection:
        count = int(connection.execute(select(func.count()).select_from(records)).scalar_one())

        def told(block: Block, leaves: Sequence[Leaf], policy: Policy) -> None:
            sealed.take(block, leaves, policy)
            progress(block.size, 2 * count)

        try:
            follow(connection, history, told)
        except InvalidLedgerError as error:
            _check_before(files, account, sealed, error)
            raise
    if history.height == 0:
        raise InvalidLedgerError("blocks.height", "there is no block", block=0)
    check_witness(files, history)
    keyring = _keyring(files, history, account)
    found = check_payloads(
        files, history, sealed, keyring, lambda record: progress(count + record, 2 * count)
    )
    _check_entries(files, history)
    if len(found.data_keys) == len(history.data_sets):
        with files.secrets.reading() as connection:
            read_entries(connection, history, found.data_keys)
    reads = None
    if keyring is not None:
        _check_macs(files, history, keyring)
        with files.ledger.reading() as connection:
            reads = check_reads(connection, keyring, history.reads)
    _check_outbox(files, history)
    progress(2 * count, 2 * count)
    return Audited(history, found.opened, found.closed, reads)


def _check_before(
    files: LedgerFiles,
    account: LocalAccount | None,
    sealed: SealedLeaves,
    broken: InvalidLedgerError,
) -> None:
    """Raise what is wrong with the payloads of blocks before a broken one, if anything is."""
    history = History()
    with files.ledger.reading() as connection:
        follow(connection, history, below=len(sealed.sizes))
    if history.height:
        keyring = _keyring(files, history, account)
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
