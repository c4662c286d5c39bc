"""An organization's private ledger: opened by a member, appended to, read, endorsed.

Records go in under the write lock of ``ledger.sqlite``, on top of whatever other processes wrote
meanwhile. What opens their payloads is on the disk in ``secrets.sqlite`` before the block that
holds them is committed: a kill in between leaves secrets of records that never were, which the next
writer replaces, and never a record that nothing opens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eth_account.signers.local import LocalAccount
from sqlalchemy import Connection

from blockchain.private import sealing
from blockchain.private.block_writer import BlockWriter
from blockchain.private.drafts import Draft
from blockchain.private.encoding import endorsement_digest, member_of
from blockchain.private.erasure import wipe
from blockchain.private.errors import LedgerError, NotPermittedError, RecordRefusedError
from blockchain.private.history import History
from blockchain.private.open_ledger import OpenLedger
from blockchain.private.record_types import (
    Endorsement,
    Erased,
    ErasePending,
    KeyRotation,
    Member,
    MembershipChange,
    RoleKey,
)
from blockchain.typed_data import sign_digest


class Ledger(OpenLedger):
    """The ledger, as one member has it open; in one thread.

    Parameters
    ----------
    folder : Path
        The ledger's folder.
    account : LocalAccount
        A member's.

    Raises
    ------
    LedgerFileError
        A file is missing, locked, foreign, damaged, or of a newer version.
    InvalidLedgerError
        It is not as its members wrote it.
    NotPermittedError
        The account is no member.
    """

    def __init__(self, folder: Path, account: LocalAccount) -> None:
        super().__init__(folder, account)
        self._writer = BlockWriter(self.files, account, self.keyring)
        try:
            self._exchange_keys()
            self._finish_erasures()
            self._say_again()
            self._testify()
        except BaseException:
            self.files.close()
            raise

    def append(self, *drafts: Draft) -> list[int]:
        """Write records in one block; they are there for good when this returns.

        Returns
        -------
        list of int
            The records' numbers.

        Raises
        ------
        NotPermittedError
            The member may not write one of them.
        RecordRefusedError
            One is malformed, or does not fit what is there.
        LedgerFileError
            It could not be written; nothing was.
        """
        if not drafts:
            return []
        with self._writing() as connection:
            return self._writer.write(connection, self._current, drafts)

    @contextmanager
    def decided(self) -> Iterator["Writer"]:
        """Look at the ledger and write what follows from it, with nobody in between."""
        with self._writing() as connection:
            yield Writer(self, connection)

    def endorse(self, record: int) -> int:
        """Stand behind a record that lacks endorsements.

        Returns
        -------
        int
            Number of the endorsement's record.

        Raises
        ------
        NotPermittedError
            It needs none, or none of a role of this member's.
        """
        with self._writing() as connection:
            state = self._current
            waiting = state.pending.get(record)
            if waiting is None:
                raise NotPermittedError(f"record {record} needs no endorsement")
            own = state.members.roles_of(self.account.address)
            if any(address == self.account.address for address, _ in waiting.endorsers):
                raise NotPermittedError(
                    f"{self.account.address} stands behind record {record} already"
                )
            role = next((role for role in own if role in waiting.missing), None)
            if role is None:
                raise NotPermittedError(
                    f"record {record} needs the endorsement of {', '.join(waiting.missing)}; "
                    f"{self.account.address} is {', '.join(own)}"
                )
            leaf = state.tree.leaf(record)
            digest = endorsement_digest(state.domain, state.ledger, record, leaf, role)
            body = Endorsement(
                record=record,
                leaf=leaf.hex(),
                member=self.account.address,
                role=role,
                signature=sign_digest(digest, self.account).hex(),
            )
            [number] = self._writer.write(connection, state, [Draft(body)])
        self._exchange_keys()
        self._finish_erasures()
        return number

    def change_member(self, member: Member, valid_from: int = 0) -> int:
        """Admit a member, change its roles, or (with none) let it leave, once endorsed.

        Returns
        -------
        int
            Number of the record.

        Raises
        ------
        RecordRefusedError
            It could not count, as things are: it would leave no operator, for example.
        """
        with self._writing() as connection:
            policy = self._current.members
            plain = MembershipChange(member=member, role_keys={}, valid_from=valid_from)
            lost = policy.keys_lost(policy.with_member(member))
            privates = {role: sealing.new_private_key() for role in lost}
            new_keys = {
                role: RoleKey(
                    generation=policy.role_keys[role].generation + 1,
                    public=sealing.public_key(private).hex(),
                )
                for role, private in privates.items()
            }
            body = plain.model_copy(update={"role_keys": new_keys})
            policy.changed_by(body)
            [number] = self._writer.write(
                connection, self._current, [Draft(body, role_keys=privates)]
            )
        self._exchange_keys()
        return number

    def rotate_key(self, successor: LocalAccount) -> int:
        """Go on under another key, which gets all that this one was given.

        This object, and the key it was opened with, are a member's no longer.

        Parameters
        ----------
        successor : LocalAccount
            With the other key, which is no member's.

        Returns
        -------
        int
            Number of the record.

        Raises
        ------
        RecordRefusedError
            The other key is a member's already.
        """
        member = member_of(successor)
        body = KeyRotation(
            successor=member.address, encryption=member.encryption, proof=member.proof
        )
        [number] = self.append(Draft(body))
        return number

    def erase(
        self, reason: str, *, record_numbers: Sequence[int] = (), positions: Sequence[int] = ()
    ) -> int:
        """Erase payloads, and what opens entries of the data set, for good.

        Returns
        -------
        int
            Number of the record that says so. Where the policy wants it endorsed, nothing is
            erased before that.

        Raises
        ------
        LedgerFileError
            The files could not be cleaned now. They are at the next opening.
        """
        body = ErasePending(
            records=tuple(sorted(set(record_numbers))),
            entries=tuple(sorted(set(positions))),
            reason=reason,
        )
        [number] = self.append(Draft(body))
        self._finish_erasures()
        return number

    # Parts

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.files.ledger.writing() as connection:
            self._follow(connection)
            try:
                yield connection
            except BaseException:
                # It may have taken in a block that will not be there.
                self._history = None
                raise
            committed, self._history = self._history, None
        self._history = committed

    def _exchange_keys(self) -> None:
        """Take up the keys that are there for this member, and hand on those that others lack."""
        policy = self.history.members
        with self.files.secrets.reading() as connection:
            self.keyring.load(connection)
            must = self.keyring.must_share(connection, policy)
        if must:
            # While nobody writes a block: the keys of a rotation are there just before it is.
            with self._writing(), self.files.secrets.writing() as connection:
                self.keyring.share(connection, self._current.members)

    def _testify(self) -> None:
        """Say which block there is, where it is not said yet: the first version did not."""
        state = self.history
        if (
            self.files.witness is None
            and state.height > 1
            and not self.keyring.lacks(state.members)
        ):
            with self._writing():
                self._writer.testify(self._current)

    def _finish_erasures(self) -> None:
        """Carry out the erasures under way, as far as this member may say that they are done."""
        state = self.history
        if not state.erasing or self.keyring.lacks(state.members):
            return
        for number in sorted(state.erasing):
            body = state.erasing[number]
            self._journal.note(state, body, self.keyring)
            wipe(self.files, body.records, body.entries)
            try:
                self.append(Draft(Erased(pending=number)))
            except RecordRefusedError:
                # Another process has said so meanwhile.
                if number in self.history.erasing:
                    raise
            except NotPermittedError:
                return

    def _say_again(self) -> None:
        """Say of what the journal names that it is erased, where an older file was put back.

        Only what needs no endorsement, by a member that may; the payloads are gone already.
        """
        state = self.history
        own = state.members.roles_of(self.account.address)
        if not set(own) & set(state.members.rules.writers[ErasePending.record_type]):
            return
        needed = state.members.rules.endorsements.get(ErasePending.record_type)
        if needed or self.keyring.lacks(state.members):
            return
        numbers, positions = self._journal.unsaid(state, self.keyring)
        if not numbers and not positions:
            return
        try:
            self.erase("erased-before", record_numbers=numbers, positions=positions)
        except RecordRefusedError:
            # Another process has said so meanwhile.
            if any(self._journal.unsaid(self.history, self.keyring)):
                raise


class Writer:
    """The ledger under its write lock (`Ledger.decided`).

    Parameters
    ----------
    ledger : Ledger
        The ledger.
    connection : Connection
        In the writing transaction.
    """

    def __init__(self, ledger: Ledger, connection: Connection) -> None:
        self._ledger = ledger
        self._connection = connection
        self._written = False

    @property
    def history(self) -> History:
        """The ledger's state, which nobody else changes meanwhile."""
        return self._ledger._current

    def append(self, *drafts: Draft) -> list[int]:
        """Write records in one block (`Ledger.append`); there once the lock is let go.

        Raises
        ------
        LedgerError
            A block was written already: the second's secrets would be on the disk before the first.
        """
        if self._written:
            raise LedgerError("one block is written under the lock; a second one needs another")
        self._written = True
        return self._ledger._writer.write(self._connection, self.history, drafts)
