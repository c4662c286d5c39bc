"""Kills writers of a ledger at random moments, and counts what became of what they had said."""

import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from sqlalchemy import func, select

from blockchain.private.audit import audit
from blockchain.private.errors import ErasedError
from blockchain.private.files import LedgerFiles, follow
from blockchain.private.history import History
from blockchain.private.ledger import Ledger
from blockchain.private.schema import entry_secrets, keys
from tests.ledger_cases import OPERATOR, found_ledger
from tests.ledger_writer import Child, work

#: Longest time that a writer is let live, in seconds.
_LONGEST: Final = 0.6


@dataclass
class Tally:
    """What was counted, over any number of ledgers.

    Parameters
    ----------
    kills, opens : int
        Writers killed; times that a ledger was opened after it, without repair.
    acknowledged, found, lost : int
        Records that a writer had said to be written; of those, in the ledger as they were said to
        be, and not.
    erasures, unerased : int
        Payloads that a writer had said to be erased; of those, not erased.
    begun, finished : int
        Erasures that a kill left under way; of those, finished by the next opening.
    orphans : int
        Rows of secrets that a kill left without their block.
    interrupted : Counter
        What the writers were doing.
    """

    kills: int = 0
    opens: int = 0
    acknowledged: int = 0
    found: int = 0
    lost: int = 0
    erasures: int = 0
    unerased: int = 0
    begun: int = 0
    finished: int = 0
    orphans: int = 0
    interrupted: Counter[str] = field(default_factory=Counter)


class KilledLedger:
    """A ledger whose writers are killed.

    Parameters
    ----------
    folder : Path
        Where it is begun.
    seed : int
        Of what writers do, and when they are killed.
    tally : Tally
        Where it is counted.
    """

    def __init__(self, folder: Path, seed: int, tally: Tally) -> None:
        self.folder = found_ledger(folder)
        self.tally = tally
        self._rng = np.random.default_rng(seed)
        self._said: dict[int, bytes] = {}
        self._erased: set[int] = set()

    def kill(self) -> None:
        """Let a writer write, kill it, and open the ledger again; it is audited as well."""
        doing = "starting"
        with Child(work, self.folder, int(self._rng.integers(1 << 30))) as child:
            child.next()
            time.sleep(self._rng.uniform(0, _LONGEST))
            status = child.kill()
            if status != -signal.SIGKILL:
                raise RuntimeError(f"the writer ended by itself: {status}, {list(child.said())}")
            for word, *what in child.said():
                if word == "begins":
                    [doing] = what
                else:
                    doing = "in between"
                    self._take(*what)
        self.tally.kills += 1
        self.tally.interrupted[doing] += 1
        begun = self._left()
        with Ledger(self.folder, OPERATOR) as ledger:
            self.tally.opens += 1
            history = ledger.history
        self.tally.begun += len(begun)
        self.tally.finished += len(begun - history.erasing.keys())
        audit(self.folder, OPERATOR)

    def count(self) -> None:
        """Look for everything that writers had said, once no more of them come."""
        with Ledger(self.folder, OPERATOR) as ledger:
            history = ledger.history
            found = {
                number
                for number, leaf in self._said.items()
                if number < history.size and history.tree.leaf(number) == leaf
            }
            standing = sorted(found - history.erased_records.keys())
            opened = ledger.read_all(standing, "to look for what was said")
            found -= {one.leaf.record for one in opened if one.leaf.sealed and not one.payload}
            self.tally.acknowledged += len(self._said)
            self.tally.found += len(found)
            self.tally.lost += len(self._said) - len(found)
            self.tally.erasures += len(self._erased)
            self.tally.unerased += sum(not _is_erased(ledger, n) for n in self._erased)

    def _take(self, written: list[tuple[int, bytes]], erased: list[int]) -> None:
        for number, leaf in written:
            if self._said.setdefault(number, leaf) != leaf:
                raise RuntimeError(f"record {number} was acknowledged twice")
        self._erased.update(erased)

    def _left(self) -> set[int]:
        """Return the erasures under way, before anybody opens the ledger; count orphans."""
        files, history = LedgerFiles(self.folder, read_only=True), History()
        try:
            with files.ledger.reading() as connection:
                follow(connection, history)
            with files.secrets.reading() as connection:
                for table, column, size in (
                    (keys, keys.c.record, history.size),
                    (entry_secrets, entry_secrets.c.position, history.entries.size),
                ):
                    orphans = select(func.count()).select_from(table).where(column >= size)
                    self.tally.orphans += int(connection.execute(orphans).scalar_one())
        finally:
            files.close()
        return set(history.erasing)


def _is_erased(ledger: Ledger, number: int) -> bool:
    try:
        ledger.read(number, "to see whether it is erased")
    except ErasedError:
        return ledger.history.must_miss(number)
    return False
