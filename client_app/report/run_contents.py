"""What a coordinator's report says of a run: from its folder, held against the public chain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from blockchain.public_chain import PublicChain
from client_app.report.request_contents import RequestLine, request_lines
from strategies.assurance import Assurance, assurances
from strategies.audit_check import Check
from strategies.replies import Verdict
from strategies.round_outcome import RoundOutcome
from strategies.round_participation import rounds_of
from strategies.run_archive import RunArchive
from strategies.settings import RunSettings

#: Figures that an organization reports of the adapter that it received: on rows it never trains on.
_RECEIVED: Final = {"accuracy": "received-accuracy", "loss": "received-loss"}


@dataclass(frozen=True)
class OrganizationLine:
    """An organization, and what the run came to for it.

    Parameters
    ----------
    name, domain : str
        Its name, and what its texts are.
    rows, test_rows : int or None
        As it says; unknown until the run has ended, like the rest.
    base_accuracy, accuracy, base_loss, loss : float or None
        On its test rows, of the base and of the last adapter; losses in nats a token.
    tokens, spent_gwei, earned_gwei : int
        Over all rounds.
    rounds : sequence of mapping
        What it did in each: see :func:`strategies.round_participation.rounds_of`.
    """

    name: str
    domain: str
    rows: int | None
    test_rows: int | None
    base_accuracy: float | None
    accuracy: float | None
    base_loss: float | None
    loss: float | None
    tokens: int
    spent_gwei: int
    earned_gwei: int
    rounds: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RoundLine:
    """A round.

    Parameters
    ----------
    number : int
        In the run's own count.
    adapter : str
        Hash of the adapter after it, hexadecimal.
    verdicts : mapping of str to str
        By organization: ``accepted``, why not, or how it was absent.
    assurance : Assurance or None
        How well assured it is; none where the chain does not know it.
    transaction : str
        The seal's, hexadecimal; empty before it is sealed.
    block : int or None
        Of the seal.
    gas : mapping of str to int
        Used to open, seal and attest it.
    chain_seconds, waited_seconds : float or None
        Waited for the chain, and for replies.
    scores : mapping of str to float
        Attested contributions, in nats.
    attestors : sequence of str
        Who signed them.
    """

    number: int
    adapter: str
    verdicts: Mapping[str, str]
    assurance: Assurance | None
    transaction: str
    block: int | None
    gas: Mapping[str, int]
    chain_seconds: float | None
    waited_seconds: float | None
    scores: Mapping[str, float]
    attestors: Sequence[str]


@dataclass(frozen=True)
class RunContents:
    """All that the page of a run says.

    Parameters
    ----------
    name, status, started, task : str
        Of the run; the task's id hexadecimal.
    simulated : bool
        Whether one operator held all keys.
    settings : mapping
        Those that people look for, by their names in the configuration.
    contracts : mapping of str to str
        Addresses.
    kept : str
        Which rounds of earlier runs it goes on from; empty where it began anew.
    summary : mapping or None
        ``summary.json``, once the run has ended.
    organizations : sequence of OrganizationLine
        Sorted by name.
    rounds : sequence of RoundLine
        In order.
    received : mapping
        ``accuracy`` and ``loss`` of the adapters that organizations received, by name: points of
        (rounds that made it, value).
    checks : sequence of Check
        Every one that `foedus verify` makes.
    requests : sequence of RequestLine
        To forget, about the run and those before it.
    """

    name: str
    status: str
    started: str
    task: str
    simulated: bool
    settings: Mapping[str, Any]
    contracts: Mapping[str, str]
    kept: str
    summary: Mapping[str, Any] | None
    organizations: Sequence[OrganizationLine]
    rounds: Sequence[RoundLine]
    received: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
    checks: Sequence[Check]
    requests: Sequence[RequestLine]

    @property
    def failed(self) -> list[Check]:
        """Checks that do not hold."""
        return [check for check in self.checks if not check.holds]


_SHOWN_SETTINGS: Final = (
    "model",
    "quantization",
    "aggregation",
    "robust",
    "rank",
    "rounds",
    "records-per-round",
    "seed",
    "isolation",
    "norm-bound",
    "participation",
)


def run_contents(
    archive: RunArchive, settings: RunSettings, chain: PublicChain, checks: Sequence[Check]
) -> RunContents:
    """Gather what a run's folder and the chain say.

    Parameters
    ----------
    archive : RunArchive
        The run's folder.
    settings : RunSettings
        The run's.
    chain : PublicChain
        To read.
    checks : sequence of Check
        What :func:`strategies.audit.audit` found.

    Raises
    ------
    ArchiveError
        If a file that is needed is missing or was altered.
    ChainError
        If the chain does not answer.
    """
    run, task = archive.read_run(), bytes.fromhex(archive.read_run()["task"])
    on_chain = chain.rounds(task)
    standing = {
        one.round: one for one in assurances(checks, chain.task(task), on_chain, chain.now())
    }
    last = archive.last_prepared_round() or 0
    numbers = range(1, last + 1)
    summary = archive.read_summary()
    given = settings.to_run_config()
    return RunContents(
        name=archive.name,
        status=str(run.get("status", "")),
        started=str(run.get("started", "")),
        task=task.hex(),
        simulated=not settings.bundle,
        settings={name: given[name] for name in _SHOWN_SETTINGS},
        contracts=dict(run.get("contracts", {})),
        kept=settings.lineage,
        summary=summary,
        organizations=_organizations(archive, settings, summary, last),
        rounds=[_round(archive, number, standing.get(number)) for number in numbers],
        received=_received(archive, settings, last),
        checks=checks,
        requests=request_lines(archive, settings, chain, task),
    )


def _organizations(
    archive: RunArchive, settings: RunSettings, summary: Mapping[str, Any] | None, last: int
) -> list[OrganizationLine]:
    ended = summary["organizations"] if summary else {}
    names = sorted({*settings.organization_names, *ended})
    trained = range(1, min(last, settings.own_rounds) + 1)
    did = rounds_of(settings, archive, names, trained)
    lines = []
    for name in names:
        entry, tokens = ended.get(name, {}), sum(one["tokens"] for one in did[name])
        lines.append(
            OrganizationLine(
                name=name,
                domain=str(entry.get("domain", "")),
                rows=entry.get("rows"),
                test_rows=entry.get("test_rows"),
                base_accuracy=entry.get("base_accuracy"),
                accuracy=entry.get("accuracy"),
                base_loss=entry.get("base_loss"),
                loss=entry.get("loss"),
                tokens=tokens,
                spent_gwei=tokens * settings.token_price_of(name),
                # As sealed; rounds that are rounded down one by one add up to less.
                earned_gwei=entry.get(
                    "reward_gwei", sum(one["earned_gwei"] or 0 for one in did[name])
                ),
                rounds=did[name],
            )
        )
    return lines


def _round(archive: RunArchive, number: int, reached: Assurance | None) -> RoundLine:
    outcome = RoundOutcome.from_manifest(archive.manifest(number))
    seal = archive.seal(number) if archive.is_sealed(number) else {}
    attestation = archive.attestation(number)
    verdicts = {
        entry.organization: Verdict(entry.verdict).name.lower().replace("_", " ")
        for entry in outcome.entries
    }
    gas = {}
    if seal:
        gas = {"open": int(seal["opening_gas_used"]), "seal": int(seal["gas_used"])}
    if attestation and attestation.landed:
        gas["attest"] = attestation.gas_used
    waited = archive.record(number).get("seconds", {}).get("waited")
    return RoundLine(
        number=number,
        adapter=outcome.adapter.hex(),
        verdicts=verdicts | dict(outcome.absent),
        assurance=reached,
        transaction=str(seal.get("transaction", "")),
        block=seal.get("block"),
        gas=gas,
        chain_seconds=float(seal["seconds"]) + (attestation.seconds if attestation else 0.0)
        if seal
        else None,
        waited_seconds=None if waited is None else float(waited),
        scores={name: score / 1e6 for name, score in attestation.scores.entries}
        if attestation
        else {},
        attestors=sorted(attestation.signatures) if attestation else (),
    )


def _received(
    archive: RunArchive, settings: RunSettings, last: int
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return what organizations measured of each adapter when it reached them."""
    before = settings.kept_rounds.after
    found: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in _RECEIVED}
    for number in range(1, last + 1):
        for name, metrics in sorted(archive.record(number)["metrics"].items()):
            for figure, key in _RECEIVED.items():
                if key in metrics:
                    point = (before + number - 1.0, float(metrics[key]))
                    found[figure].setdefault(name, []).append(point)
    return found


def earned_by_round(contents: RunContents) -> dict[str, dict[str, float]]:
    """Return what each round earned each organization, in thousand gwei."""
    return {
        str(line.number): {
            one.name: (one.rounds[line.number - 1]["earned_gwei"] or 0) / 1000
            for one in contents.organizations
        }
        for line in contents.rounds
        if all(line.number <= len(one.rounds) for one in contents.organizations)
    }
