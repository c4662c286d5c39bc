"""A contract's events on this machine's disk, each exactly once.

One JSON line for each event, in the order in which they were applied, and one wherever blocks were
taken back::

    {"name": "RoundOpened", "arguments": {"task": {"bytes": "3f..."}, "round": 1},
     "block_number": 7, "block_hash": "5c...", "log_index": 0, "transaction_hash": "a0..."}
    {"undone_above": 6}

What counts is what the file says: whoever makes a state of the events makes it of `events`, and
not of the calls to `add`, which come at least once.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from blockchain.durable_file import sync_folder
from blockchain.errors import ChainFileError
from blockchain.event_reader import ChainEvent

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: dict[str, Any]
    block_number: int = Field(ge=0)
    block_hash: _Hash
    log_index: int = Field(ge=0)
    transaction_hash: _Hash


class _Undone(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    undone_above: int = Field(ge=0)


_LINE: Final = TypeAdapter[_Line | _Undone](_Line | _Undone)


class EventStore:
    """The events in one file, for one process at a time.

    Parameters
    ----------
    path : Path
        The file; made where there is none. A last line cut by a kill is dropped.

    Raises
    ------
    ChainFileError
        If the file holds anything else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._events: dict[tuple[bytes, int], ChainEvent] = {}
        self._load()

    @property
    def events(self) -> list[ChainEvent]:
        """Events that stand, in the order of the chain."""
        return sorted(self._events.values(), key=lambda one: (one.block_number, one.log_index))

    def add(self, events: Sequence[ChainEvent]) -> None:
        """Keep events, but for those that are kept already; on the disk when this returns."""
        new = {event.identity: event for event in events if event.identity not in self._events}
        self._append([_line(event) for event in new.values()])
        self._events.update(new)

    def undo(self, above: int) -> None:
        """Drop the events of all blocks above a height."""
        if any(event.block_number > above for event in self._events.values()):
            self._append([_Undone(undone_above=above)])
            self._drop(above)

    def _drop(self, above: int) -> None:
        kept = {key: one for key, one in self._events.items() if one.block_number <= above}
        self._events = kept

    def _append(self, lines: Sequence[BaseModel]) -> None:
        if not lines:
            return
        new = not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(b"".join(line.model_dump_json().encode() + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(self._path.parent)

    def _load(self) -> None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        for number, text in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                line = _LINE.validate_json(text)
                if isinstance(line, _Undone):
                    self._drop(line.undone_above)
                else:
                    event = _event(line)
                    self._events[event.identity] = event
            except (ValidationError, ValueError) as error:
                raise ChainFileError(
                    f"{self._path}:{number} is no event: to read the chain anew, remove the file "
                    "and the checkpoint of its reader"
                ) from error
        if len(whole) != len(content):
            with self._path.open("rb+") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())


def _line(event: ChainEvent) -> _Line:
    return _Line(
        name=event.name,
        arguments={key: _written(value) for key, value in event.arguments.items()},
        block_number=event.block_number,
        block_hash=event.block_hash.hex(),
        log_index=event.log_index,
        transaction_hash=event.transaction_hash.hex(),
    )


def _event(line: _Line) -> ChainEvent:
    return ChainEvent(
        name=line.name,
        arguments={key: _read(value) for key, value in line.arguments.items()},
        block_number=line.block_number,
        block_hash=bytes.fromhex(line.block_hash),
        log_index=line.log_index,
        transaction_hash=bytes.fromhex(line.transaction_hash),
    )


def _written(value: Any) -> Any:
    """Give a decoded value as JSON: bytes and structs marked as what they are."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Mapping):
        return {"struct": {key: _written(part) for key, part in value.items()}}
    if isinstance(value, list | tuple):
        return [_written(part) for part in value]
    return value


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(part) for part in value)
    if isinstance(value, dict):
        [(kind, content)] = value.items()
        if kind == "bytes" and isinstance(content, str):
            return bytes.fromhex(content)
        if kind == "struct" and isinstance(content, dict):
            return {key: _read(part) for key, part in content.items()}
        raise ValueError(f"unknown kind of value: {kind}")
    return value
