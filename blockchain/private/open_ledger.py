"""A private ledger, opened by a member: what is in it, as far as the member may read it."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from eth_account.signers.local import LocalAccount
from sqlalchemy import Connection, select

from blockchain.private.encoding import Leaf, read_leaf
from blockchain.private.erasure import ErasureJournal
from blockchain.private.errors import (
    ErasedError,
    InvalidLedgerError,
    LedgerError,
    NotPermittedError,
)
from blockchain.private.files import LedgerFiles, check_witness, follow
from blockchain.private.history import History
from blockchain.private.keyring import Keyring
from blockchain.private.payloads import Opened, open_payload
from blockchain.private.read_log import Read, all_reads, log_read
from blockchain.private.record_types import Role
from blockchain.private.schema import keys, payloads, records


class OpenLedger:
    """What a member sees of a ledger (`blockchain.private.ledger.Ledger`).

    Before anything is read, whatever is noted as erased is erased from the files that are there.
    """

    def __init__(self, folder: Path, account: LocalAccount) -> None:
        self.folder = folder
        self.account = account
        self._journal = ErasureJournal(folder)
        self.files = LedgerFiles(folder)
        try:
            self._journal.apply(self.files)
            self._history: History | None = History()
            with self.files.ledger.reading() as connection:
                follow(connection, self._history)
            check_witness(self.files, self._history)
            self._check_member()
            self.keyring = Keyring(self._history.ledger, account)
        except BaseException:
            self.files.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self.files.close()

    # What is there

    @property
    def history(self) -> History:
        """The ledger's state, with whatever others wrote until now."""
        with self.files.ledger.reading() as connection:
            return self._follow(connection)

    def history_within(self, connection: Connection) -> History:
        """Return the ledger's state within a transaction of the caller's."""
        return self._follow(connection)

    def leaf(self, record: int) -> Leaf:
        """Return a record as the tree holds it; `LedgerError` where there is none."""
        return read_leaf(self._leaf_bytes([record])[record])

    def leaves(self, record_type: str | None = None) -> list[Leaf]:
        """Return all records, or those of a type, in order."""
        query = select(records.c.leaf).order_by(records.c.record)
        if record_type is not None:
            query = query.where(records.c.type == record_type)
        with self.files.ledger.reading() as connection:
            self._follow(connection)
            return [read_leaf(row.leaf) for row in connection.execute(query)]

    def status(self, record: int) -> str:
        """Return how a record stands: ``effective``, ``pending``, ``void`` or ``erased``."""
        return self.history.status(record)

    def reads(self) -> list[Read]:
        """Return who opened what so far."""
        with self.files.ledger.reading() as connection:
            return all_reads(connection)

    # Reading payloads

    def read(self, record: int, purpose: str) -> Opened:
        """Open one record (`read_all`)."""
        return self.read_all([record], purpose)[0]

    def read_all(self, numbers: Sequence[int], purpose: str) -> list[Opened]:
        """Open records; which, by whom and what for is on the disk before it is handed out.

        Parameters
        ----------
        numbers : sequence of int
            Numbers of the records.
        purpose : str
            What for; goes into the log of reads.

        Raises
        ------
        NotPermittedError
            None of the member's roles may read one of them.
        ErasedError
            One was erased.
        InvalidLedgerError
            What is there is not what its leaf commits to.
        """
        state = self.history
        for number in numbers:
            _check_readable(state, number)
        leaves = {number: read_leaf(leaf) for number, leaf in self._leaf_bytes(numbers).items()}
        found: dict[int, Opened] = {}
        roles: dict[Role, list[int]] = {}
        for number, leaf in leaves.items():
            if leaf.sealed is None:
                continue
            found[number], role = self._open(leaf)
            roles.setdefault(role, []).append(number)
        if roles:
            with self.files.ledger.writing() as connection:
                for role, numbers_read in roles.items():
                    log_read(
                        connection,
                        self.keyring,
                        state.members,
                        self.account.address,
                        role,
                        numbers_read,
                        purpose,
                    )
        return [
            found.get(number) or Opened(leaves[number], leaves[number].part(), None)
            for number in numbers
        ]

    def payloads_left(self, record_type: str) -> list[int]:
        """Return the numbers of the records of a type whose payloads were not erased."""
        erased = self.history.erased_records
        return [leaf.record for leaf in self.leaves(record_type) if leaf.record not in erased]

    def may_read(self, record_type: str) -> bool:
        """Whether one of the member's roles may read payloads of a type."""
        policy = self.history.members
        own = policy.roles_of(self.account.address)
        return any(role in own for role in policy.readers(record_type))

    # Parts

    def _check_member(self) -> None:
        if not self._current.members.roles_of(self.account.address):
            raise NotPermittedError(
                f"{self.account.address} is no member of the ledger in {self.folder}"
            )

    @property
    def _current(self) -> History:
        if self._history is None:
            raise LedgerError("the ledger's state is not known")
        return self._history

    def _follow(self, connection: Connection) -> History:
        """Bring the state up to what the file holds now."""
        history, self._history = self._history or History(), None
        follow(connection, history)
        if self.keyring.lacks(history.members):
            # Others changed the members, and made new keys.
            with self.files.secrets.reading() as secrets:
                self.keyring.load(secrets)
        self._history = history
        return history

    def _leaf_bytes(self, numbers: Sequence[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        with self.files.ledger.reading() as connection:
            for number in numbers:
                encoded = connection.execute(
                    select(records.c.leaf).where(records.c.record == number)
                ).scalar_one_or_none()
                if encoded is None:
                    raise LedgerError(f"there is no record {number}")
                found[number] = encoded
        return found

    def _open(self, leaf: Leaf) -> tuple[Opened, Role]:
        with self.files.ledger.reading() as connection:
            row = connection.execute(
                select(payloads).where(payloads.c.record == leaf.record)
            ).one_or_none()
        with self.files.secrets.reading() as connection:
            self.keyring.load(connection)
            sealed = connection.execute(select(keys).where(keys.c.record == leaf.record)).all()
        if row is None or not sealed:
            raise InvalidLedgerError(
                "payload", "it or its key is missing and was not erased", record=leaf.record
            )
        own = self._current.members.roles_of(self.account.address)
        # In a role of its own before one whose key it only keeps.
        ordered = sorted(sealed, key=lambda secret: (secret.role not in own, secret.role))
        return open_payload(self.keyring, leaf, row, ordered)


def _check_readable(state: History, number: int) -> None:
    if not 0 <= number < state.size:
        raise LedgerError(f"there is no record {number}: the ledger has {state.size}")
    if number in state.erased_records:
        raise ErasedError(
            f"the payload of record {number} was erased (record {state.erased_records[number]})"
        )
