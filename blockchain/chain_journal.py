"""The managed chain's journal: every transaction before it is sent, every block after it was mined.

One JSON line each, synced to the disk::

    {"version": 1, "initial_date": "2026-01-01T00:00:00Z"}
    {"raw": "0x02f8...", "time": 1767225600}
    {"block": 1, "hash": "0x3fa4..."}

A transaction line is followed by the head of the chain after it. The last one may lack that: the
process was killed in between, and nobody was told of its outcome. Replaying the transactions, each
at its time, on a chain with the same first block ends at the same block hash.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blockchain.durable_file import sync_folder
from blockchain.errors import NodeError

VERSION: Final = 1

_RAW: Final = re.compile(r"0x([0-9a-f]{2})+")
_HASH: Final = re.compile(r"0x[0-9a-f]{64}")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True)
class Head:
    """The newest block: its height, and its hash (``0x`` and hexadecimal)."""

    block: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """A raw transaction, the time its block was to have, and the head after it, if that is known.

    Parameters
    ----------
    raw : str
        The signed transaction, ``0x`` and hexadecimal.
    time : int
        Seconds since the epoch.
    head : Head or None
        ``None`` only for the last.
    """

    raw: str
    time: int
    head: Head | None


class ChainJournal:
    """The journal in one file.

    Parameters
    ----------
    path : Path
        The file; made with its header if it does not exist.
    initial_date : str
        Time of the first block of a chain that is new, ISO 8601 to the second, UTC.

    Raises
    ------
    NodeError
        If the file holds anything but a journal. A last line cut by a kill is dropped.
    """

    def __init__(self, path: Path, initial_date: str) -> None:
        self.path = path
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append({"version": VERSION, "initial_date": initial_date})
            # A synced file is lost all the same where its name is not on the disk.
            sync_folder(path.parent)
        self._cut_torn_line()
        header, *_ = self._lines()
        if header.keys() != {"version", "initial_date"} or header["version"] != VERSION:
            raise self._refusal(1, f"expected the header of a journal of version {VERSION}")
        date = header["initial_date"]
        if not (isinstance(date, str) and _DATE.fullmatch(date)):
            raise self._refusal(1, "expected a date such as 2026-01-01T00:00:00Z")
        self.initial_date = date

    def entries(self) -> Iterator[Entry]:
        """Yield the transactions in the order in which they were sent.

        Raises
        ------
        NodeError
            If a line is malformed, or stands where it cannot.
        """
        waiting: dict[str, Any] | None = None
        for number, line in enumerate(self._lines()[1:], start=2):
            if line.keys() == {"raw", "time"} and waiting is None:
                if not (isinstance(line["raw"], str) and _RAW.fullmatch(line["raw"])):
                    raise self._refusal(number, "expected a raw transaction")
                if type(line["time"]) is not int or line["time"] < 0:
                    raise self._refusal(number, "expected a time in seconds")
                waiting = line
            elif line.keys() == {"block", "hash"} and waiting is not None:
                if type(line["block"]) is not int or line["block"] < 0:
                    raise self._refusal(number, "expected the number of a block")
                if not (isinstance(line["hash"], str) and _HASH.fullmatch(line["hash"])):
                    raise self._refusal(number, "expected the hash of a block")
                yield Entry(**waiting, head=Head(**line))
                waiting = None
            else:
                raise self._refusal(number, "a transaction and a block take turns")
        if waiting is not None:
            yield Entry(**waiting, head=None)

    def sending(self, raw: str, time: int) -> None:
        """Note a transaction before it is sent."""
        self._append({"raw": raw, "time": time})

    def mined(self, head: Head) -> None:
        """Note the head of the chain after the transaction noted last."""
        self._append({"block": head.block, "hash": head.hash})

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _cut_torn_line(self) -> None:
        content = self.path.read_bytes()
        if not content.endswith(b"\n"):
            with self.path.open("rb+") as file:
                file.truncate(content.rfind(b"\n") + 1)
                os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for number, text in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                line = json.loads(text)
            except ValueError:
                raise self._refusal(number, "not readable") from None
            if not isinstance(line, dict):
                raise self._refusal(number, "expected a JSON object")
            lines.append(line)
        if not lines:
            raise self._refusal(1, "the header is missing")
        return lines

    def _refusal(self, number: int, what: str) -> NodeError:
        return NodeError(
            f"{self.path}:{number}: {what}; the journal was altered, and the chain cannot be "
            "brought back from it (move the file away to begin a new chain)"
        )
