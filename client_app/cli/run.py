"""``foedus run``: prepare, submit to Flower, show progress, print the result."""

import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_app.cli.output import (
    AsJson,
    Home,
    console,
    fail,
    print_json,
    progress_console,
    report,
)

if TYPE_CHECKING:
    from client_app.cli.run_display import RunDisplay
    from strategies.settings import RunSettings

#: How often the display looks at the run's files.


def run(
    run_config: Annotated[
        list[str] | None,
        typer.Option(
            "--run-config",
            "-c",
            metavar="KEY=VALUE",
            help="A setting other than its default, as `flwr run` takes it; may be repeated.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the newest unfinished run.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Run a federation: prepare what is missing, train, print the result.

    All of it on this machine, or, where this is the coordinator of separate machines (`foedus
    init`), with the organizations on theirs.

    Exit status 1 if the run fails, 2 if a setting is wrong.

    Examples: `foedus run`, `foedus run -c rounds=3 -c 'aggregation="fedit"'`,
    `foedus run --resume`
    """
    from client_app.cli.app_bundle import app_defaults
    from client_app.cli.chosen import config_told
    from strategies.handed_out import hand_out
    from strategies.home import foedus_home
    from strategies.run_folder import run_folder
    from strategies.settings import RunSettings

    overrides = _parse_overrides(run_config or [])
    folder = foedus_home(str(overrides.get("home") or home or ""))
    overrides = {**config_told(folder), **overrides, "home": str(folder)}
    if resume:
        overrides["resume"] = True
    settings = RunSettings.from_run_config({**app_defaults(), **overrides})
    overrides["run-name"] = run_folder(settings).name
    if settings.bundle and not settings.resume:
        overrides |= _without_departed(settings)
    if settings.bundle and Path(settings.public_validation).is_absolute():
        # Other machines fetch it by its hash, and read no path that is named here.
        handed = hand_out(settings.home_path, Path(settings.public_validation))
        overrides["public-validation"] = handed.setting
    settings = RunSettings.from_run_config({**app_defaults(), **overrides})

    summary = _carry_out(settings, overrides)
    if as_json:
        print_json(summary)
    else:
        from client_app.cli.run_report import print_report

        print_report(summary, console, simulated=not settings.bundle)
        _write_page(settings.home_path / "runs" / summary["run"])


def _write_page(folder: Path) -> None:
    """Write the run's report; the run is done, whatever becomes of that."""
    from blockchain.errors import ChainError
    from client_app.cli.html_report import write_run_report
    from strategies.run_archive import ArchiveError, RunArchive

    try:
        path, problems = write_run_report(RunArchive(folder))
    except (ArchiveError, ChainError) as error:
        report(f"no report was written: {error}; `foedus report` tries again")
        return
    console.print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)
    if problems:
        report(f"{len(problems)} checks of the run fail: {problems[0]}")


def _parse_overrides(pairs: list[str]) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            fail(f"--run-config {pair!r}: expected KEY=VALUE", 2)
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            # A bare word is a string: quoting twice for the shell is nobody's wish.
            overrides[key.strip()] = value.strip()
    return overrides


def _without_departed(settings: "RunSettings") -> dict[str, Any]:
    """Return the settings that pass over whoever has left the federation, and say whom."""
    from blockchain.errors import ChainError
    from strategies.departures import departures, settings_without
    from strategies.run_chain import open_reading_chain

    try:
        members = open_reading_chain(settings).members
        gone = departures(members, settings.organization_names)
    except ChainError:
        # Not founded, or not up: what is to be done about that is said where it is needed.
        return {}
    for name, block in gone.items():
        progress_console.print(
            f"{name} has left the federation (block {block}): the run goes without it; strike it "
            "from organizations in coordinator.toml",
            highlight=False,
            soft_wrap=True,
        )
    return settings_without(settings, gone) if gone else {}


def _carry_out(settings: "RunSettings", overrides: dict[str, Any]) -> dict[str, Any]:
    from client_app.cli.app_bundle import stage_app
    from client_app.cli.local_superlink import SuperLinkError, last_error
    from client_app.cli.superlink import superlink_of

    simulated: dict[str, object] = {"num-supernodes": len(settings.organization_names)}
    folder = settings.home_path / "runs" / settings.run_name
    started = time.monotonic()
    with superlink_of(settings) as superlink:
        # While the SuperLink starts.
        from client_app.cli.preparation import prepare
        from client_app.cli.run_display import RunDisplay
        from strategies.run_archive import RunArchive, read_json

        prepare(settings, progress_console)
        prepared = time.monotonic() - started
        app = stage_app(settings.home_path / "flwr" / "app")
        run_id = superlink.submit(app, overrides, None if settings.bundle else simulated)
        with RunDisplay(settings, folder, progress_console) as display:
            try:
                status = superlink.wait(run_id, lambda: _refreshed(display))
            except SuperLinkError as error:
                fail(
                    f"the run stopped: {error}\nonce the SuperLink runs again, `foedus run "
                    f"--resume -c run-name={settings.run_name}` goes on from what was sealed"
                )
    entry = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    while entry.get("status") == "replaced":
        # Requests to forget came in between: the run that took its place went on to the end.
        folder = folder.parent / str(entry["by"])
        entry = read_json(folder / "run.json")
    # Flower's status alone does not say it, nor does the entry: it may be an earlier attempt's.
    if entry.get("status") != "finished" or status != "finished:completed":
        reason = display.failure or last_error(superlink.log) or f"Flower says {status}"
        fail(
            f"the run failed: {reason} (log: {folder / 'run.log'}, {superlink.log})",
            2 if reason.startswith("SettingsError") else 1,
        )
    summary = read_json(folder / "summary.json")
    # The job's own figures count from its start: what came before is set-up as well.
    summary["seconds"]["prepare"] = prepared
    RunArchive(folder).write_summary(summary)
    return summary


def _refreshed(display: "RunDisplay") -> bool:
    display.refresh()
    return display.ended
