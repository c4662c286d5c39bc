"""Who opened which payload, when and what for: a log whose every row covers the one before."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, insert, select

from blockchain.private.errors import InvalidLedgerError
from blockchain.private.keyring import Keyring
from blockchain.private.policy import EVERYBODY, Policy
from blockchain.private.record_types import (
    ReadsSoFar,
    Role,
)
from blockchain.private.schema import read_log

_NAME: Final = "read_log"
#: What a row's MAC covers, beside the MAC before.
_COVERED: Final = ("number", "time", "member", "role", "records", "purpose", "generation")
_NONE_BEFORE: Final = bytes(32)


@dataclass(frozen=True)
class Read:
    """Some payloads were opened.

    Parameters
    ----------
    number : int
        From 1.
    time : int
        Second since the epoch.
    member : str
        Address of who read.
    role : str
        As what.
    records : str
        Numbers of the records, such as ``3,7-9``.
    purpose : str
        What for.
    """

    number: int
    time: int
    member: str
    role: str
    records: str
    purpose: str


def log_read(
    connection: Connection,
    keyring: Keyring,
    policy: Policy,
    member: str,
    role: Role,
    records: Sequence[int],
    purpose: str,
) -> None:
    """Add a row, before what it tells of is handed out; within a writing transaction."""
    last = connection.execute(
        select(read_log).order_by(read_log.c.number.desc()).limit(1)
    ).one_or_none()
    row = {
        "number": 1 if last is None else last.number + 1,
        "time": int(time.time()),
        "member": member,
        "role": str(role),
        "records": ranges(records),
        "purpose": purpose,
        "generation": policy.role_keys[EVERYBODY].generation,
    }
    before = _NONE_BEFORE if last is None else last.mac
    signature = keyring.mac(policy, _NAME, {**row, "before": before.hex()})
    connection.execute(insert(read_log), {**row, "mac": signature})


def reads_so_far(connection: Connection) -> ReadsSoFar:
    """Return how far the log goes."""
    last = connection.execute(
        select(read_log.c.number, read_log.c.mac).order_by(read_log.c.number.desc()).limit(1)
    ).one_or_none()
    if last is None:
        return ReadsSoFar(count=0, head=_NONE_BEFORE.hex())
    return ReadsSoFar(count=last.number, head=last.mac.hex())


def check_reads(connection: Connection, keyring: Keyring, noted: ReadsSoFar) -> int:
    """Make sure that the log is whole: each MAC, the order, and the row that a record names.

    Parameters
    ----------
    connection : Connection
        To ``ledger.sqlite``.
    keyring : Keyring
        Of any member.
    noted : ReadsSoFar
        What the last record about reads says.

    Returns
    -------
    int
        How many reads there are.

    Raises
    ------
    InvalidLedgerError
        Naming the first row that does not hold.
    """
    before, count = _NONE_BEFORE, 0
    for row in connection.execute(select(read_log).order_by(read_log.c.number)):
        count += 1
        if row.number != count:
            raise InvalidLedgerError("read_log.number", f"{row.number}, expected {count}")
        values = {name: getattr(row, name) for name in _COVERED}
        keyring.check_mac(row.generation, _NAME, {**values, "before": before.hex()}, row.mac)
        before = row.mac
        if count == noted.count and row.mac.hex() != noted.head:
            raise InvalidLedgerError(
                "read_log.mac", f"read {count} is not the one that the ledger notes"
            )
    if count < noted.count:
        raise InvalidLedgerError(
            "read_log.number", f"{count} reads, the ledger notes {noted.count}: some were deleted"
        )
    return count


def all_reads(connection: Connection) -> list[Read]:
    """Return the log, oldest first; `check_reads` says whether it is whole."""
    columns = [read_log.c[name] for name in Read.__dataclass_fields__]
    rows = connection.execute(select(*columns).order_by(read_log.c.number))
    return [Read(**row._asdict()) for row in rows]


def ranges(numbers: Sequence[int]) -> str:
    """Write numbers in short: ``3,7-9``."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][-1] + 1 == number:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
