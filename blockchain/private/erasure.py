"""Erasure from the files: keys, salts and ciphertexts deleted, and no trace of them left behind.

What is erased is noted beside the ledger first, in ``erasures.jsonl``: the files may be replaced by
a backup that still holds it, and it is erased from that too before anybody opens it. The note names
leaves by number and hash, nothing else, and carries a MAC: what no member noted is gone from the
files all the same, but the ledger never says that it was erased, and does not hold. Keep a copy of
it apart from the backups.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Table, delete, select

from blockchain.canonical import CanonicalJSON
from blockchain.durable_file import sync_folder
from blockchain.private.errors import LedgerFileError
from blockchain.private.files import LedgerFiles
from blockchain.private.history import History
from blockchain.private.keyring import Keyring
from blockchain.private.policy import EVERYBODY
from blockchain.private.record_fields import Hash, Number
from blockchain.private.record_types import ErasePending
from blockchain.private.schema import entries, entry_secrets, keys, payloads, records
from blockchain.transparency_log import leaf_hash

_NAME: Final = "erasures"
_CHUNK: Final = 500
_PRIVATE: Final = 0o600


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["record", "entry"]
    number: Number
    leaf: Hash
    generation: Number
    mac: Hash

    @property
    def what(self) -> tuple[str, int, str]:
        """What it says is erased."""
        return self.kind, self.number, self.leaf


class ErasureJournal:
    """What was erased from a ledger, whatever copy of its files is in place.

    Parameters
    ----------
    folder : Path
        The ledger's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "erasures.jsonl"

    def note(self, history: History, body: ErasePending, keyring: Keyring) -> None:
        """Note what is about to be erased; on the disk when this returns."""
        wanted = [("record", n, history.tree.leaf(n).hex()) for n in body.records]
        wanted += [("entry", n, history.commitments[n].hex()) for n in body.entries]
        policy = history.members
        generation = policy.role_keys[EVERYBODY].generation
        lines = []
        for kind, number, leaf in wanted:
            row: dict[str, CanonicalJSON] = {
                "kind": kind,
                "number": number,
                "leaf": leaf,
                "generation": generation,
            }
            signed = {**row, "mac": keyring.mac(policy, _NAME, row).hex()}
            lines.append(_Line.model_validate(signed))
        self._add(lines)

    def merge(self, *others: "ErasureJournal") -> None:
        """Note what others have noted."""
        for other in others:
            self._add(other._lines())

    def _add(self, lines: Sequence[_Line]) -> None:
        known = {line.what for line in self._lines()}
        new = [line for line in lines if line.what not in known]
        if not new:
            return
        is_new = not self.path.exists()
        if is_new:
            self.path.touch(_PRIVATE)
        with self.path.open("ab+") as file:
            # What a kill cut short goes.
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            for line in new:
                file.write(line.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.path.parent)

    def apply(self, files: LedgerFiles) -> None:
        """Erase from the files whatever is noted and still in them."""
        lines = self._lines()
        if not lines:
            return
        numbers = [line.number for line in lines if line.kind == "record"]
        positions = [line.number for line in lines if line.kind == "entry"]
        there = _present(files, numbers, positions)
        if not any(there):
            return
        noted = {line.what for line in lines}
        with files.ledger.reading() as connection:
            # Of another history of the same ledger, the same number is another record.
            rows = connection.execute(select(records.c.record, records.c.leaf))
            own = {
                row.record
                for row in rows
                if ("record", row.record, leaf_hash(row.leaf).hex()) in noted
            }
            committed = connection.execute(select(entries.c.position, entries.c.commitment))
            own_entries = {
                row.position
                for row in committed
                if ("entry", row.position, row.commitment.hex()) in noted
            }
        still, still_entries = sorted(own & there[0]), sorted(own_entries & there[1])
        if still or still_entries:
            wipe(files, still, still_entries)

    def unsaid(self, history: History, keyring: Keyring) -> tuple[list[int], list[int]]:
        """Return which records and entries are noted, and the ledger does not say are erased.

        Raises
        ------
        InvalidLedgerError
            No member noted one of them.
        """
        numbers: set[int] = set()
        positions: set[int] = set()
        for line in self._lines():
            if line.kind == "record":
                there = line.number < history.size
                own = there and line.leaf == history.tree.leaf(line.number).hex()
                said, found = line.number in history.erased_records, numbers
            else:
                there = line.number < history.entries.size
                own = there and line.leaf == history.commitments[line.number].hex()
                said, found = line.number in history.erased_entries, positions
            if own and not said:
                row = line.model_dump(exclude={"mac"})
                keyring.check_mac(line.generation, _NAME, row, bytes.fromhex(line.mac))
                found.add(line.number)
        return sorted(numbers), sorted(positions)

    def _lines(self) -> list[_Line]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        lines = []
        for number, text in enumerate(content.split(b"\n")[:-1], start=1):
            try:
                lines.append(_Line.model_validate_json(text))
            except ValidationError as error:
                raise LedgerFileError(
                    f"{self.path}:{number} is no noted erasure: it was altered; restore it"
                ) from error
        return lines


def wipe(files: LedgerFiles, numbers: Sequence[int], positions: Sequence[int]) -> None:
    """Delete keys, salts and ciphertexts, and clean both files of what they left.

    Deleted content is overwritten, each file is written anew, and its write-ahead log is emptied.

    Raises
    ------
    LedgerFileError
        A file could not be cleaned, most often because another process reads it.
    """
    if numbers or positions:
        with files.secrets.writing() as connection:
            for chunk in _chunks(numbers):
                connection.execute(delete(keys).where(keys.c.record.in_(chunk)))
            for chunk in _chunks(positions):
                connection.execute(delete(entry_secrets).where(entry_secrets.c.position.in_(chunk)))
        with files.ledger.writing() as connection:
            for chunk in _chunks(numbers):
                connection.execute(delete(payloads).where(payloads.c.record.in_(chunk)))
    for database in (files.secrets, files.ledger):
        database.rewrite()


def _present(
    files: LedgerFiles, numbers: Sequence[int], positions: Sequence[int]
) -> tuple[set[int], set[int]]:
    """Return which of the records and entries still have something to erase."""

    def found(database: str, table: Table, column: str, wanted: Sequence[int]) -> set[int]:
        name = table.c[column]
        with getattr(files, database).reading() as connection:
            return {
                row[0]
                for chunk in _chunks(wanted)
                for row in connection.execute(select(name).where(name.in_(chunk)))
            }

    here = found("secrets", keys, "record", numbers) | found("ledger", payloads, "record", numbers)
    return here, found("secrets", entry_secrets, "position", positions)


def _chunks(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    return (numbers[i : i + _CHUNK] for i in range(0, len(numbers), _CHUNK))
