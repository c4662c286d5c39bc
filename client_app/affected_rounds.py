"""Which rounds of a run had a part in records: worked out from the organization's own ledger."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from blockchain.private.ledger import Ledger
from blockchain.private.record_types import TrainingRun
from llm.draw import draw
from llm.records import Record
from strategies.lineage import Lineage
from strategies.settings import RunSettings

_PURPOSE = "to find the rounds that a request to forget is about"


class AffectedRoundsError(RuntimeError):
    """A run cannot be made again as it was: the organization's data is no longer what it was."""


def affected_rounds(
    ledger: Ledger,
    settings: RunSettings,
    organization: str,
    task: bytes,
    rounds: int,
    *,
    allowed: Sequence[Record],
    forgotten: Mapping[int, str],
    leaves: Collection[int],
) -> tuple[int, ...]:
    """Return the logical rounds whose draw held one of some records.

    A record that was drawn and not trained on, because the organization declined or chose less
    effort, counts as well: what the round would have cost was decided upon.

    Parameters
    ----------
    ledger : Ledger
        The organization's.
    settings : RunSettings
        The run's.
    organization : str
        Its name.
    task : bytes
        The run's task, 32 bytes.
    rounds : int
        The last logical round that the run has come to.
    allowed : sequence of Record
        The training records that may still be used.
    forgotten : mapping of int to str
        Ids of the records in question, none of them among ``allowed``, by their leaves in the
        committed data set; of some, what says so may be erased.
    leaves : collection of int
        All of their leaves.

    Returns
    -------
    tuple of int
        Ascending.

    Raises
    ------
    AffectedRoundsError
        If a round was trained on records that are in the data no more, or are not drawn from what
        is there now: the data was changed by other means than a request.
    """
    names = set(forgotten.values())
    # A draw knows nothing of a record but its id: the content may be gone already.
    everything = [*allowed, *(Record(id=name, prompt="-", completion="-") for name in names)]
    trained = training_of(ledger, settings.kept_rounds, task)
    found = []
    for number in range(1, rounds + 1):
        drawn = draw(
            everything,
            settings.records_per_round,
            seed=settings.seed,
            round=number,
            organization=organization,
        )
        run = trained.get(number)
        if run is not None and run.records > len(drawn):
            raise AffectedRoundsError(
                f"round {number} was trained on {run.records} records, only {len(drawn)} can be "
                "drawn from the data as it is now: it was changed by other means than a request"
            )
        committed = set() if run is None else set(run.drawn)
        if names & {record.id for record in drawn} or committed & {*leaves, *forgotten}:
            found.append(number)
    return tuple(found)


def trained_leaves(ledger: Ledger, tasks: Collection[bytes]) -> set[int]:
    """Return the leaves of the data set that rounds of some tasks (32 bytes each) trained on."""
    return {leaf for run in _runs(ledger) if bytes.fromhex(run.task) in tasks for leaf in run.drawn}


def training_of(ledger: Ledger, kept: Lineage, task: bytes) -> dict[int, TrainingRun]:
    """Return what was trained in each logical round of a run, the kept rounds included.

    Parameters
    ----------
    ledger : Ledger
        The organization's.
    kept : Lineage
        Rounds of earlier tasks that the run goes on from.
    task : bytes
        The run's task, 32 bytes.
    """
    places = {kept.place_of(number): number for number in range(1, kept.after + 1)}
    found = {}
    for run in _runs(ledger):
        of_task = bytes.fromhex(run.task)
        logical = kept.after + run.round if of_task == task else places.get((of_task, run.round), 0)
        if logical:
            found[logical] = run
    return found


def _runs(ledger: Ledger) -> Iterable[TrainingRun]:
    numbers = sorted(ledger.payloads_left(TrainingRun.record_type))
    for opened in ledger.read_all(numbers, _PURPOSE):
        if isinstance(opened.payload, TrainingRun):
            yield opened.payload
