"""Processes of their own that work on a ledger: killed, locked out, or short of room."""

import ctypes
import hashlib
import multiprocessing
import os
import resource
import signal
import struct
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from blockchain.private import block_writer, data_sets, founding
from blockchain.private.audit import audit
from blockchain.private.database import Database
from blockchain.private.drafts import Draft
from blockchain.private.errors import LedgerError
from blockchain.private.ledger import Ledger
from tests.ledger_cases import OPERATOR, found_ledger, training_run

#: Has this module loaded already when a process is wanted: that starts in milliseconds.
_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.ledger_writer"])

_PATIENCE: Final = 120.0

#: How often a writer writes a record, a block, a data set; and erases.
_SHARES: Final = (0.74, 0.12, 0.06, 0.08)

Say = Callable[..., None]


class Child:
    """A process that does one of the things below, and says what it has done.

    Parameters
    ----------
    task : callable
        What it does, a function of this module: of `Say`, and of the arguments.
    arguments : object
        Its arguments.
    """

    def __init__(self, task: Callable[..., None], *arguments: object) -> None:
        self._said, saying = _PROCESSES.Pipe(duplex=False)
        self._process = _PROCESSES.Process(target=_run, args=(saying, task, arguments))
        self._process.start()
        saying.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._said.close()
        self._process.close()

    def next(self) -> Any:
        """Wait for the next thing it says; `EOFError` where it has ended."""
        if not self._said.poll(_PATIENCE):
            raise TimeoutError("the process says nothing")
        return self._said.recv()

    def said(self) -> Iterator[Any]:
        """What it says until it ends."""
        try:
            while True:
                yield self.next()
        except EOFError:
            return

    def kill(self) -> int:
        """Kill it, if it is there yet; how it ended, negative for a signal."""
        self._process.kill()
        return self.status()

    def status(self) -> int:
        """Wait for its end; how it ended, negative for a signal."""
        self._process.join(_PATIENCE)
        if self._process.exitcode is None:
            raise TimeoutError("the process does not end")
        return self._process.exitcode


def _run(saying: Connection, task: Callable[..., None], arguments: tuple[object, ...]) -> None:
    # One system call each: said whole or not at all, and heard even if it is killed right after.
    def say(*words: object) -> None:
        saying.send(words)

    say("started")
    task(say, *arguments)


# What a process can do


def append_runs(say: Say, folder: Path, first: int, count: int, size: int = 1) -> None:
    """Write training runs, `size` in a block, and say each record's number and round."""
    with Ledger(folder, OPERATOR) as ledger:
        for start in range(first, first + count, size):
            rounds = range(start, start + size)
            numbers = ledger.append(*(Draft(payload=training_run(one)) for one in rounds))
            for number, one in zip(numbers, rounds, strict=True):
                say(number, one)


def work(say: Say, folder: Path, seed: int) -> None:
    """Write, commit to data sets and erase, in any order and without end.

    Says what it begins; then, once it is acknowledged, the number and leaf hash of each record
    written, and the numbers of the records whose payloads are erased.
    """
    rng = np.random.default_rng(seed)
    say("begins", "opening")
    with Ledger(folder, OPERATOR) as ledger:
        while True:
            what = str(rng.choice(("record", "block", "data set", "erasure"), p=_SHARES))
            say("begins", what)
            numbers: list[int] = []
            erased: list[int] = []
            if what == "data set":
                numbers = [data_sets.commit(ledger, "reviews", _data(int(rng.integers(12)))).record]
            elif what == "erasure":
                erased = _some_payload(ledger, rng)
                if erased:
                    numbers = [ledger.erase("retention", record_numbers=erased)]
            else:
                rounds = rng.integers(1 << 30, size=1 if what == "record" else 8).tolist()
                numbers = ledger.append(*(Draft(payload=training_run(one)) for one in rounds))
            tree = ledger.history.tree
            say("done", [(number, tree.leaf(number)) for number in numbers], erased)


def _data(first: int) -> dict[str, bytes]:
    return {f"{n}": hashlib.sha256(b"%d" % n).digest() for n in range(first, first + 8)}


def _some_payload(ledger: Ledger, rng: np.random.Generator) -> list[int]:
    history = ledger.history
    there = [
        number
        for number, record_type in enumerate(history.types)
        if record_type == "training-run" and number not in history.erased_records
    ]
    return sorted(rng.choice(there, min(2, len(there)), replace=False).tolist()) if there else []


def die_before_the_block(say: Say, folder: Path, payloads: int) -> None:
    """Get killed when a block's secrets are committed and the block is not."""

    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    block_writer.insert_block = killed
    with Ledger(folder, OPERATOR) as ledger:
        ledger.append(*(Draft(payload=training_run(900 + n)) for n in range(payloads)))


def die_founding(say: Say, folder: Path, kind: str) -> None:
    """Get killed when one of the two files of a new ledger has its tables and not its rows."""
    create = founding.create

    def killed(path: Path, made: str, fill: Callable[[Any], object]) -> None:
        def filled(connection: object) -> None:
            if made == kind:
                os.kill(os.getpid(), signal.SIGKILL)
            fill(connection)

        create(path, made, fill=filled)

    founding.create = killed
    found_ledger(folder)


def die_in_the_data_set(say: Say, folder: Path) -> None:
    """Get killed when a data set's secrets are committed and its block is not."""

    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    block_writer.insert_block = killed
    with Ledger(folder, OPERATOR) as ledger:
        data_sets.commit(ledger, "reviews", _data(0))


def watch(say: Say, folder: Path) -> None:
    """Open the ledger again and again, and say the size and root of what is there."""
    while True:
        with Ledger(folder, OPERATOR) as ledger:
            tree = ledger.history.tree
            ledger.read(tree.size - 1, "to watch")
            say(tree.size, tree.root())


def audit_again(say: Say, folder: Path) -> None:
    """Audit the ledger again and again, and say the size and root of what is there."""
    while True:
        tree = audit(folder, OPERATOR).history.tree
        say(tree.size, tree.root())


def hold_the_lock(say: Say, path: Path, kind: str) -> None:
    """Hold a file's write lock until killed."""
    database = Database(path, kind)
    with database.writing():
        say("locked")
        time.sleep(_PATIENCE)


def open_once(say: Say, folder: Path) -> None:
    """Open the ledger, and say how many records there are."""
    with Ledger(folder, OPERATOR) as ledger:
        say(ledger.history.size)


def run_out_of_room(say: Say, folder: Path, room: int) -> None:
    """Write while no file may grow by more than `room` bytes, and once more when it may.

    Says the number of each record, what the failure says, and the number of the record after it.
    """
    with Ledger(folder, OPERATOR) as ledger:
        largest = max(path.stat().st_size for path in folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + room, resource.RLIM_INFINITY))
        try:
            while True:
                say(*ledger.append(Draft(payload=training_run())))
        except LedgerError as error:
            say(type(error).__name__, str(error))
        unlimited = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
        say(*ledger.append(Draft(payload=training_run())))


def try_with_permissions(say: Say, folder: Path) -> None:
    """Open, bound by the permissions of files as root is not, and append; say what failed."""
    libc, version = ctypes.CDLL(None, use_errno=True), 0x20080522
    # No capability of any kind, of which root has those to pass over permissions (capset(2)).
    if libc.capset(struct.pack("Ii", version, 0), bytes(24)):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        with Ledger(folder, OPERATOR) as ledger:
            say("opened")
            ledger.append(Draft(payload=training_run()))
        say("appended")
    except LedgerError as error:
        say(type(error).__name__, str(error))
