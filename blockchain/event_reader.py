"""Reads a contract's events in bounded ranges of blocks, from a checkpoint, across reorganizations.

What was read up to is noted as (height, block hash) in a small file. Before more is read, the
newest of these must still be on the chain; where it is not, the reader walks back to the newest
that is, has everything above it taken back, and reads again from there.

Delivery is **at least once**: a process killed between the delivery of a range and its checkpoint
delivers the range again. An event's `ChainEvent.identity`, the pair of its block's hash and its
place in that block, is the same each time; `blockchain.event_store.EventStore` drops what it
already has by it, so that what is in the store is there exactly once.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

from eth_utils.address import to_checksum_address
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from web3 import Web3
from web3.exceptions import Web3RPCError

from blockchain.block_hashes import block_hash
from blockchain.block_ranges import next_range
from blockchain.chain_settings import ChainSettings
from blockchain.connection import answers_of
from blockchain.durable_file import write_durably
from blockchain.errors import ChainFileError, ChainWasResetError

#: Checkpoints kept. A reorganization deeper than they reach counts as another chain.
KEPT: Final = 64

_MAX_BYTES: Final = 1 << 20

_log = logging.getLogger(__name__)

_Hash = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]


@dataclass(frozen=True)
class ChainEvent:
    """One event, decoded.

    Parameters
    ----------
    name : str
        Name of the event.
    arguments : mapping of str to object
        Its values by parameter name, as web3 decodes them.
    block_number : int
        Height of its block.
    block_hash : bytes
        Hash of its block, 32 bytes.
    log_index : int
        Its place among the events of the block.
    transaction_hash : bytes
        Transaction that emitted it, 32 bytes.
    """

    name: str
    arguments: Mapping[str, Any]
    block_number: int
    block_hash: bytes
    log_index: int
    transaction_hash: bytes

    @property
    def identity(self) -> tuple[bytes, int]:
        """What tells it from every other event, whatever happens to the chain."""
        return (self.block_hash, self.log_index)


class EventSink(Protocol):
    """Whatever takes events; both methods must bear being called again with the same."""

    def add(self, events: Sequence[ChainEvent]) -> None:
        """Apply events, in the order of the chain; what was applied before, by identity, not."""

    def undo(self, above: int) -> None:
        """Take back every event of a block above this height: those blocks are undone."""


class Checkpoint(BaseModel):
    """A block up to which everything was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0)
    hash: _Hash


class Reading(BaseModel):
    """The file: what is read, and the newest checkpoints.

    Parameters
    ----------
    chain_id : int
        Chain id.
    address : str
        Address of the contract, checksummed.
    events : tuple of str
        The events and filters read, in words.
    checkpoints : tuple of Checkpoint
        At most `KEPT`, by height.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    chain_id: int
    address: str
    events: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...] = Field(default=(), max_length=KEPT)

    @model_validator(mode="after")
    def _rising(self) -> "Reading":
        heights = [one.number for one in self.checkpoints]
        if heights != sorted(set(heights)):
            raise ValueError("the heights of the checkpoints do not rise")
        return self


class EventReader:
    """Reads some events of one contract, from the block after its checkpoint.

    Parameters
    ----------
    node : Web3
        Connection of this process.
    settings : ChainSettings
        Chain, confirmations, and how many blocks are asked for at once.
    address : str
        Address of the contract.
    abi : sequence of dict
        Its interface, with the events.
    events : mapping of str to mapping
        Names of the events to read; for each the values that its indexed parameters must have, by
        name, or an empty mapping for all.
    checkpoint_file : Path
        Where it is noted how far was read; the reader's own.
    first_block : int
        Where to begin without a checkpoint: the block of the contract's deployment. Block 0 has
        no transactions, so 1 is the first that can hold events.
    """

    def __init__(
        self,
        node: Web3,
        settings: ChainSettings,
        address: str,
        abi: Sequence[dict[str, Any]],
        events: Mapping[str, Mapping[str, Any]],
        checkpoint_file: Path,
        first_block: int = 1,
    ) -> None:
        self._node = node
        self._settings = settings
        self._contract: Any = node.eth.contract(address=to_checksum_address(address), abi=abi)
        self._events = events
        self._file = checkpoint_file
        self._first_block = max(first_block, 1)

    def apply(self, sink: EventSink) -> int:
        """Deliver everything new up to the newest confirmed block; return how many events.

        Each range is delivered and then noted. Call it again for what comes later.

        Raises
        ------
        ChainWasResetError
            None of the checkpoints is on the chain any more: it was reset, or taken back further
            than they reach. Nothing was delivered or undone.
        ChainFileError
            The checkpoint's file is not readable, or is of another contract or other events.
        NodeUnreachableError, ChainError
            The node did not answer, or with an error.
        """
        with answers_of(self._node, f"events of {self._contract.address}"):
            reading = self._begun(self._read_file())
            delivered = 0
            size = self._settings.event_range_blocks
            while reading.checkpoints:
                reading = self._standing(reading, sink)
                start = reading.checkpoints[-1]
                blocks = next_range(start.number + 1, self._newest_confirmed(), size)
                if blocks is None:
                    break
                try:
                    found = self._range(start, *blocks)
                except Web3RPCError:
                    # Nodes refuse a range with too many events, each in words of its own.
                    size = (blocks[1] - blocks[0] + 1) // 2
                    if not size:
                        raise
                    continue
                if found is not None:
                    events, end = found
                    if events:
                        sink.add(events)
                    delivered += len(events)
                    reading = self._noted(reading, (*reading.checkpoints, end)[-KEPT:])
            return delivered

    def _begun(self, reading: Reading) -> Reading:
        """Note the block before the first, where nothing was noted yet and there is that block."""
        before = self._first_block - 1
        if reading.checkpoints or before > self._newest_confirmed():
            return reading
        begin = block_hash(self._node, before)
        if begin is None:
            return reading
        return self._noted(reading, (Checkpoint(number=before, hash=begin),))

    def _newest_confirmed(self) -> int:
        return int(self._node.eth.block_number) - (self._settings.confirmations - 1)

    def _range(
        self, start: Checkpoint, first: int, last: int
    ) -> tuple[list[ChainEvent], Checkpoint] | None:
        """Events of a range and its end; None where the chain was reorganized meanwhile.

        The hash of the range's last block vouches for all before it. It is asked for before and
        after, so that the events in between are those of one history.
        """
        before = block_hash(self._node, last)
        if before is None or not self._stands(start):
            return None
        logs = [
            log
            for name, values in self._events.items()
            for log in self._contract.events[name].get_logs(
                argument_filters=dict(values), from_block=first, to_block=last
            )
        ]
        if block_hash(self._node, last) != before:
            return None
        events = [
            ChainEvent(
                name=log["event"],
                arguments=dict(log["args"]),
                block_number=int(log["blockNumber"]),
                block_hash=bytes(log["blockHash"]),
                log_index=int(log["logIndex"]),
                transaction_hash=bytes(log["transactionHash"]),
            )
            for log in logs
        ]
        events.sort(key=lambda event: (event.block_number, event.log_index))
        return events, Checkpoint(number=last, hash=before)

    def _stands(self, checkpoint: Checkpoint) -> bool:
        return block_hash(self._node, checkpoint.number) == checkpoint.hash

    def _standing(self, reading: Reading, sink: EventSink) -> Reading:
        """Walk back to the newest checkpoint that is still on the chain, undoing what is not."""
        kept = list(reading.checkpoints)
        while kept and not self._stands(kept[-1]):
            kept.pop()
        if len(kept) == len(reading.checkpoints):
            return reading
        if not kept:
            oldest = reading.checkpoints[0]
            raise ChainWasResetError(
                f"the chain at {self._settings.shown_url} holds none of the last "
                f"{len(reading.checkpoints)} blocks read up to, from block {oldest.number} "
                f"({oldest.hash[:18]}...) on: it was reset, or taken back further than that; to "
                f"read it anew, remove {self._file} and what was made of the events"
            )
        _log.warning(
            "blocks %d to %d were taken back from the chain: their events are undone",
            kept[-1].number + 1,
            reading.checkpoints[-1].number,
        )
        # First the sink, then the note: a kill in between has it undone again, not forgotten.
        sink.undo(kept[-1].number)
        return self._noted(reading, tuple(kept))

    def _noted(self, reading: Reading, checkpoints: tuple[Checkpoint, ...]) -> Reading:
        reading = reading.model_copy(update={"checkpoints": checkpoints})
        write_durably(self._file, reading.model_dump_json() + "\n")
        return reading

    def _read_file(self) -> Reading:
        fresh = Reading(
            chain_id=self._settings.chain_id,
            address=self._contract.address,
            events=tuple(sorted(_words(name, values) for name, values in self._events.items())),
        )
        try:
            if self._file.stat().st_size > _MAX_BYTES:
                raise ChainFileError(f"{self._file} is no checkpoint: larger than 1 MiB")
            reading = Reading.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return fresh
        except (OSError, ValidationError) as error:
            what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise ChainFileError(
                f"{self._file} is no checkpoint ({what}): to read the chain anew, remove it and "
                "what was made of the events"
            ) from error
        if reading.model_copy(update={"checkpoints": ()}) != fresh:
            raise ChainFileError(
                f"{self._file} is of {', '.join(reading.events)} of {reading.address} on chain "
                f"{reading.chain_id}, not of what is to be read: use another file"
            )
        return reading


def _words(name: str, values: Mapping[str, Any]) -> str:
    shown = {
        key: "0x" + value.hex() if isinstance(value, bytes) else str(value)
        for key, value in values.items()
    }
    return f"{name}({', '.join(f'{key}={shown[key]}' for key in sorted(shown))})"
