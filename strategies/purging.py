"""Deletes what a run holds of data that is to be forgotten.

What is deleted is noted in ``purged.json`` before anything is: a purge that was cut short is
finished by the next one, and an audit (`strategies.audit_purged`) can tell what was purged from
what was lost. A purged round keeps its manifest, seal, attestation and record.
"""

import hashlib
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final, Literal

from blockchain.durable_file import sync_folder
from blockchain.merkle import check_hash
from strategies.purge_record import (
    Purge,
    PurgedFile,
    covered,
    purged_by,
    purged_file,
    purges_of,
    write_purges,
)
from strategies.run_archive import ArchiveError, RunArchive

__all__ = ["Purge", "PurgedFile", "files_left", "purge_rounds", "purged_by", "purges_of"]

#: What a round holds of the data; of all else it keeps hashes, if anything.
_PARTS: Final = ("state.safetensors", "adapter", "openings.json")

#: A round that was written whole, or that a kill left half written.
_ROUND: Final = re.compile(r"([0-9]{4,})(\.partial)?")

#: Folders that go once they are empty.
_EMPTIED: Final = re.compile(r"rounds/[0-9]{4,}(\.partial|/adapter)(/.*)?", re.DOTALL)


def purge_rounds(
    archive: RunArchive,
    first_round: int,
    requests: Sequence[bytes],
    *,
    last_round: int | None = None,
) -> Purge:
    """Delete what a run holds of its rounds from one on; called again, finish what was begun.

    That is each round's state, adapter and openings, and every update that the openings of no
    round that is kept name.

    Parameters
    ----------
    archive : RunArchive
        The run.
    first_round : int
        The run's own round; 0 where the state that the run starts from holds the data already.
    requests : sequence of bytes
        Ids of the requests to forget that it is done for, 32 bytes each.
    last_round : int, optional
        The last round that is purged; by default all are from the first one on.

    Returns
    -------
    Purge
        As noted, now or by an earlier call with the same round and requests; without files, and
        not noted, where nothing was left to delete.

    Raises
    ------
    ArchiveError
        Before anything is deleted: if what was noted before was altered, the openings of a round
        that is kept cannot be read, or a link lies where a file or folder is expected.
    """
    if first_round < 0 or not requests:
        raise ValueError(
            f"a purge from round {first_round} for {len(requests)} requests, expected "
            "round 0 or a later one and at least one request"
        )
    asked = tuple(dict.fromkeys(check_hash(request, "request") for request in requests))
    purges = purges_of(archive)
    # Openings of what was purged before may be gone already; what they named is noted.
    needed = _needed(
        archive,
        lambda number: (
            covered(number, first_round, last_round) or any(one.covers(number) for one in purges)
        ),
    )
    noted = [file.path for purge in purges for file in purge.files]
    spared = needed.union(noted)
    held = [place for place in _held(archive, first_round, last_round) if place not in spared]
    _require_deletable(archive, [*noted, *held], needed)
    found = tuple(_described(archive, place) for place in held)
    purge = Purge(first_round, asked, datetime.now(UTC).date(), found, last_round)
    if found:
        purges = (*purges, purge)
        write_purges(archive, purges)
    _delete(archive, [*noted, *held])
    this = (first_round, last_round, asked)
    same = [one for one in purges if (one.first_round, one.last_round, one.requests) == this]
    return same[-1] if same else purge


def files_left(archive: RunArchive, purges: Iterable[Purge], round_number: int) -> list[str]:
    """Name what is still there of a purged round, and of the updates that were purged.

    Parameters
    ----------
    archive : RunArchive
        The run.
    purges : iterable of Purge
        Those that purged the round.
    round_number : int
        The run's own round.

    Raises
    ------
    ArchiveError
        If a link lies where a file or folder is expected.
    """
    folder = f"rounds/{archive.round_folder(round_number).name}"
    noted = [file.path for purge in purges for file in purge.files]
    own = (f"{folder}.partial", *(f"{folder}/{part}" for part in _PARTS))
    updates = sorted(place for place in noted if place.startswith("updates/"))
    return [left for place in (*own, *updates) for left in _files_at(archive, place)]


# What is to be deleted


def _held(archive: RunArchive, first_round: int, last_round: int | None) -> Iterator[str]:
    """Name every file of the rounds from one to another, and every update."""
    for name in sorted(path.name for path in (archive.folder / "rounds").iterdir()):
        match = _ROUND.fullmatch(name)
        if match is None or not covered(int(match[1]), first_round, last_round):
            continue
        for part in [""] if match[2] else [f"/{part}" for part in _PARTS]:
            yield from _files_at(archive, f"rounds/{name}{part}")
    yield from _files_at(archive, "updates")


def _needed(archive: RunArchive, is_purged: Callable[[int], bool]) -> set[str]:
    """Return where the updates lie that the openings of the rounds that are kept name."""
    return {
        f"updates/{archive.update_path(opening.update_hash).name}"
        for number in range((archive.last_prepared_round() or 0) + 1)
        if archive.is_prepared(number) and not is_purged(number)
        for opening in archive.openings(number).values()
    }


def _files_at(archive: RunArchive, place: str) -> Iterator[str]:
    """Name the file at a place, or every one below the folder there."""
    kind = _kind(archive, place)
    if kind == "file":
        yield place
    elif kind == "folder":
        for name in sorted(path.name for path in (archive.folder / place).iterdir()):
            yield from _files_at(archive, f"{place}/{name}")


def _kind(archive: RunArchive, place: str) -> Literal["file", "folder", ""]:
    """Say what lies at a place of the run's folder; no link is followed on the way."""
    path, mode = archive.folder, stat.S_IFDIR
    for name in PurePosixPath(place).parts:
        if not stat.S_ISDIR(mode):
            raise ArchiveError(f"{path} is a file, expected a folder")
        path /= name
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return ""
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise ArchiveError(f"{path} is a link, or no file: nothing is deleted through it")
    return "folder" if stat.S_ISDIR(mode) else "file"


def _described(archive: RunArchive, place: str) -> PurgedFile:
    content = (archive.folder / place).read_bytes()
    return PurgedFile(place, hashlib.sha256(content).hexdigest(), len(content))


# Deleting


def _require_deletable(archive: RunArchive, places: Iterable[str], needed: set[str]) -> None:
    for place in places:
        if place in needed:
            raise ArchiveError(
                f"{purged_file(archive)} was altered: it names {place}, which a round that is "
                "kept was made of"
            )
        if _kind(archive, place) == "folder":
            raise ArchiveError(f"{archive.folder / place} is a folder, expected a file")


def _delete(archive: RunArchive, places: Sequence[str]) -> None:
    for place in places:
        (archive.folder / place).unlink(missing_ok=True)
    above = {folder for place in places for folder in PurePosixPath(place).parents}
    # Deepest first: a folder is made durable once those in it that were emptied are gone.
    for folder in sorted(above, key=lambda one: len(one.parts), reverse=True):
        path = archive.folder / folder
        if not path.exists():
            continue
        if _EMPTIED.fullmatch(str(folder)) and not any(path.iterdir()):
            path.rmdir()
        else:
            sync_folder(path)
