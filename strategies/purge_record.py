"""What was deleted of a run for requests to forget: ``<run>/purged.json``, strictly read."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strategies.run_archive import ArchiveError, RunArchive, read_json, write_json

#: The only places at which anything is deleted; the first group is the round.
_PLACE: Final = (
    r"^(?:rounds/([0-9]{4,})(?:\.partial/[^\x00]+"
    r"|/(?:state\.safetensors|openings\.json|adapter/[^\x00]+))|updates/[^\x00]+)$"
)


@dataclass(frozen=True)
class PurgedFile:
    """A file that was deleted.

    Parameters
    ----------
    path : str
        Where it lay, relative to the run's folder, with ``/``.
    sha256 : str
        Of its content, hexadecimal.
    size : int
        Bytes.
    """

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Purge:
    """What was deleted of a run at one time.

    Parameters
    ----------
    first_round : int
        The run's own round from which on all are purged; 0 with the state that it starts from.
    requests : tuple of bytes
        Ids of the requests to forget that it was done for, 32 bytes each.
    day : date
        The day on which it was begun, UTC.
    files : tuple of PurgedFile
        What was deleted.
    last_round : int, optional
        The last round that is purged; by default there is none.
    """

    first_round: int
    requests: tuple[bytes, ...]
    day: date
    files: tuple[PurgedFile, ...]
    last_round: int | None = None

    def covers(self, round_number: int) -> bool:
        """Whether it purged a round."""
        return covered(round_number, self.first_round, self.last_round)


def covered(round_number: int, first: int, last: int | None) -> bool:
    """Whether a round is one from the first to the last, or to whichever comes."""
    return first <= round_number and (last is None or round_number <= last)


def purges_of(archive: RunArchive) -> tuple[Purge, ...]:
    """Return what was purged of a run, in order.

    Raises
    ------
    ArchiveError
        If ``purged.json`` is anything but what `write_purges` writes.
    """
    path = purged_file(archive)
    if not path.exists():
        return ()
    try:
        return _from_json(read_json(path))
    except (OSError, ValueError) as error:
        raise ArchiveError(f"{path} was altered: {error}") from error


def purged_by(archive: RunArchive, round_number: int) -> tuple[bytes, ...]:
    """Return the ids of the requests that a round was purged for, 32 bytes each, if it was.

    Raises
    ------
    ArchiveError
        If ``purged.json`` was altered.
    """
    return requests_of(purge for purge in purges_of(archive) if purge.covers(round_number))


def requests_of(purges: Iterable[Purge]) -> tuple[bytes, ...]:
    """Return the ids of the requests that purges were made for, each once."""
    return tuple(dict.fromkeys(request for purge in purges for request in purge.requests))


def write_purges(archive: RunArchive, purges: Sequence[Purge]) -> None:
    """Replace ``purged.json``.

    Raises
    ------
    ArchiveError
        If it could not be read back; then it stays as it is.
    """
    document = _to_json(purges)
    try:
        _from_json(document)
    except ValueError as error:
        raise ArchiveError(f"{archive.folder} cannot be purged: {error}") from error
    write_json(purged_file(archive), document)


def purged_file(archive: RunArchive) -> Path:
    """Where it lies, written or not."""
    return archive.folder / "purged.json"


class _Strict(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


class _File(_Strict):
    path: Annotated[str, Field(pattern=f"(?s){_PLACE}")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class _Entry(_Strict):
    first_round: Annotated[int, Field(alias="first-round", ge=0)]
    last_round: Annotated[int | None, Field(alias="last-round", ge=0)] = None
    requests: Annotated[
        list[Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]], Field(min_length=1)
    ]
    day: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    files: Annotated[list[_File], Field(min_length=1)]


class _Document(_Strict):
    version: Literal[1]
    purges: list[_Entry]


def _to_json(purges: Sequence[Purge]) -> dict[str, Any]:
    return {
        "version": 1,
        "purges": [
            {
                "first-round": purge.first_round,
                **({} if purge.last_round is None else {"last-round": purge.last_round}),
                "requests": [f"0x{request.hex()}" for request in purge.requests],
                "day": purge.day.isoformat(),
                "files": [
                    {"path": file.path, "sha256": file.sha256, "bytes": file.size}
                    for file in purge.files
                ],
            }
            for purge in purges
        ],
    }


def _from_json(document: dict[str, Any]) -> tuple[Purge, ...]:
    """Read purges; `ValueError` in one line where they are none."""
    try:
        entries = _Document.model_validate(document).purges
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])[:80]
        raise ValueError(f"{where}: {first['msg']}") from None
    places = [file.path for entry in entries for file in entry.files]
    if len(set(places)) < len(places):
        raise ValueError("a file stands in it twice")
    for entry in entries:
        for file in entry.files:
            _check_place(file.path, entry.first_round, entry.last_round)
    return tuple(
        Purge(
            first_round=entry.first_round,
            requests=tuple(bytes.fromhex(request[2:]) for request in entry.requests),
            day=date.fromisoformat(entry.day),
            files=tuple(PurgedFile(file.path, file.sha256, file.bytes) for file in entry.files),
            last_round=entry.last_round,
        )
        for entry in entries
    )


def _check_place(place: str, first_round: int, last_round: int | None) -> None:
    """Refuse a way out of the run's folder, and a file of a round that is kept."""
    path = PurePosixPath(place)
    if str(path) != place or ".." in path.parts:
        raise ValueError(f"{place[:80]!r} is no plain path")
    match = re.match(_PLACE, place)
    number = match[1] if match else None
    if number is None:
        return
    if not covered(int(number), first_round, last_round) or f"{int(number):04d}" != number:
        until = "on" if last_round is None else f"to {last_round}"
        raise ValueError(f"{place[:80]!r} is of no round from {first_round} {until}")
