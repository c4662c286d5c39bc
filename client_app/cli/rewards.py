"""``foedus rewards``: what organizations have earned in a run, and how they are paid."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from client_app.cli.chosen import RunName, settings_of, task_of
from client_app.cli.output import AsJson, Home, console, fail, print_json, shown_time
from client_app.cli.verification import chosen_run

if TYPE_CHECKING:
    from strategies.finality import Finality
    from strategies.payouts import Payout

app = typer.Typer(help="What organizations have earned, and its payment.", no_args_is_help=True)


@app.command()
def show(
    organization: Annotated[
        str | None, typer.Option("--org", help="This organization alone.")
    ] = None,
    run_name: RunName = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show what each organization of a run has earned, was paid, and can claim and when.

    Example: `foedus rewards show --org shop`
    """
    from strategies.payouts import payouts
    from strategies.rewards import RewardTerms
    from strategies.run_chain import open_reading_chain

    archive = chosen_run(home, run_name)
    settings, task = settings_of(archive), task_of(archive)
    names = _named(settings.organization_names, organization, archive.name)
    terms = RewardTerms.of(settings)
    found = payouts(archive, open_reading_chain(settings), task, terms, names)
    if as_json:
        print_json({"run": archive.name, "organizations": [payout.to_json() for payout in found]})
        return
    table = Table("organization", "by round", title=f"Run {archive.name}: rewards in gwei")
    for name in ("sealed", "paid", "claimable", "later"):
        table.add_column(name, justify="right")
    for payout in found:
        table.add_row(
            payout.organization,
            ", ".join(f"{e.round}: {_gwei(e.wei)}" for e in payout.rounds),
            _gwei(payout.cumulative),
            _gwei(payout.claimed),
            _gwei(payout.claimable),
            _gwei(sum(later.wei for later in payout.later) + payout.unsealed),
        )
    console.print(table)
    for line in sorted({line for payout in found for line in _when(payout)}):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def claim(
    organization: Annotated[
        str | None, typer.Option("--org", help="Who is paid, and pays for the transactions.")
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--all", help="Every organization whose key lies under this home.")
    ] = False,
    run_name: RunName = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make final what can be final, and claim what the newest final round says was earned.

    Rounds that are not ready are skipped, and it is said when they will be.

    Example: `foedus rewards claim --all`
    """
    from strategies.payouts import claim as claim_for
    from strategies.payouts import finalize_ready
    from strategies.run_accounts import organization_chain, organizations_with_keys
    from strategies.run_chain import open_reading_chain

    if (organization is None) == (not everyone):
        fail("give either --org NAME or --all", 2)
    archive = chosen_run(home, run_name)
    settings, task = settings_of(archive), task_of(archive)
    names = _named(settings.organization_names, organization, archive.name)
    if everyone:
        here = organizations_with_keys(settings)
        names = [name for name in names if name in here]
        if not names:
            fail(f"no key of an organization of run {archive.name} lies under this home", 2)
    reading = open_reading_chain(settings)
    chains = {name: organization_chain(settings, reading, name) for name in names}
    finalized = finalize_ready(chains[names[0]], task)
    claims = [claim_for(chain, archive, task, name) for name, chain in chains.items()]
    paid = [found for found in claims if found is not None]
    if as_json:
        print_json(
            {
                "run": archive.name,
                "finalized": list(finalized.rounds),
                "waiting": [
                    {
                        "round": stands.round,
                        "final_from": stands.earliest,
                        "hindrances": list(stands.hindrances),
                    }
                    for stands in finalized.waiting
                ],
                "claims": [
                    {
                        "organization": found.organization,
                        "round": found.round,
                        "wei": str(found.wei),
                        "transaction": f"0x{found.receipt.hash.hex()}",
                    }
                    for found in paid
                ],
            }
        )
        return
    for number in finalized.rounds:
        console.print(f"round {number} is final", highlight=False)
    for stands in finalized.waiting:
        console.print(_waiting(stands), highlight=False, soft_wrap=True)
    for found in paid:
        console.print(
            f"{found.organization}: {_gwei(found.wei)} gwei paid under round {found.round}",
            highlight=False,
        )
    if not paid:
        console.print("there is nothing to claim now", highlight=False)


def _named(names: list[str], organization: str | None, run: str) -> list[str]:
    if organization is None:
        return names
    if organization not in names:
        fail(f"{organization!r:.80} takes no part in run {run}: {', '.join(names)}", 2)
    return [organization]


def _when(payout: "Payout") -> list[str]:
    lines = [
        f"what round {later.round} sealed can be claimed once it is final: at the earliest "
        f"{shown_time(later.earliest)}"
        + (f" ({'; '.join(later.hindrances)})" if later.hindrances else "")
        for later in payout.later
    ]
    if payout.unsealed:
        lines.append("what the last attested round earned is sealed with the round that follows")
    return lines


def _waiting(stands: "Finality") -> str:
    earliest = "" if stands.earliest is None else f", at the earliest {shown_time(stands.earliest)}"
    return f"round {stands.round} is not final yet{earliest}: {'; '.join(stands.hindrances)}"


def _gwei(wei: int) -> str:
    return f"{wei / 10**9:,.0f}"
