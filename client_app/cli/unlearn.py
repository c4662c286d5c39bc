"""``foedus unlearn``: an organization asks that records of its own, or all of it, be forgotten."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from click.core import ParameterSource
from rich.box import SIMPLE_HEAD
from rich.table import Table

from client_app.cli.chosen import settings_at, settings_of, settings_told, task_of
from client_app.cli.ledger_member import Organization, one_organization
from client_app.cli.output import (
    AsJson,
    Home,
    console,
    fail,
    print_json,
    progress_console,
    report,
    shown_time,
)
from client_app.cli.verification import chosen_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blockchain.public_chain import PublicChain
    from client_app.own_request import OwnRequest
    from strategies.settings import RunSettings

app = typer.Typer()

_SECONDS_A_DAY = 86_400


class Method(StrEnum):
    """How something is forgotten."""

    EXACT = "exact"
    FAST = "fast"


@app.callback(invoke_without_command=True)
def unlearn(
    context: typer.Context,
    organization: Organization = None,
    records: Annotated[
        str | None, typer.Option("--records", help="Ids of the records, by commas.")
    ] = None,
    records_file: Annotated[
        Path | None,
        typer.Option(
            "--records-file",
            help="A file with one id a line, or with what `foedus ledger show --records N --json` "
            "prints.",
        ),
    ] = None,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="All of the organization's data.")
    ] = False,
    method: Annotated[
        Method,
        typer.Option(
            "--method", help="Train again without them, or make the model forget faster, measured."
        ),
    ] = Method.EXACT,
    then_exact: Annotated[
        bool,
        typer.Option("--then-exact", help="With fast: ask for the exact way as well, after it."),
    ] = False,
    days: Annotated[
        int, typer.Option("--deadline-days", min=1, max=3650, help="Days until it is overdue.")
    ] = 30,
    run_name: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Name of the run; at an organization's own machine how its task's id begins. "
            "The newest unless told otherwise.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a withdrawal.")] = False,
    submit_now: Annotated[
        bool, typer.Option("--submit", help="Have it carried out at once, on this machine.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Ask that the model of a run forget records, or all of an organization's data.

    They are barred from all training from then on, for good. What they are stays in the private
    ledger: the public chain holds a salted commitment, and a deadline.

    Examples: `foedus unlearn --org shop --records review-7,review-9`,
    `foedus unlearn --org shop --withdraw`,
    `foedus unlearn --org shop --records review-7 --method fast --then-exact`
    """
    if context.invoked_subcommand is not None:
        _check_nothing_given(context)
        return
    if sum((records is not None, records_file is not None, withdraw)) != 1:
        fail("give one of --records IDS, --records-file FILE and --withdraw", 2)
    settings, task, run = _run_asked_of(home, run_name, organization)
    name = one_organization(settings, organization)
    if name not in settings.organization_names:
        fail(f"{name!r:.80} takes no part in {run}", 2)
    if submit_now and not settings.home_path.joinpath("runs").is_dir():
        fail("--submit: on separate machines the coordinator has requests carried out", 2)
    if method is Method.FAST:
        _check_fast(settings)
    elif then_exact:
        fail("--then-exact goes with --method fast", 2)
    if withdraw and settings.partition != "none":
        fail(
            f"--withdraw: {run} divides one data set among its organizations "
            f"(partition {settings.partition!r}); it is for experiments",
            2,
        )
    ids = None if withdraw else _ids(records, records_file)
    if withdraw and not yes:
        if as_json:
            fail("--json does not ask: give --yes as well", 2)
        question = f"Have all data of {name} forgotten, and bar it from training for good?"
        typer.confirm(question, abort=True, err=True)
    own = _asked(settings, name, task, ids, method, days)
    then = _asked(settings, name, task, ids, Method.EXACT, days, own.id) if then_exact else None
    _print_asked(name, own, then, as_json, run)
    if submit_now:
        submit(settings)
        _print_outcome(settings, name, [one.id for one in (own, then) if one is not None])


@app.command("carry-out")
def carry_out(home: Home = None, as_json: AsJson = False) -> None:
    """Have all open requests carried out now: where the coordinator of separate machines is.

    Between the rounds of a run that happens by itself. Exit status 1 if one stays open.

    Example: `foedus unlearn carry-out`
    """
    from client_app.cli.unlearn_run import carry_out_open, print_carried_out

    print_carried_out(carry_out_open(settings_at(home)), as_json)


@app.command()
def status(organization: Organization = None, home: Home = None, as_json: AsJson = False) -> None:
    """Show what became of an organization's requests, and bring those that the chain lacks.

    Of every organization whose ledger and key lie under the home, unless one is named.

    Example: `foedus unlearn status --org shop`
    """
    from strategies.run_chain import open_reading_chain

    settings = settings_at(home)
    names, chain = _organizations(settings, organization), open_reading_chain(settings)
    lines: list[dict[str, Any]] = []
    problems: list[str] = []
    for name in names:
        more, said = _lines_of(settings, chain, name)
        lines += more
        problems += said
    if as_json:
        print_json({"requests": lines, "problems": problems})
    elif lines:
        _print_lines(lines)
    else:
        console.print(f"{', '.join(names)}: nothing was asked to be forgotten", highlight=False)
    for problem in problems:
        report(problem)
    if problems:
        raise typer.Exit(1)


def submit(settings: "RunSettings") -> None:
    """Have the open requests carried out now, on this machine."""
    from client_app.cli.unlearn_run import submit_unlearning

    submit_unlearning(settings)


def _check_nothing_given(context: typer.Context) -> None:
    """Refuse options before the subcommand, which would be left unread."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is ParameterSource.COMMANDLINE:
            fail(f"give {parameter.opts[0]} after {context.invoked_subcommand}, where it has it", 2)


def _check_fast(settings: "RunSettings") -> None:
    from strategies.setting_checks import fast_problem

    if problem := fast_problem(settings):
        fail(f"--method fast: {problem}", 2)


def _ids(records: str | None, file: Path | None) -> list[str]:
    if file is None:
        return [one.strip() for one in (records or "").split(",") if one.strip()]
    from llm.json_nesting import check_nesting

    try:
        text = file.read_text(encoding="utf-8-sig")
        if not text.lstrip().startswith("{"):
            return [line.strip() for line in text.splitlines() if line.strip()]
        check_nesting(text)
        found = json.loads(text)["records"]
    except OSError as error:
        fail(f"--records-file: {file}: {error.strerror}", 2)
    except (KeyError, ValueError) as error:
        fail(f"--records-file: {file}: expected an id a line or {{'records': [...]}}: {error}", 2)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        fail(f"--records-file: {file}: records: expected a list of ids", 2)
    return found


def _asked(
    settings: "RunSettings",
    name: str,
    task: bytes,
    ids: list[str] | None,
    method: Method,
    days: int,
    beside: bytes | None = None,
) -> "OwnRequest":
    """Ask for records to be forgotten, or with none for all of the organization's data."""
    from blockchain.unlearning_messages import UnlearningScope
    from client_app.ledger_opening import open_ledger
    from client_app.own_record import OwnRecord
    from client_app.own_requests import UnknownRecordsError, ask
    from strategies.home import organization_folder
    from strategies.run_accounts import organization_account, organization_chain
    from strategies.run_chain import open_reading_chain

    account, reading = organization_account(settings, name), open_reading_chain(settings)
    chain = organization_chain(settings, reading, name)
    # The task becomes one that the organization knows, also where it has not answered in it yet.
    OwnRecord(organization_folder(settings.home_path, name), task)
    with open_ledger(settings.home_path, name, account, reading) as ledger:
        try:
            return ask(
                ledger,
                chain,
                account,
                name,
                task,
                scope=UnlearningScope.ORGANIZATION if ids is None else UnlearningScope.RECORDS,
                record_ids=ids or [],
                method=method.value,
                seconds=days * _SECONDS_A_DAY,
                now=chain.now(),
                beside=beside,
            )
        except UnknownRecordsError as error:
            fail(str(error), 2)


def _run_asked_of(
    home: Path | None, run_name: str | None, organization: str | None
) -> "tuple[RunSettings, bytes, str]":
    """Return the settings and the task of the run that is to forget, and what it is called.

    An organization's own machine has no run's folder: there it is the newest task that the
    organization knows, or the one named by how its id begins.
    """
    from client_app.deployment.node import organizations_here
    from client_app.own_requests import known_tasks
    from strategies.home import foedus_home
    from strategies.run_archive import newest_run
    from strategies.run_chain import open_reading_chain

    folder = foedus_home(str(home or ""))
    if newest_run(folder) is not None or not organizations_here(folder):
        archive = chosen_run(home, run_name)
        return settings_of(archive), task_of(archive), f"run {archive.name}"
    settings = settings_told(folder)
    name, chain = one_organization(settings, organization), open_reading_chain(settings)
    tasks = {chain.task(task).opened_block: task for task in known_tasks(folder, name)}
    if not tasks:
        fail(f"{name} has taken part in no run yet", 2)
    task = tasks[max(tasks)] if run_name is None else _beginning_with(run_name, tasks.values())
    return settings, task, f"task 0x{task.hex()}"


def _beginning_with(start: str, tasks: "Iterable[bytes]") -> bytes:
    """Return the one task whose id begins so."""
    known = [f"0x{task.hex()}" for task in tasks]
    found = [one for one in known if one.startswith(start.lower())]
    if len(found) != 1:
        listed = ", ".join(sorted(known))
        fail(f"--run {start!r:.80}: expected how one task's id begins, of {listed}", 2)
    return bytes.fromhex(found[0].removeprefix("0x"))


def _organizations(settings: "RunSettings", organization: str | None) -> list[str]:
    from client_app.ledger_view import ledgers_here
    from strategies.run_accounts import organizations_with_keys

    if organization is not None:
        return [one_organization(settings, organization)]
    names = sorted({*ledgers_here(settings.home_path)} & {*organizations_with_keys(settings)})
    return names or fail(f"no ledger lies beside its key under {settings.home_path}", 2)


def _lines_of(
    settings: "RunSettings", chain: "PublicChain", name: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Bring what waits; one entry for each request, and what went wrong."""
    from client_app.ledger_opening import open_ledger
    from client_app.own_request import Standing
    from client_app.own_requests import RequestError, bring, known_tasks, own_requests
    from strategies.run_accounts import organization_account, organization_chain

    account, now = organization_account(settings, name), chain.now()
    tasks, problems = known_tasks(settings.home_path, name), []
    with open_ledger(settings.home_path, name, account, chain) as ledger:
        found = own_requests(ledger, chain, name, tasks)
        waiting = {own.id for own in found if own.standing(now) is Standing.WAITING}
        if waiting:
            paying = organization_chain(settings, chain, name)
            try:
                bring(ledger, paying, account, name, tasks, now)
            except RequestError as error:
                problems.append(str(error))
            found = own_requests(ledger, chain, name, tasks)
    lines = [
        {
            **_line(name, own, now),
            "in_words": own.standing_in_words(now) + _why_open(settings, own),
            "brought_now": own.id in waiting and own.stored is not None,
        }
        for own in found
    ]
    return lines, problems


def _why_open(settings: "RunSettings", own: "OwnRequest") -> str:
    """Say why a run left a request open, where the run's folder lies here as well."""
    from blockchain.unlearning_messages import RequestState
    from strategies.run_archive import read_json

    if own.stored is None or own.stored.state is not RequestState.OPEN:
        return ""
    places = settings.home_path.glob(f"runs/*/requests/{own.id.hex()}.json")
    newest = max(places, key=lambda path: path.stat().st_mtime_ns, default=None)
    return "" if newest is None else f"; not carried out: {read_json(newest)['reason']}"


def _line(name: str, own: "OwnRequest", now: int) -> dict[str, Any]:
    return {
        "id": f"0x{own.id.hex()}",
        "organization": name,
        "task": f"0x{own.request.task.hex()}",
        "scope": own.request.scope.name.lower(),
        "method": own.method,
        "records": own.records,
        "deadline": own.request.deadline,
        "state": str(own.standing(now)),
    }


def _print_asked(
    name: str, own: "OwnRequest", then: "OwnRequest | None", as_json: bool, run: str
) -> None:
    line = _line(name, own, own.stored.requested_at if own.stored else 0)
    if as_json:
        print_json({**line, **({} if then is None else {"then": f"0x{then.id.hex()}"})})
        return
    what = f"{own.records} records" if own.positions else f"all data ({own.records} records)"
    console.print(f"request {line['id']}", highlight=False)
    console.print(
        f"{name}: {what} to be forgotten ({own.method}) until {shown_time(line['deadline'])}, "
        "and barred from all training from now on",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if then is not None:
        console.print(f"then exactly, by request 0x{then.id.hex()}", highlight=False)
    console.print(
        f"by the model of {run}; --run asks it of another's", highlight=False, soft_wrap=True
    )


def _print_outcome(settings: "RunSettings", name: str, identifiers: list[bytes]) -> None:
    """Say what has come of requests; on standard error, beside what was printed of them."""
    from strategies.run_chain import open_reading_chain

    lines, _ = _lines_of(settings, open_reading_chain(settings), name)
    left = 0
    for identifier in identifiers:
        [line] = [one for one in lines if one["id"] == f"0x{identifier.hex()}"]
        what = f"request {line['id'][:12]}…: {line['in_words']}"
        if line["state"] == "completed":
            what += f" (foedus receipt {line['id'][:12]})"
        left += line["state"] != "completed"
        progress_console.print(what, highlight=False, markup=False, soft_wrap=True)
    if left:
        raise typer.Exit(1)


def _print_lines(lines: list[dict[str, Any]]) -> None:
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for heading in ("request", "organization", "what", "method"):
        table.add_column(heading, no_wrap=True)
    table.add_column("records", justify="right", no_wrap=True)
    table.add_column("state")
    for line in lines:
        table.add_row(
            f"{line['id'][:12]}…",
            line["organization"],
            line["scope"],
            line["method"],
            f"{line['records']:,}",
            line["in_words"] + (" (brought just now)" if line["brought_now"] else ""),
        )
    console.print(table)
