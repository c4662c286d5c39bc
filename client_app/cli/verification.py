"""``foedus verify``: the newest run, held against the public chain."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import track

from client_app.cli.output import (
    AsJson,
    Home,
    console,
    fail,
    print_json,
    progress_console,
    shown_time,
)

if TYPE_CHECKING:
    from blockchain.public_chain import PublicChain
    from strategies.assurance import Assurance
    from strategies.audit_check import Check
    from strategies.run_archive import RunArchive


def verify(
    round_number: Annotated[
        int | None, typer.Option("--round", min=1, help="Check this round alone.")
    ] = None,
    run_name: Annotated[
        str | None, typer.Option("--run", help="Name of the run; the newest unless told otherwise.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every hash of a run from disk and hold it against the public chain.

    Says which level of assurance each round reached: sealed, signed, recomputed, attested, final.
    Exit status 1 names what does not hold.

    Example: `foedus verify --round 3`
    """
    from strategies.audit import audit
    from strategies.run_chain import open_reading_chain
    from strategies.settings import RunSettings

    archive = chosen_run(home, run_name)
    settings = RunSettings.from_run_config({**archive.read_settings(), "home": str(archive.home)})
    chain = open_reading_chain(settings)
    checks = list(
        track(
            audit(archive, chain, only_round=round_number),
            description="verifying",
            console=progress_console,
            transient=True,
        )
    )
    failed = [check for check in checks if not check.holds]
    rounds = _assurances(archive, chain, checks)
    if as_json:
        print_json(
            {
                "run": archive.name,
                "holds": not failed,
                "checks": [check.to_json() for check in checks],
                "rounds": [reached.to_json() for reached in rounds],
            }
        )
    else:
        for check in failed:
            where = f"round {check.round}" if check.round else "run"
            said = escape(f"{where}: {check.name}: {check.detail}")
            console.print(f"[red]FAILS[/] {said}", soft_wrap=True, highlight=False)
        for reached in rounds:
            console.print(_in_words(reached), markup=False, soft_wrap=True, highlight=False)
        console.print(
            f"run {archive.name}: {len(checks) - len(failed)} of {len(checks)} checks hold"
        )
    if failed:
        raise typer.Exit(1)


def _assurances(
    archive: "RunArchive", chain: "PublicChain", checks: list["Check"]
) -> list["Assurance"]:
    from blockchain.errors import ChainError
    from strategies.assurance import assurances

    try:
        task = bytes.fromhex(archive.read_run()["task"])
        on_chain, records = chain.task(task), chain.rounds(task)
    except (ChainError, KeyError, TypeError, ValueError):
        # A check says so already.
        return []
    return assurances(checks, on_chain, records, chain.now())


def _in_words(reached: "Assurance") -> str:
    words = f"round {reached.round}: {reached.level}"
    if reached.missing:
        words += f" ({reached.missing})"
    if reached.phase.name == "SEALED" and reached.final_from is not None:
        words += f", final at the earliest {shown_time(reached.final_from)}"
    return words


def chosen_run(home: Path | None, run_name: str | None) -> "RunArchive":
    """Return the named run, or the newest."""
    from strategies.home import foedus_home
    from strategies.run_archive import RunArchive, newest_run

    folder = foedus_home(str(home or ""))
    if run_name is not None:
        if not (folder / "runs" / run_name / "run.json").is_file():
            fail(f"there is no run {run_name!r} under {folder}", 2)
        return RunArchive(folder / "runs" / run_name)
    archive = newest_run(folder)
    if archive is None:
        fail(f"there is no run under {folder}; `foedus run` makes one", 2)
    return archive
