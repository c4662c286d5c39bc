"""``foedus challenge``: omissions from a round, challenged, answered and settled."""

from typing import Annotated, Any

import typer
from rich.table import Table

from client_app.cli.chosen import RunName, known_names, settings_of, task_of
from client_app.cli.output import AsJson, Home, console, fail, print_json, shown_time
from client_app.cli.verification import chosen_run

app = typer.Typer(
    help="Challenge a round that left out an update; answer and settle challenges.",
    no_args_is_help=True,
)


@app.command("list")
def list_(run_name: RunName = None, home: Home = None, as_json: AsJson = False) -> None:
    """List the challenges of a run, open and settled.

    Example: `foedus challenge list`
    """
    from strategies.challenges import list_challenges
    from strategies.run_chain import open_reading_chain

    archive = chosen_run(home, run_name)
    settings, task = settings_of(archive), task_of(archive)
    names = known_names(settings)
    found = [c.to_json(names) for c in list_challenges(open_reading_chain(settings), task)]
    if as_json:
        print_json({"run": archive.name, "challenges": found})
        return
    if not found:
        console.print(f"run {archive.name}: no round was challenged", highlight=False)
        return
    table = Table("round", "organization", "ground", "state", "answers until", "challenger")
    for entry in found:
        table.add_row(
            str(entry["round"]),
            entry["organization"],
            entry["ground"],
            entry["state"].lower(),
            shown_time(entry["answers_end"]),
            entry["challenger"],
        )
    console.print(table)


@app.command("open")
def open_(
    organization: Annotated[
        str, typer.Option("--org", help="The organization whose update was left out.")
    ],
    round_number: Annotated[
        int | None, typer.Option("--round", min=1, help="The round; its last reply's by default.")
    ] = None,
    run_name: RunName = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Challenge a round that left out an organization's update; it pays the task's bond.

    By the coordinator's receipt in the organization's own record, else by its submission on the
    chain. Exit status 1 where the update is included, or there is neither.

    Example: `foedus challenge open --org shop --round 2`
    """
    from client_app.own_record import OwnRecord
    from strategies.challenges import open_challenge
    from strategies.home import organization_folder
    from strategies.run_accounts import organization_account, organization_chain
    from strategies.run_chain import open_reading_chain

    archive = chosen_run(home, run_name)
    settings, task = settings_of(archive), task_of(archive)
    organization_account(settings, organization)
    record = OwnRecord(organization_folder(settings.home_path, organization), task)
    reply = (
        record.last_reply_before(2**62) if round_number is None else record.reply_in(round_number)
    )
    if reply is None:
        where = "" if round_number is None else f" in round {round_number}"
        fail(f"{organization} has no record of a reply{where} of run {archive.name}")
    chain = organization_chain(settings, open_reading_chain(settings), organization)
    update = reply.signed.update
    receipt = open_challenge(chain, update, reply.round_receipt())
    bond = chain.task(task).bond
    if as_json:
        print_json(
            {
                "organization": organization,
                "round": update.round,
                "digest": f"0x{reply.digest.hex()}",
                "bond": str(bond),
                "transaction": f"0x{receipt.hash.hex()}",
            }
        )
    else:
        console.print(
            f"round {update.round} is challenged to show the update of {organization} "
            f"(block {receipt.block_number}, bond {bond / 1e18:g} ether)",
            highlight=False,
        )


@app.command()
def answer(
    unavailable: Annotated[
        bool,
        typer.Option(
            "--unavailable",
            help="Say of updates that were only submitted on the chain and are not among the "
            "leaves that their payload never came.",
        ),
    ] = False,
    run_name: RunName = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Answer every open challenge of a run from what lies on disk; the coordinator's to do.

    Exit status 1 names those that cannot be answered.

    Example: `foedus challenge answer --unavailable`
    """
    from strategies.challenges import answer_challenges
    from strategies.run_accounts import coordinator_chain
    from strategies.run_chain import open_reading_chain

    archive = chosen_run(home, run_name)
    settings, task = settings_of(archive), task_of(archive)
    chain = coordinator_chain(settings, open_reading_chain(settings))
    answers = answer_challenges(chain, archive, task, unavailable=unavailable)
    names = known_names(settings)
    shown: dict[str, list[dict[str, Any]]] = {
        "included": [_place(filed, names) for filed in answers.included],
        "unavailable": [_place(filed, names) for filed in answers.unavailable],
        "unanswered": [
            {**_place(filed, names), "reason": reason} for filed, reason in answers.unanswered
        ],
    }
    if as_json:
        print_json({"run": archive.name, **shown})
    else:
        for what in ("included", "unavailable", "unanswered"):
            for place in shown[what]:
                _print_line(f"round {place['round']}, {place['organization']}: {what}", place)
        if not any((answers.included, answers.unavailable, answers.unanswered)):
            console.print(f"run {archive.name}: no challenge is open", highlight=False)
    if answers.unanswered:
        raise typer.Exit(1)


@app.command()
def settle(
    organization: Annotated[
        str | None, typer.Option("--org", help="Who pays for the transactions.")
    ] = None,
    run_name: RunName = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Dispute rounds whose challenges were not answered in time, refund bonds, fetch what is owed.

    What is owed is fetched for every account whose key lies under this home.

    Example: `foedus challenge settle`
    """
    from strategies.challenges import settle_challenges, withdraw_credits
    from strategies.run_accounts import (
        any_paying_chain,
        coordinator_chain,
        has_coordinator_key,
        organization_chain,
        organizations_with_keys,
    )
    from strategies.run_chain import open_reading_chain

    archive = chosen_run(home, run_name)
    settings, task = settings_of(archive), task_of(archive)
    reading = open_reading_chain(settings)
    settled = settle_challenges(any_paying_chain(settings, reading, organization), task)
    chains = [
        (name, organization_chain(settings, reading, name))
        for name in organizations_with_keys(settings)
    ]
    if has_coordinator_key(settings):
        chains.append(("coordinator", coordinator_chain(settings, reading)))
    withdrawn = withdraw_credits(chains)
    names = known_names(settings)
    if as_json:
        print_json(
            {
                "run": archive.name,
                "disputed": settled.disputed,
                "refunded": [_place(filed, names) for filed in settled.refunded],
                "waiting": {str(number): since for number, since in settled.waiting.items()},
                "withdrawn": {name: str(wei) for name, wei in withdrawn.items()},
            }
        )
        return
    for number in settled.disputed:
        console.print(f"round {number} is disputed", highlight=False)
    for filed in settled.refunded:
        place = _place(filed, names)
        _print_line(f"round {filed.round}, {place['organization']}: bond given back", place)
    for number, since in settled.waiting.items():
        console.print(
            f"round {number}: answers may come until {shown_time(since - 1)}", highlight=False
        )
    for name, wei in withdrawn.items():
        console.print(f"{name}: {wei / 1e18:g} ether paid out", highlight=False, markup=False)
    if not (settled.disputed or settled.refunded or settled.waiting or withdrawn):
        console.print(f"run {archive.name}: there is nothing to settle", highlight=False)


def _place(filed: Any, names: dict[bytes, str]) -> dict[str, Any]:
    return {
        "round": filed.round,
        "organization": names.get(filed.organization, f"0x{filed.organization.hex()}"),
        "digest": f"0x{filed.digest.hex()}",
    }


def _print_line(line: str, place: dict[str, Any]) -> None:
    reason = f": {place['reason']}" if "reason" in place else ""
    console.print(line + reason, markup=False, highlight=False, soft_wrap=True)
