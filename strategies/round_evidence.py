"""All that a sealed round was made of, so that an attestor can make it again.

The coordinator sends it to the attestors over the channel that training uses; they hold every piece
of it against the public chain before they believe it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from blockchain.canonical import canonical_json
from llm.factors import Arrays
from strategies import protocol
from strategies.evidence_form import document, list_of, packed, task_of, unpacked
from strategies.kept_evidence import KeptRound, kept_records, kept_rounds, read_kept
from strategies.origin import OriginRounds, run_of_task
from strategies.protocol import ProtocolError
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import AnyArrays, RunArchive
from strategies.scores import ScoreTable
from strategies.settings import RunSettings
from strategies.signed_update import Opening

#: Keys of the records in an attestor's message, beside the header.
_EVIDENCE = "evidence"
_FILES = "files"

#: Names of the files in it.
_STATE = "state"
_AFTER = "after"
_UPDATE = "update/"


@dataclass(frozen=True)
class RoundEvidence:
    """What a round was made of, as the coordinator says.

    Parameters
    ----------
    outcome : RoundOutcome
        The round's manifest, read.
    parent : RoundOutcome
        The manifest of the round it builds on; round 0's for the first.
    state : dict of str to ndarray
        The rule's state before the round; empty where that is the initial one.
    after : dict of str to ndarray
        The rule's state after it, where no two processors compute it alike; otherwise empty.
    openings : mapping of str to Opening
        Of the accepted updates, by organization.
    updates : mapping of str to dict of str to ndarray
        The accepted updates, by organization.
    parent_scores : ScoreTable or None
        The attested scores of the round it builds on, whose rewards this round seals.
    origin : tuple of (bytes, RoundOutcome), or None
        Of the first round of a run that goes on from an earlier one: that one's task, and its last
        round that is kept, whose state is the state before.
    kept : tuple of KeptRound
        All rounds that are kept, where the run starts from what they make without somebody's own
        terms; else none.
    """

    outcome: RoundOutcome
    parent: RoundOutcome
    state: AnyArrays
    after: AnyArrays
    openings: Mapping[str, Opening]
    updates: Mapping[str, Arrays]
    parent_scores: ScoreTable | None
    origin: tuple[bytes, RoundOutcome] | None = None
    kept: tuple[KeptRound, ...] = ()

    @classmethod
    def of_archive(cls, archive: RunArchive, round_number: int, *, exact: bool) -> "RoundEvidence":
        """Collect the evidence of a round on disk.

        Parameters
        ----------
        archive : RunArchive
            The run.
        round_number : int
            The round.
        exact : bool
            Whether every processor computes the rule's state alike.
        """
        outcome = RoundOutcome.from_manifest(archive.manifest(round_number))
        parent = outcome.parent_round
        openings = archive.openings(round_number)
        attested = archive.attestation(parent)
        origin = None if parent else _origin(archive)
        before = archive.state(parent) if parent else {}
        if origin is not None:
            # What was sealed: of a state of isolated adapters, the run may go on with fewer.
            before = run_of_task(archive.home, origin[0]).state(origin[1].round)
        return cls(
            outcome=outcome,
            parent=RoundOutcome.from_manifest(archive.manifest(parent)),
            state=before,
            after={} if exact else archive.state(round_number),
            openings=openings,
            updates={
                name: archive.load_update(opening.update_hash) for name, opening in openings.items()
            },
            parent_scores=None if attested is None else attested.scores,
            origin=origin,
            kept=() if origin is None else _kept(archive),
        )

    def to_records(self, task: bytes) -> dict[str, Any]:
        """Lay the evidence out as records of a message."""
        names = sorted(self.openings)
        entries: dict[str, Any] = {
            "manifest": canonical_json(self.outcome.manifest(task)),
            "parent-manifest": canonical_json(self.parent.manifest(task)),
            "organizations": names,
            "update-hashes": [self.openings[name].update_hash for name in names],
            "salts": [self.openings[name].salt for name in names],
        }
        if self.parent_scores is not None:
            entries["parent-scores"] = canonical_json(self.parent_scores.to_json())
        if self.origin is not None:
            entries["origin-manifest"] = canonical_json(self.origin[1].manifest(self.origin[0]))
        files = {_UPDATE + name: packed(self.updates[name]) for name in names}
        for name, state in ((_STATE, self.state), (_AFTER, self.after)):
            if state:
                files[name] = packed(state)
        return {
            _EVIDENCE: ConfigRecord(entries),
            _FILES: protocol.file_record(files),
            **kept_records(self.kept),
        }

    @classmethod
    def from_records(cls, content: RecordDict) -> "RoundEvidence":
        """Read evidence strictly: nothing is believed yet, but everything has its form.

        Raises
        ------
        ProtocolError
            If a record is missing, or of another form.
        """
        header = content.config_records.get(_EVIDENCE)
        files = content.array_records.get(_FILES)
        if header is None or files is None:
            raise ProtocolError("a message without evidence")
        names = list_of(header, "organizations", str)
        hashes, salts = list_of(header, "update-hashes", bytes), list_of(header, "salts", bytes)
        if not len(names) == len(set(names)) == len(hashes) == len(salts):
            raise ProtocolError("evidence: organizations, update-hashes and salts do not match")
        if any(len(value) != 32 for value in hashes + salts):
            raise ProtocolError("evidence: expected hashes and salts of 32 bytes")
        contents = protocol.read_files(files)
        expected = {_UPDATE + name for name in names}
        if contents.keys() - {_STATE, _AFTER} != expected:
            raise ProtocolError(f"evidence: {len(contents)} files for {len(expected)} updates")
        try:
            return cls(
                outcome=RoundOutcome.from_manifest(_document(header, "manifest")),
                parent=RoundOutcome.from_manifest(_document(header, "parent-manifest")),
                state=unpacked(contents[_STATE]) if _STATE in contents else {},
                after=unpacked(contents[_AFTER]) if _AFTER in contents else {},
                openings={
                    name: Opening(update_hash, salt)
                    for name, update_hash, salt in zip(names, hashes, salts, strict=True)
                },
                updates={name: unpacked(contents[_UPDATE + name]) for name in names},
                parent_scores=(
                    ScoreTable.from_json(_document(header, "parent-scores"))
                    if "parent-scores" in header
                    else None
                ),
                origin=(
                    _origin_of(_document(header, "origin-manifest"))
                    if "origin-manifest" in header
                    else None
                ),
                kept=read_kept(content),
            )
        except ValueError as error:
            raise ProtocolError(f"evidence: {error}") from error


def _document(header: ConfigRecord, key: str) -> Any:
    return document(protocol.data(header, key), key)


def _origin(archive: RunArchive) -> tuple[bytes, RoundOutcome] | None:
    """Return what the first round of a run goes on from, if that is an earlier run."""
    kept = RunSettings.from_run_config(archive.read_settings()).kept_rounds
    found = OriginRounds(archive.home, kept).last_kept()
    if found is None:
        return None
    task, _ = kept.place_of(kept.after)
    return task, found[1]


def _kept(archive: RunArchive) -> tuple[KeptRound, ...]:
    """Return the rounds that a run keeps, where somebody's own terms are taken out of them."""
    settings = RunSettings.from_run_config(archive.read_settings())
    if settings.isolation or not settings.leavers:
        return ()
    return kept_rounds(archive, settings.kept_rounds)


def _origin_of(manifest: dict[str, Any]) -> tuple[bytes, RoundOutcome]:
    return task_of(manifest), RoundOutcome.from_manifest(manifest)
