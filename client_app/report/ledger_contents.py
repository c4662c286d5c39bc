"""What an organization's own report says: from its private ledger, held against the public chain.

Nothing in it comes from a run's folder: what others reported to the coordinator is not its to see.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from eth_account.signers.local import LocalAccount

from blockchain.anchors import Anchor
from blockchain.merkle import organization_id
from blockchain.private.anchoring import check_anchor
from blockchain.private.audit import audit
from blockchain.private.errors import LedgerError
from blockchain.private.ledger import Ledger
from blockchain.private.record_types import ReceiptVerification, TrainingRun
from blockchain.public_chain import PublicChain
from client_app.agent.decision_lines import decision_lines
from client_app.agent.own_agent import agent_records, read_records
from client_app.ledger_view import Overview, overview
from client_app.own_request import OwnRequest
from client_app.own_requests import known_tasks, own_requests
from client_app.report.request_contents import RequestLine, lines_of
from strategies.home import organization_folder
from strategies.replies import Verdict
from strategies.settings import RunSettings

_PURPOSE: Final = "foedus report"

_Payload = TypeVar("_Payload", TrainingRun, ReceiptVerification)

#: Called with (bytes or records done, all of them).
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainedLine:
    """A round that the organization trained in.

    Parameters
    ----------
    run : str
        The run's name.
    round, records, tokens : int
        The round; records used and tokens processed.
    first_loss, last_loss : float
        Of the first and the last step, nats a token.
    verdict : str
        What the coordinator's receipt says became of the update; empty before there is one.
    included : bool or None
        Whether its inclusion proof led to the root on the chain.
    """

    run: str
    round: int
    records: int
    tokens: int
    first_loss: float
    last_loss: float
    verdict: str
    included: bool | None


@dataclass(frozen=True)
class LedgerContents:
    """All that the page of an organization says.

    Parameters
    ----------
    organization : str
        Its name.
    figures : Overview
        The ledger in a few figures.
    root : str
        RFC 9162 root over all records, hexadecimal.
    problem : str
        What of the ledger does not hold; empty where all does.
    records_by_type : mapping of str to int
        How many there are.
    anchors : sequence of Anchor
        Of the ledger on the public chain, oldest first.
    trained : sequence of TrainedLine
        Rounds, in the order of the ledger.
    decisions : sequence of mapping
        The agent's: see :func:`client_app.agent.decision_lines.decision_lines`.
    requests : sequence of (OwnRequest, RequestLine or None)
        To forget; with what the chain and a receipt say of it.
    now : int
        Seconds since the epoch, by the chain's clock.
    """

    organization: str
    figures: Overview
    root: str
    problem: str
    records_by_type: Mapping[str, int]
    anchors: Sequence[Anchor]
    trained: Sequence[TrainedLine]
    decisions: Sequence[Mapping[str, Any]]
    requests: Sequence[tuple[OwnRequest, RequestLine | None]]
    now: int


def ledger_contents(
    ledger: Ledger,
    account: LocalAccount,
    settings: RunSettings,
    organization: str,
    chain: PublicChain,
    progress: Progress,
) -> LedgerContents:
    """Gather what an organization's ledger and the chain say.

    Parameters
    ----------
    ledger : Ledger
        Open, by a member who may read training runs and decisions: the reading is logged.
    account : LocalAccount
        That member's.
    settings : RunSettings
        The home's.
    organization : str
        Whose ledger it is.
    chain : PublicChain
        To read.
    progress : callable
        Told how far the ledger's audit is.

    Raises
    ------
    LedgerError
        If what is shown cannot be read; a record that does not hold is shown as such.
    ChainError
        If the chain does not answer.
    """
    identity = organization_id(organization)
    last = chain.anchors.last(identity)
    receipts = _receipts(ledger)
    return LedgerContents(
        organization=organization,
        figures=overview(ledger, last),
        root=ledger.history.tree.root().hex(),
        problem=_problem(ledger, account, last, progress),
        records_by_type=Counter(leaf.type for leaf in ledger.leaves()),
        anchors=[event.anchor for event in chain.anchors.history(identity)],
        trained=[_trained(payload, receipts) for payload in _opened(ledger, TrainingRun)],
        decisions=decision_lines(read_records(ledger, agent_records(ledger))),
        requests=_requests(ledger, settings, organization, chain),
        now=chain.now(),
    )


def _problem(ledger: Ledger, account: LocalAccount, last: Anchor, progress: Progress) -> str:
    try:
        check_anchor(audit(ledger.folder, account, progress).history, last)
    except LedgerError as error:
        return str(error)
    return ""


def _opened(ledger: Ledger, kind: type[_Payload]) -> list[_Payload]:
    numbers = ledger.payloads_left(kind.record_type)
    return [
        opened.payload
        for opened in ledger.read_all(numbers, _PURPOSE)
        if isinstance(opened.payload, kind)
    ]


def _receipts(ledger: Ledger) -> dict[tuple[str, int], ReceiptVerification]:
    return {(one.task, one.round): one for one in _opened(ledger, ReceiptVerification)}


def _trained(
    one: TrainingRun, receipts: Mapping[tuple[str, int], ReceiptVerification]
) -> TrainedLine:
    receipt = receipts.get((one.task, one.round))
    return TrainedLine(
        run=one.run,
        round=one.round,
        records=one.records,
        tokens=one.tokens,
        first_loss=float.fromhex(one.first_loss),
        last_loss=float.fromhex(one.last_loss),
        verdict="" if receipt is None else Verdict(receipt.verdict).name.lower().replace("_", " "),
        included=None if receipt is None else receipt.included,
    )


def _requests(
    ledger: Ledger, settings: RunSettings, organization: str, chain: PublicChain
) -> list[tuple[OwnRequest, RequestLine | None]]:
    tasks = known_tasks(settings.home_path, organization)
    folder = organization_folder(settings.home_path, organization) / "receipts"
    told = lines_of(
        chain,
        tasks,
        {organization_id(organization): organization},
        {path.stem: path for path in folder.glob("*.json")},
    )
    by_id = {line.id: line for line in told}
    return [
        (own, by_id.get(own.id.hex())) for own in own_requests(ledger, chain, organization, tasks)
    ]
