"""``foedus attest``: who attested which round, and attestations made up for."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from client_app.cli.chosen import RunName, settings_of, task_of
from client_app.cli.output import AsJson, Home, console, fail, print_json, report
from client_app.cli.verification import chosen_run

if TYPE_CHECKING:
    from blockchain.chain_records import RoundRecord
    from blockchain.public_chain import PublicChain
    from strategies.run_archive import RunArchive
    from strategies.settings import RunSettings


def attest(
    round_number: Annotated[
        int | None, typer.Option("--round", min=1, help="This round alone.")
    ] = None,
    organization: Annotated[
        str | None, typer.Option("--org", help="Ask this attestor alone, and let it pay.")
    ] = None,
    run_name: RunName = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show who attested each round of a run with which scores; attest those that nobody has.

    A sealed round that is not attested is made again and scored now by the attestors whose keys lie
    under this home. Exit status 1 where too few of them sign.

    Example: `foedus attest --round 2`
    """
    from strategies.run_chain import open_reading_chain

    archive = chosen_run(home, run_name)
    settings, task = settings_of(archive), task_of(archive)
    chain = open_reading_chain(settings)
    records = [
        record
        for record in chain.rounds(task)
        if record.phase.has_result and round_number in (None, record.round)
    ]
    if round_number is not None and not records:
        fail(f"round {round_number} of run {archive.name} is not sealed")
    open_rounds = [r.round for r in records if r.phase.name == "SEALED" and not any(r.scores)]
    refused = _attest_now(archive, settings, chain, open_rounds, organization)
    shown = [_entry(archive, chain.round(task, record.round)) for record in records]
    if as_json:
        print_json({"run": archive.name, "rounds": shown, "refused": refused})
    else:
        _print(archive.name, shown)
        for entry in refused:
            report(f"round {entry['round']}, {entry['organization']}: {entry['reason']}")
    if any(not entry["attested"] and entry["phase"] == "SEALED" for entry in shown):
        raise typer.Exit(1)


def _attest_now(
    archive: "RunArchive",
    settings: "RunSettings",
    chain: "PublicChain",
    rounds: list[int],
    organization: str | None,
) -> list[dict[str, Any]]:
    """Have rounds attested by the attestors that are here; say who refused and why."""
    from strategies.run_accounts import organization_account, organizations_with_keys

    here = organizations_with_keys(settings)
    attestors = [name for name in settings.attestor_names if name in here]
    if organization is not None:
        organization_account(settings, organization)
        if organization not in attestors:
            fail(f"{organization} is no attestor of run {archive.name}", 2)
        attestors = [organization]
    if not rounds or not attestors:
        return []
    from client_app.local_attestors import attest_rounds, attestors_here
    from strategies.run_accounts import organization_chain
    from strategies.run_parts import agreed_rule

    refused: list[dict[str, Any]] = []

    def listen(event: str, particulars: Any) -> None:
        if event == "attestor-refused":
            refused.append(dict(particulars))

    attest_rounds(
        archive,
        organization_chain(settings, chain, attestors[0]),
        organization_account(settings, attestors[0]),
        rounds,
        attestors,
        attestors_here(settings, chain),
        exact=agreed_rule(settings).tolerance == 0.0,
        listener=listen,
    )
    return refused


def _entry(archive: "RunArchive", record: "RoundRecord") -> dict[str, Any]:
    attested = any(record.scores)
    stored = archive.attestation(record.round) if attested else None
    known = stored is not None and stored.scores.hash() == record.scores
    return {
        "round": record.round,
        "phase": record.phase.name,
        "attested": attested,
        "by": sorted(stored.signatures) if stored is not None and known else [],
        "scores_micro_nats": stored.scores.scores if stored is not None and known else {},
        "scores_hash": f"0x{record.scores.hex()}" if attested else None,
    }


def _print(run: str, shown: list[dict[str, Any]]) -> None:
    table = Table(
        "round", "phase", "attested by", "scores (nats)", title=f"Run {run}: attestations"
    )
    for entry in shown:
        scores = entry["scores_micro_nats"]
        table.add_row(
            str(entry["round"]),
            entry["phase"].lower(),
            ", ".join(entry["by"]) or ("on the chain" if entry["attested"] else "nobody"),
            ", ".join(f"{name} {score / 1e6:.4f}" for name, score in scores.items()),
        )
    console.print(table)
