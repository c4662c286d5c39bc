"""Rounds of earlier tasks whose updates are summed again: as evidence for the attestors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flwr.app import ConfigRecord, RecordDict

from blockchain.canonical import canonical_json
from blockchain.merkle import check_hash
from llm.factors import Arrays
from strategies import protocol
from strategies.evidence_form import document, list_of, packed, task_of, unpacked
from strategies.lineage import Lineage
from strategies.origin import run_of_task
from strategies.protocol import ProtocolError
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import RunArchive
from strategies.signed_update import Opening

#: Keys of the records in an attestor's message.
_KEPT: Final = "kept"
_FILES: Final = "kept-files"


@dataclass(frozen=True)
class KeptRound:
    """A sealed round of an earlier task, and all that its aggregate was made of.

    Parameters
    ----------
    task : bytes
        Its task, 32 bytes.
    outcome : RoundOutcome
        Its manifest, read.
    openings : mapping of str to Opening
        Of the accepted updates, by organization.
    updates : mapping of str to dict of str to ndarray
        The accepted updates, by organization.
    """

    task: bytes
    outcome: RoundOutcome
    openings: Mapping[str, Opening]
    updates: Mapping[str, Arrays]


def kept_rounds(archive: RunArchive, kept: Lineage) -> tuple[KeptRound, ...]:
    """Collect the rounds that a run keeps, in order.

    Raises
    ------
    ArchiveError
        If something of one is not on disk.
    """
    found = []
    for number in range(1, kept.after + 1):
        task, place = kept.place_of(number)
        of = run_of_task(archive.home, task)
        openings = of.openings(place)
        updates = {name: of.load_update(one.update_hash) for name, one in openings.items()}
        outcome = RoundOutcome.from_manifest(of.manifest(place))
        found.append(KeptRound(task, outcome, openings, updates))
    return tuple(found)


def kept_records(kept: tuple[KeptRound, ...]) -> dict[str, Any]:
    """Lay rounds out as records of a message; none where there are none."""
    if not kept:
        return {}
    names = [(index, name) for index, one in enumerate(kept) for name in sorted(one.openings)]
    openings = [kept[index].openings[name] for index, name in names]
    entries: dict[str, Any] = {
        "manifests": [canonical_json(one.outcome.manifest(one.task)) for one in kept],
        "rounds": [index for index, _ in names],
        "organizations": [name for _, name in names],
        "update-hashes": [opening.update_hash for opening in openings],
        "salts": [opening.salt for opening in openings],
    }
    files = {f"{index}/{name}": packed(kept[index].updates[name]) for index, name in names}
    return {_KEPT: ConfigRecord(entries), _FILES: protocol.file_record(files)}


def read_kept(content: RecordDict) -> tuple[KeptRound, ...]:
    """Read rounds strictly; nothing is believed yet, but everything has its form.

    Raises
    ------
    ProtocolError, ValueError
        If a record is missing, or of another form.
    """
    header = content.config_records.get(_KEPT)
    if header is None:
        return ()
    files = content.array_records.get(_FILES)
    manifests = [document(one, "manifests") for one in list_of(header, "manifests", bytes)]
    rounds, names = list_of(header, "rounds", int), list_of(header, "organizations", str)
    hashes, salts = list_of(header, "update-hashes", bytes), list_of(header, "salts", bytes)
    if files is None or not len(rounds) == len(names) == len(hashes) == len(salts):
        raise ProtocolError("kept rounds: organizations, update-hashes and salts do not match")
    contents = protocol.read_files(files)
    if contents.keys() != {f"{n}/{name}" for n, name in zip(rounds, names, strict=True)}:
        raise ProtocolError(f"kept rounds: {len(contents)} files for {len(names)} updates")
    openings: list[dict[str, Opening]] = [{} for _ in manifests]
    updates: list[dict[str, Arrays]] = [{} for _ in manifests]
    for number, name, update_hash, salt in zip(rounds, names, hashes, salts, strict=True):
        if not 0 <= number < len(manifests):
            raise ProtocolError(f"kept rounds: {number}, expected 0 to {len(manifests) - 1}")
        openings[number][name] = Opening(
            check_hash(update_hash, "update-hashes"), check_hash(salt, "salts")
        )
        updates[number][name] = unpacked(contents[f"{number}/{name}"])
    return tuple(
        KeptRound(
            task_of(manifest),
            RoundOutcome.from_manifest(manifest),
            openings[number],
            updates[number],
        )
        for number, manifest in enumerate(manifests)
    )
