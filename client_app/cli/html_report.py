"""``foedus report``: one HTML page about a run, or about an organization's own ledger."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, track

from client_app.cli.chosen import settings_at, settings_of, task_of
from client_app.cli.ledger_member import MemberKey, member_account, one_organization, opened_ledger
from client_app.cli.output import AsJson, Home, console, fail, print_json, progress_console
from client_app.cli.verification import chosen_run

if TYPE_CHECKING:
    from strategies.run_archive import RunArchive


def report(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; in the home's `reports` unless given."),
    ] = None,
    run_name: Annotated[
        str | None, typer.Option("--run", help="Name of the run; the newest unless told otherwise.")
    ] = None,
    organization: Annotated[
        str | None,
        typer.Option(
            "--org", help="The page of this organization's own ledger, instead of a run's."
        ),
    ] = None,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page: nothing in it is loaded from anywhere.

    Of a run it shows who took part, accuracy and loss, contributions and rewards, gas and time,
    every check of `foedus verify` and the requests to forget with their receipts: what its
    coordinator may see, and nothing of a private ledger. With `--org`, and on an organization's own
    machine, it shows that organization's ledger: its rounds, its agent's decisions, its requests,
    and whether the ledger holds; the reading is logged in it.

    Exit status 1 where a check fails; the page is written all the same, and names it.

    Examples: `foedus report`, `foedus report --org shop --output shop.html`
    """
    from client_app.ledger_view import ledgers_here
    from strategies.home import foedus_home
    from strategies.run_archive import newest_run

    folder = foedus_home(str(home or ""))
    if organization is not None and run_name is not None:
        fail("give --run for a run's page or --org for an organization's, not both", 2)
    own = organization is not None or (
        run_name is None and newest_run(folder) is None and bool(ledgers_here(folder))
    )
    if own:
        name, page, problems = _of_ledger(home, organization, member)
    else:
        name, page, problems = _of_run(chosen_run(home, run_name))
    path = (output or _usual_place(folder, name)).resolve()
    _write(path, page)
    if as_json:
        print_json({"file": str(path), "holds": not problems, "problems": problems})
    else:
        for problem in problems:
            console.print(f"FAILS {problem}", markup=False, soft_wrap=True, highlight=False)
        console.print(f"report: {path}", markup=False, soft_wrap=True, highlight=False)
    if problems:
        raise typer.Exit(1)


def write_run_report(archive: "RunArchive") -> tuple[Path, list[str]]:
    """Write a run's page where pages lie; return its path, and what of the run does not hold."""
    name, page, problems = _of_run(archive)
    path = _usual_place(archive.home, name)
    _write(path, page)
    return path, problems


def _usual_place(home: Path, name: str) -> Path:
    return home / "reports" / f"{name}.html"


def _of_run(archive: "RunArchive") -> tuple[str, str, list[str]]:
    """Return the name of a run's page, the page, and what of the run does not hold."""
    from client_app.report.page import run_page
    from client_app.report.run_contents import run_contents
    from strategies.audit import audit
    from strategies.run_chain import open_reading_chain

    task_of(archive)
    settings = settings_of(archive)
    chain = open_reading_chain(settings)
    checks = list(
        track(
            audit(archive, chain),
            description="verifying",
            console=progress_console,
            transient=True,
        )
    )
    contents = run_contents(archive, settings, chain, checks)
    problems = [
        f"{f'round {check.round}' if check.round else 'run'}: {check.name}: {check.detail}"
        for check in contents.failed
    ]
    problems += [
        f"receipt 0x{line.id}: {line.problem}" for line in contents.requests if line.problem
    ]
    return archive.name, run_page(contents, int(time.time())), problems


def _of_ledger(
    home: Path | None, organization: str | None, member: str
) -> tuple[str, str, list[str]]:
    """Return the name of an organization's page, the page, and what does not hold."""
    from client_app.report.ledger_contents import ledger_contents
    from client_app.report.page import ledger_page
    from strategies.run_chain import open_reading_chain

    settings = settings_at(home)
    name = one_organization(settings, organization)
    account, chain = member_account(settings, name, member), open_reading_chain(settings)
    with (
        opened_ledger(settings, name, member) as ledger,
        Progress(console=progress_console, transient=True) as bar,
    ):
        line = bar.add_task(f"verifying {name}", total=None)
        contents = ledger_contents(
            ledger,
            account,
            settings,
            name,
            chain,
            lambda done, total: bar.update(line, completed=done, total=total),
        )
    problems = [f"ledger: {contents.problem}"] if contents.problem else []
    problems += [
        f"receipt 0x{line.id}: {line.problem}"
        for _, line in contents.requests
        if line is not None and line.problem
    ]
    return name, ledger_page(contents, int(time.time())), problems


def _write(path: Path, page: str) -> None:
    from blockchain.durable_file import write_durably

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, page.encode())
    except OSError as error:
        fail(f"--output {path}: {error.strerror}", 2)
