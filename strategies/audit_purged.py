"""Whether what a round lacks was deleted for a request to forget, and the chain says it is done.

Nothing excuses a byte that is missing but a completed request that says so of this round.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from blockchain.errors import ChainError
from blockchain.public_chain import PublicChain
from blockchain.unlearning_messages import Guarantee, RequestState
from blockchain.unlearning_requests import StoredRequest
from strategies.audit_check import Check
from strategies.lineage import Lineage
from strategies.purge_record import Purge, requests_of
from strategies.purging import files_left
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import RunArchive, read_json
from strategies.settings import RunSettings
from strategies.terms import terms_hash

#: How the check's name begins; the ids of the requests follow.
PURGED: Final = "purged by request"

#: Guarantees by which another model than one that holds the data is used now.
_REPLACING: Final = (Guarantee.EXACT_ISOLATED, Guarantee.EXACT_REPLAY, Guarantee.EMPIRICAL)


def check_purged(
    archive: RunArchive,
    settings: RunSettings,
    outcome: RoundOutcome,
    purges: Sequence[Purge],
    task: bytes,
    chain: PublicChain,
) -> Check:
    """Check a purged round in the place of all checks that need what was deleted.

    Parameters
    ----------
    archive : RunArchive
        The run on disk.
    settings : RunSettings
        The run's.
    outcome : RoundOutcome
        The round as its manifest says.
    purges : sequence of Purge
        Those that purged the round, at least one.
    task : bytes
        Id of the run's task, 32 bytes.
    chain : PublicChain
        A connection that can read.
    """
    requests = requests_of(purges)
    problems = [
        *_of_files(archive, outcome, purges),
        *_of_requests(requests, archive, settings, outcome.round, task, chain),
    ]
    named = ", ".join(f"0x{request.hex()}" for request in requests)
    return Check(outcome.round, f"{PURGED} {named}", not problems, "; ".join(problems[:3]))


def _of_files(archive: RunArchive, outcome: RoundOutcome, purges: Sequence[Purge]) -> Iterator[str]:
    """Say what was put back, and what went without being noted as it was sealed."""
    left = files_left(archive, purges, outcome.round)
    if left:
        yield "still there: " + ", ".join(str(archive.folder / place) for place in left)
    noted = {file.path: file.sha256 for purge in purges for file in purge.files}
    for name, digest in sorted(outcome.files.items()):
        path = archive.round_folder(outcome.round) / name
        if noted.get(path.relative_to(archive.folder).as_posix()) != digest:
            yield f"{path} is not noted as deleted with the content that was sealed"


def _of_requests(
    requests: Sequence[bytes],
    archive: RunArchive,
    settings: RunSettings,
    round_number: int,
    task: bytes,
    chain: PublicChain,
) -> Iterator[str]:
    """Say why requests are no reason for a round to be purged; nothing where they are.

    Requests that are carried out together replace all rounds from the first that any of them
    affected: each must be completed, and one must have affected this round or one before.
    """
    firsts = []
    stands = round_number > settings.first_rounds.last_unlearning
    # What the run made for its own requests is used since: only others can have replaced it.
    reasons = [one for one in requests if not (stands and one in settings.request_ids)]
    if not reasons:
        yield "the run itself carried out what it would be purged for"
    for request in reasons:
        try:
            firsts.append(_first_affected(request, archive, settings, task, chain))
        except (ChainError, ValueError) as error:
            yield f"request 0x{request.hex()}: {error}"
    number = settings.logical_round(round_number)
    if firsts and min(firsts) > number:
        yield f"the first affected round is {min(firsts)}, this is {number}"


def _first_affected(
    request: bytes, archive: RunArchive, settings: RunSettings, task: bytes, chain: PublicChain
) -> int:
    """Return the first logical round that a request had replaced; `ValueError` if it had none."""
    stored = _stored(request, chain)
    if stored.state is not RequestState.COMPLETED or stored.completion is None:
        raise ValueError(f"it is {stored.state.name}, expected COMPLETED")
    completion, about, kept = stored.completion, stored.request.task, settings.kept_rounds
    if completion.guarantee not in _REPLACING:
        raise ValueError(f"it was completed as {completion.guarantee.name}: no round was replaced")
    own, first = {span.task for span in kept.spans}, completion.first_affected_round
    replaced_from = _replaced_from(
        request, archive.home, kept.spans[0].task if own else task, chain
    )
    # A run that made no round again kept those before: its completion says from where on.
    if replaced_from is not None and completion.guarantee is Guarantee.EXACT_REPLAY:
        return replaced_from
    # A completion counts as its request's task does.
    if about == task:
        return kept.after + first
    if about in own:
        return kept.start_of(about) + first
    raise ValueError(f"it is about the task 0x{about.hex()}, which is no run's of these rounds")


def _replaced_from(request: bytes, home: Path, root: bytes, chain: PublicChain) -> int | None:
    """Return the first logical round that a run made again for a request, as its terms say.

    They are hashed on the chain. ``None`` where no run under the home says so that goes on from the
    same first task.
    """
    found = []
    for path in sorted((home / "runs").glob("*/run.json")):
        run = read_json(path)
        terms = run.get("terms")
        if "task" not in run or not isinstance(terms, dict):
            continue
        lineage, requests = str(terms.get("lineage", "")), str(terms.get("requests", ""))
        if f"0x{request.hex()}" not in requests.split(","):
            continue
        kept = Lineage.parse(lineage)
        stated = chain.task(bytes.fromhex(run["task"])).terms == terms_hash(terms)
        if stated and kept.spans and kept.spans[0].task == root:
            found.append(kept.after + 1)
    return min(found, default=None)


def _stored(request: bytes, chain: PublicChain) -> StoredRequest:
    try:
        unlearning = chain.unlearning
    except (AttributeError, KeyError):
        raise ChainError("the chain has no contract for requests to forget") from None
    stored = unlearning.request_of(request)
    if stored is None:
        raise ValueError("it is not on the chain")
    return stored
