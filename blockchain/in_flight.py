"""What an account has in flight: written to the disk before it is sent, removed with its receipt.

One file an account and chain, beside the account's lock file, which whoever writes here holds.
Readers need no lock: the file is replaced as a whole. ::

    {"version": 1, "chain_id": 31337, "genesis_hash": "0x...", "next_nonce": 4, "transactions": [
      {"nonce": 4, "transaction_hash": "0x...", "raw": "0x02f8...", "call": "openRound",
       "request_hash": "0x...", "waiting": {"pid": 4711, "started": 1767225600.5}}]}
"""

import functools
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import psutil
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from web3.types import TxParams

from blockchain.durable_file import write_durably
from blockchain.errors import ChainFileError

#: A transaction has at most 128 KiB, twice that in hexadecimal.
_MAX_BYTES: Final = 64 << 20
_PRIVATE: Final = 0o600

_log = logging.getLogger(__name__)

_Hash = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]


class WaitingProcess(BaseModel):
    """The process that waits for a transaction's receipt, told from any later one of its id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int = Field(ge=1)
    started: float = Field(description="Seconds since the epoch.")

    @classmethod
    def this(cls) -> Self:
        """Name the process that asks."""
        return cls(pid=os.getpid(), started=_started(os.getpid()))

    def lives(self) -> bool:
        """Whether the process still runs."""
        if self.pid == os.getpid():
            return self == self.this()
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 2.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class InFlight(BaseModel):
    """A signed transaction whose outcome was not known when this was written.

    Parameters
    ----------
    nonce : int
        Its nonce.
    transaction_hash : str
        Its hash, ``0x`` and hexadecimal.
    raw : str
        The signed bytes, ``0x`` and hexadecimal.
    call : str
        What it does, for messages.
    request_hash : str
        Hash of what was asked for, without nonce and fees: see `Sender`.
    waiting : WaitingProcess or None
        Who waits for its receipt; None where the wait was given up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nonce: int = Field(ge=0, lt=2**64)
    transaction_hash: _Hash
    raw: str = Field(pattern=r"^0x([0-9a-f]{2})+$")
    call: str
    request_hash: _Hash
    waiting: WaitingProcess | None

    @model_validator(mode="after")
    def _same(self) -> Self:
        if "0x" + keccak(hexstr=self.raw).hex() != self.transaction_hash:
            raise ValueError("the transaction does not have the hash written beside it")
        return self

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.waiting is None or not self.waiting.lives()


class AccountRecord(BaseModel):
    """All that is kept of one account on one chain.

    Parameters
    ----------
    chain_id : int
        Chain id.
    genesis_hash : str
        Hash of the chain's first block: another one is another life of the chain.
    next_nonce : int
        One more than the highest nonce known to have landed.
    transactions : tuple of InFlight
        What is in flight, by nonce.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    chain_id: int
    genesis_hash: _Hash
    next_nonce: int = Field(default=0, ge=0, lt=2**64)
    transactions: tuple[InFlight, ...] = ()

    def put(self, entries: Iterable[InFlight]) -> Self:
        """Add transactions, or replace those of the same hash."""
        entries = tuple(entries)
        kept = self.without(entries).transactions
        return self._with(tuple(sorted((*kept, *entries), key=lambda entry: entry.nonce)))

    def without(self, entries: Iterable[InFlight]) -> Self:
        """Take transactions out, where they are in it."""
        gone = {entry.transaction_hash for entry in entries}
        return self._with(
            tuple(one for one in self.transactions if one.transaction_hash not in gone)
        )

    def landed(self, entry: InFlight) -> Self:
        """Take out a transaction that is on the chain, where it is still in it."""
        if entry.transaction_hash not in {one.transaction_hash for one in self.transactions}:
            return self
        after = max(self.next_nonce, entry.nonce + 1)
        return self.without([entry]).model_copy(update={"next_nonce": after})

    def given_up(self, entries: Iterable[InFlight]) -> Self:
        """Note that nobody waits for these any more, where they are still in it."""
        hashes = {entry.transaction_hash for entry in entries}
        return self.put(
            one.model_copy(update={"waiting": None})
            for one in self.transactions
            if one.transaction_hash in hashes
        )

    def needs_care(self, genesis_hash: str) -> bool:
        """Whether something in it has nobody who waits, or it is of another life of the chain."""
        other_life = self.genesis_hash != genesis_hash
        return other_life or any(one.abandoned for one in self.transactions)

    def _with(self, transactions: tuple[InFlight, ...]) -> Self:
        return self.model_copy(update={"transactions": transactions})


class InFlightFile:
    """The file of one account on one chain.

    Parameters
    ----------
    folder : Path
        Folder of the account's lock file.
    address : str
        Address of the account.
    chain_id : int
        Chain id.
    """

    def __init__(self, folder: Path, address: str, chain_id: int) -> None:
        self.path = folder / f"{address}.{chain_id}.in-flight.json"
        self._chain_id = chain_id
        # Mostly it is this process that wrote what it reads: checked once is enough.
        self._known: tuple[bytes, AccountRecord] | None = None

    def read(self) -> AccountRecord | None:
        """Read the file; None where there is none.

        Raises
        ------
        ChainFileError
            The file is not readable, or holds anything else. It is left as it is.
        """
        try:
            if self.path.stat().st_size > _MAX_BYTES:
                raise self._refusal(f"more than {_MAX_BYTES:,} bytes")
            content = self.path.read_bytes()
            known = self._known
            if known is not None and known[0] == content:
                return known[1]
            record = AccountRecord.model_validate_json(content)
        except FileNotFoundError:
            return None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise self._refusal(f"{place}: {first['msg']}" if place else first["msg"]) from error
        except OSError as error:
            raise self._refusal(error.strerror or type(error).__name__) from error
        if record.chain_id != self._chain_id:
            raise self._refusal(f"of chain {record.chain_id}")
        self._known = (content, record)
        return record

    def write(self, record: AccountRecord) -> None:
        """Replace the file; what it says is on the disk when this returns."""
        content = record.model_dump_json().encode() + b"\n"
        write_durably(self.path, content, _PRIVATE)
        self._known = (content, record)

    def _refusal(self, what: str) -> ChainFileError:
        return ChainFileError(
            f"{self.path} is no record of transactions in flight ({what}): nothing was sent; move "
            "it away once the account has nothing in flight"
        )


def request_hash(transaction: TxParams) -> str:
    """Hash what is asked for: receiver, value and data, whatever nonce and fees it is sent with."""
    receiver = to_canonical_address(transaction["to"]) if "to" in transaction else b""
    value = int(transaction.get("value", 0)).to_bytes(32)
    data = bytes(HexBytes(transaction.get("data", b"")))
    return "0x" + keccak(len(receiver).to_bytes(1) + receiver + value + data).hex()


def warn_dropped(entry: InFlight, reason: str) -> None:
    """Log that a transaction will not be sent any more."""
    _log.warning(
        "%s (nonce %d, transaction %s) was in flight and is dropped: %s",
        entry.call,
        entry.nonce,
        entry.transaction_hash,
        reason,
    )


@functools.cache
def _started(pid: int) -> float:
    return psutil.Process(pid).create_time()
