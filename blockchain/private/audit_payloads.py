"""Payloads and their keys, held against the leaves in both directions."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Table, select

from blockchain.private.encoding import Block, Leaf, ciphertext_hash
from blockchain.private.errors import InvalidLedgerError, NotPermittedError
from blockchain.private.files import LedgerFiles
from blockchain.private.history import History
from blockchain.private.keyring import Keyring
from blockchain.private.payloads import open_payload
from blockchain.private.policy import Policy
from blockchain.private.record_types import DataSetKey
from blockchain.private.schema import keys, payloads

_CHUNK: Final = 1000
_NONCE_SIZE: Final = 12


@dataclass
class SealedLeaves:
    """What the leaves say of payloads, as blocks are followed."""

    leaves: dict[int, Leaf] = field(default_factory=dict)
    #: By record, each role that its key was to be sealed to, with the role key's generation.
    roles: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    #: By height, records up to and with the block.
    sizes: list[int] = field(default_factory=list)

    def take(self, block: Block, leaves: Sequence[Leaf], policy: Policy) -> None:
        """Note a block's payloads, and the keys that they were to be sealed to."""
        self.sizes.append(block.size)
        for leaf in leaves:
            if leaf.sealed is not None:
                self.leaves[leaf.record] = leaf
                self.roles[leaf.record] = sorted(
                    (str(role), policy.role_keys[role].generation)
                    for role in policy.readers(leaf.type)
                )

    def block_of(self, record: int) -> int | None:
        """Return the height of the block that holds a record."""
        height = bisect_right(self.sizes, record)
        return height if height < len(self.sizes) else None


@dataclass
class PayloadAudit:
    """What an audit of payloads found.

    Parameters
    ----------
    opened, closed : int
        Payloads held against their commitments; payloads of which only the ciphertext was checked,
        for want of a key.
    data_keys : list of bytes
        Of the data sets that were opened, in order.
    """

    opened: int = 0
    closed: int = 0
    data_keys: list[bytes] = field(default_factory=list)


def check_payloads(
    files: LedgerFiles,
    history: History,
    sealed: SealedLeaves,
    keyring: Keyring | None,
    progress: Callable[[int], None] = lambda _: None,
    *,
    whole: bool = True,
) -> PayloadAudit:
    """Check every payload and key that there is, and that there are no others.

    Parameters
    ----------
    files : LedgerFiles
        The ledger's.
    history : History
        Its state.
    sealed : SealedLeaves
        What its leaves say.
    keyring : Keyring, optional
        Of the member that looks.
    progress : callable
        Told up to which record it is.
    whole : bool
        Whether the leaves are all there are: if not, only what is there is checked.

    Raises
    ------
    InvalidLedgerError
        Naming the first block and field that does not hold.
    """
    found = PayloadAudit()
    with files.ledger.reading() as ledger, files.secrets.reading() as secrets:
        payload_rows, key_rows = _Rows(ledger, payloads), _Rows(secrets, keys)
        for record, leaf in sealed.leaves.items():
            try:
                payload, key = payload_rows.at(record), key_rows.at(record)
                if whole:
                    _check_presence("payloads", history, record, payload)
                    _check_presence("keys", history, record, key)
                if payload and key and not history.may_miss(record):
                    _check(found, leaf, sealed.roles[record], payload[0], key, keyring)
            except InvalidLedgerError as error:
                raise InvalidLedgerError(
                    error.field, error.detail, block=sealed.block_of(record), record=record
                ) from error
            if record % _CHUNK == 0:
                progress(record)
        if whole:
            payload_rows.end()
            # Keys of later records are what a killed writer left, for a block that never was.
            key_rows.end(history.size)
    return found


class _Rows:
    """A table's rows in the order of their records, each record's at once."""

    def __init__(self, connection: Connection, table: Table) -> None:
        self._name = f"{table.name}.record"
        rows = connection.execute(
            select(table).order_by(table.c.record), execution_options={"yield_per": _CHUNK}
        )
        self._groups: Iterator[tuple[int, list[Any]]] = (
            (record, list(group)) for record, group in groupby(rows, key=lambda row: row.record)
        )
        self._next = next(self._groups, None)

    def at(self, record: int) -> list[Any]:
        """Return the rows of a record; none may be left of those between it and the last one."""
        if self._next is not None and self._next[0] < record:
            raise InvalidLedgerError(
                self._name, f"record {self._next[0]} has one, and has no payload"
            )
        if self._next is None or self._next[0] != record:
            return []
        rows = self._next[1]
        self._next = next(self._groups, None)
        return rows

    def end(self, size: int | None = None) -> None:
        """Make sure that no rows are left, of records below a size."""
        if self._next is not None and (size is None or self._next[0] < size):
            raise InvalidLedgerError(
                self._name, "it has one, and has no payload", record=self._next[0]
            )


def _check_presence(table: str, history: History, record: int, rows: Sequence[Any]) -> None:
    if rows and history.must_miss(record):
        raise InvalidLedgerError(f"{table}.record", "it was erased, and is there")
    if not rows and not history.may_miss(record):
        raise InvalidLedgerError(f"{table}.record", "it is missing, and was not erased")


def _check(
    found: PayloadAudit,
    leaf: Leaf,
    roles: list[tuple[str, int]],
    payload: Any,
    key: Sequence[Any],
    keyring: Keyring | None,
) -> None:
    ciphertext = ciphertext_hash(payload.nonce, payload.ciphertext).hex()
    # The hash does not say where the one ends and the other begins.
    if len(payload.nonce) != _NONCE_SIZE:
        raise InvalidLedgerError(
            "payloads.nonce", f"{len(payload.nonce)} bytes, expected {_NONCE_SIZE}"
        )
    if leaf.sealed is None or ciphertext != leaf.sealed.ciphertext:
        raise InvalidLedgerError("payloads.ciphertext", "it is not the one that its leaf names")
    there = sorted((row.role, row.generation) for row in key)
    if there != roles:
        raise InvalidLedgerError("keys.role", f"sealed to {there}, expected {roles}")
    if keyring is None:
        found.closed += 1
        return
    for row in key:
        keyring.check_row("keys", row)
    try:
        # By one of the keys; of the others, the MACs say that a member sealed them.
        opened, _ = open_payload(keyring, leaf, payload, key)
    except NotPermittedError:
        found.closed += 1
        return
    found.opened += 1
    if isinstance(opened.payload, DataSetKey):
        found.data_keys.append(bytes.fromhex(opened.payload.key))
