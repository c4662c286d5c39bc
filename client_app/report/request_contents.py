"""What a report says of requests to forget: as they stand on the chain, with checked receipts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.unlearning_requests import StoredRequest
from client_app.receipt_check import check_receipt
from strategies.run_archive import RunArchive
from strategies.settings import RunSettings
from unlearning.receipt import MEANINGS, Measured, Receipt, ReceiptError, read_receipt


@dataclass(frozen=True)
class Figure:
    """One figure before and after.

    Parameters
    ----------
    organization, name : str
        On whose rows, and what.
    rows : int
        How many they were.
    before, after : float or None
        None where it was not measured.
    """

    organization: str
    name: str
    rows: int
    before: float | None
    after: float | None


@dataclass(frozen=True)
class RequestLine:
    """A request to forget.

    Parameters
    ----------
    id : str
        Hexadecimal.
    organization : str
        Its name, or its id where that is not known here.
    scope, state : str
        What is meant, and what became of it.
    requested_at, deadline, closed_at : int
        Seconds since the epoch; 0 where it is not closed.
    label, meaning, reference : str
        What the receipt claims, what that means, and what it was compared with; empty without one.
    exact : bool
        Whether what is served afterwards is what retraining gives, by the label.
    rounds : tuple of int
        That the data had a part in.
    figures : tuple of Figure
        Before and after.
    purged : tuple of str
        What was deleted, in words.
    checked : tuple of str
        What of the receipt holds.
    problem : str
        What does not; empty where all does, or where there is no receipt.
    """

    id: str
    organization: str
    scope: str
    state: str
    requested_at: int
    deadline: int
    closed_at: int
    label: str = ""
    meaning: str = ""
    reference: str = ""
    exact: bool = False
    rounds: tuple[int, ...] = ()
    figures: tuple[Figure, ...] = ()
    purged: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    problem: str = ""


def request_lines(
    archive: RunArchive, settings: RunSettings, chain: PublicChain, task: bytes
) -> list[RequestLine]:
    """Return the requests about a run and those that it goes on from, oldest first."""
    tasks = [*(span.task for span in settings.kept_rounds.spans), task]
    names = {organization_id(name): name for name in settings.organization_names}
    receipts = {path.stem: path for path in sorted(archive.home.glob("runs/*/receipts/*.json"))}
    return lines_of(chain, tasks, names, receipts)


def lines_of(
    chain: PublicChain,
    tasks: Iterable[bytes],
    names: Mapping[bytes, str],
    receipts: Mapping[str, Path],
) -> list[RequestLine]:
    """Return the requests about some tasks, oldest first.

    Parameters
    ----------
    chain : PublicChain
        To read.
    tasks : iterable of bytes
        Their ids, 32 bytes each.
    names : mapping of bytes to str
        Names of organizations by id.
    receipts : mapping of str to Path
        Files of receipts by the request's id, hexadecimal.
    """
    found = []
    for task in tasks:
        for identifier in chain.unlearning.asked(task, chain.task(task).opened_block):
            stored = chain.unlearning.request_of(identifier)
            if stored is not None:
                found.append(_line(stored, chain, names, receipts.get(identifier.hex())))
    return sorted(found, key=lambda line: (line.requested_at, line.id))


def _line(
    stored: StoredRequest, chain: PublicChain, names: Mapping[bytes, str], path: Path | None
) -> RequestLine:
    asked = stored.request
    line = RequestLine(
        id=asked.id.hex(),
        organization=names.get(asked.organization, f"0x{asked.organization.hex()}"),
        scope=asked.scope.name.lower(),
        state=stored.state.name.lower(),
        requested_at=stored.requested_at,
        deadline=asked.deadline,
        closed_at=stored.closed_at,
    )
    if path is None:
        return line
    try:
        receipt = read_receipt(path.read_bytes())
    except ReceiptError as error:
        return replace(line, problem=str(error))
    try:
        return _told(line, receipt, tuple(check_receipt(receipt, chain)), "")
    except ReceiptError as error:
        return _told(line, receipt, (), str(error))


def _told(
    line: RequestLine, receipt: Receipt, checked: tuple[str, ...], problem: str
) -> RequestLine:
    evidence = receipt.evidence
    return replace(
        line,
        # On separate machines the chain alone knows ids: the evidence says the name.
        organization=evidence.request.organization,
        label=evidence.label,
        meaning=MEANINGS[evidence.label],
        reference=evidence.reference,
        exact=evidence.label in ("EXACT_REPLAY", "EXACT_ISOLATED"),
        rounds=tuple(evidence.rounds),
        figures=tuple(_figure(one) for one in evidence.metrics),
        purged=tuple(
            f"{one.run} from round {one.first_round}: {one.files} files, {one.bytes:,} bytes"
            for one in evidence.purged
        ),
        checked=checked,
        problem=problem,
    )


def _figure(one: Measured) -> Figure:
    before, after = (
        None if value is None else float.fromhex(value) for value in (one.before, one.after)
    )
    return Figure(one.organization, one.name, one.rows, before, after)
