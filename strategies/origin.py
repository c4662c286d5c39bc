"""The rounds that a run goes on from, and those that it replaces, as they lie on disk."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from blockchain.canonical import hash_arrays
from llm.factors import Arrays
from strategies.aggregation import (
    AggregationRule,
    AggregationState,
    Contribution,
    without_organization,
)
from strategies.lineage import Lineage
from strategies.purge_record import purged_by
from strategies.replies import Verdict
from strategies.round_outcome import Entry, RoundOutcome
from strategies.run_archive import AnyArrays, ArchiveError, RunArchive, read_json
from strategies.settings import RunSettings
from strategies.signed_update import Opening


class OriginRounds:
    """Earlier rounds of a run's lineage.

    Parameters
    ----------
    home : Path
        The home whose runs they are of.
    kept : Lineage
        Which of them are kept.
    without : sequence of str, optional
        Organizations whose own terms are taken out of the state that the run starts from.
    """

    def __init__(self, home: Path, kept: Lineage, without: Sequence[str] = ()) -> None:
        self._home = home
        self._kept = kept
        self._without = tuple(without)

    @classmethod
    def of(cls, settings: RunSettings, home: Path) -> "OriginRounds":
        """Return those of a run, by its settings and the home that it lies under."""
        # An isolated adapter is left away as the state is restored.
        return cls(home, settings.kept_rounds, () if settings.isolation else settings.leaver_names)

    def last_kept(self) -> tuple[RunArchive, RoundOutcome] | None:
        """Return the run that the last kept round is of, and its outcome; ``None`` without one.

        Raises
        ------
        ArchiveError
            If it is not on disk.
        """
        if not self._kept.after:
            return None
        task, number = self._kept.place_of(self._kept.after)
        archive = run_of_task(self._home, task)
        return archive, RoundOutcome.from_manifest(archive.manifest(number))

    def last_adapter(self) -> Arrays:
        """Return the adapter of the last kept round, under its PEFT names; empty without one."""
        found = self.last_kept()
        return {} if found is None else found[0].adapter_arrays(found[1].round)

    def is_purged(self) -> bool:
        """Whether the state that the run started from was deleted for a request to forget."""
        found = self.last_kept()
        return found is not None and bool(purged_by(found[0], found[1].round))

    def state(self, rule: AggregationRule) -> AggregationState:
        """Return the state that the run starts from: the seed's where no round is kept.

        Raises
        ------
        ArchiveError
            If it is not on disk, or not the one that the last kept round ended with.
        """
        found = self.last_kept()
        if found is None:
            return rule.initial_state()
        archive, outcome = found
        arrays = sealed_state(archive, outcome)
        if self._without:
            return without_organization(rule, self.contributions(), *self._without)
        return rule.restore(arrays)

    def contributions(self) -> Iterator[tuple[int, list[Contribution]]]:
        """Yield every kept round's number and the updates that made its aggregate.

        Raises
        ------
        ArchiveError
            If one is not on disk, or not the one that was sealed.
        """
        for number in range(1, self._kept.after + 1):
            task, place = self._kept.place_of(number)
            archive = run_of_task(self._home, task)
            yield number, kept_contributions(archive, place)

    def arrived(self, round_number: int) -> frozenset[str] | None:
        """Return whose replies came in the round that a round of the run replaces.

        Parameters
        ----------
        round_number : int
            The run's own round, from 1.

        Returns
        -------
        frozenset of str or None
            Names; ``None`` where the run that is replaced did not come so far.
        """
        replaced = self._kept.replaced
        if replaced is None:
            return None
        archive = run_of_task(self._home, replaced)
        number = self._kept.after + round_number - self._kept.start_of(replaced)
        if not archive.is_sealed(number):
            return None
        manifest: Mapping[str, object] = archive.manifest(number)
        outcome = RoundOutcome.from_manifest(manifest)
        if not outcome.invited:
            return None
        # One known from the chain alone did not arrive in time.
        return frozenset(entry.organization for entry in outcome.entries if entry.signature)


def sealed_state(archive: RunArchive, outcome: RoundOutcome) -> AnyArrays:
    """Return the rule's state that a sealed round ended with.

    Raises
    ------
    ArchiveError
        If it is not on disk, or another one.
    """
    arrays = archive.state(outcome.round)
    if hash_arrays(arrays) != outcome.state:
        raise ArchiveError(
            f"{archive.round_folder(outcome.round)}: the state is not the one the round ended "
            "with; `foedus verify` says what else was altered"
        )
    return arrays


def kept_contributions(archive: RunArchive, number: int) -> list[Contribution]:
    """Return the updates that made a sealed round's aggregate, each held against its commitment.

    Raises
    ------
    ArchiveError
        If one is not on disk, or not the one that was sealed.
    """
    outcome = RoundOutcome.from_manifest(archive.manifest(number))
    openings = archive.openings(number)
    found = []
    for entry in outcome.entries:
        if entry.verdict != Verdict.ACCEPTED:
            continue
        try:
            update = opened_update(archive, entry, openings.get(entry.organization))
        except ArchiveError as error:
            raise ArchiveError(
                f"{archive.round_folder(number)}: update of {entry.organization}: {error}"
            ) from error
        found.append(Contribution(entry.organization, entry.num_examples, update))
    return found


def opened_update(archive: RunArchive, entry: Entry, opening: Opening | None) -> Arrays:
    """Return the update behind an entry's commitment.

    Raises
    ------
    ArchiveError
        If the opening or the update is missing or was altered.
    """
    if opening is None:
        raise ArchiveError("nothing opens its commitment: the opening is missing")
    if opening.commitment(entry.num_examples) != entry.commitment:
        raise ArchiveError("the opening is not that of the signed commitment: it was altered")
    return archive.load_update(opening.update_hash)


def run_of_task(home: Path, task: bytes) -> RunArchive:
    """Return the run under a home that opened a task.

    Raises
    ------
    ArchiveError
        If there is none.
    """
    for path in sorted((home / "runs").glob("*/run.json")):
        if read_json(path).get("task") == task.hex():
            return RunArchive(path.parent)
    raise ArchiveError(f"no run under {home} opened the task 0x{task.hex()}")
