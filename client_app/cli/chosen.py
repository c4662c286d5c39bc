"""Which run, task, settings and names a command is about."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client_app.cli.output import fail

if TYPE_CHECKING:
    from strategies.run_archive import RunArchive
    from strategies.settings import RunSettings

RunName = Annotated[
    str | None, typer.Option("--run", help="Name of the run; the newest unless told otherwise.")
]


def settings_of(archive: "RunArchive") -> "RunSettings":
    """Return the settings of a run, under the home that it lies in now."""
    from strategies.settings import RunSettings

    return RunSettings.from_run_config({**archive.read_settings(), "home": str(archive.home)})


def settings_at(home: Path | None) -> "RunSettings":
    """Return the settings of the newest run under a home; the defaults where there is none."""
    from strategies.home import foedus_home
    from strategies.run_archive import newest_run
    from strategies.settings import RunSettings

    folder = foedus_home(str(home or ""))
    archive = newest_run(folder)
    return RunSettings(home=str(folder)) if archive is None else settings_of(archive)


def task_of(archive: "RunArchive") -> bytes:
    """Return the id of a run's task, or end the command where it never opened one."""
    task = str(archive.read_run().get("task"))
    try:
        return bytes.fromhex(task)
    except ValueError:
        return fail(f"run {archive.name} never opened a task on the chain")


def known_names(settings: "RunSettings", more: Iterable[str] = ()) -> dict[bytes, str]:
    """Return the names of organizations by id, as far as a home and a run know them."""
    from blockchain.merkle import organization_id

    folder = settings.home_path / "organizations"
    here = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return {organization_id(name): name for name in (*settings.organization_names, *here, *more)}
