"""Which run, task, settings and names a command is about."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    """Return the settings of the newest run under a home.

    Where there is none they follow from what the machine was told, or are the defaults.
    """
    from strategies.home import foedus_home
    from strategies.run_archive import newest_run

    folder = foedus_home(str(home or ""))
    archive = newest_run(folder)
    return settings_told(folder) if archive is None else settings_of(archive)


def settings_told(home: Path) -> "RunSettings":
    """Return the settings that follow from what a coordinator's or a node's machine was told."""
    from client_app.deployment.node import organizations_here, read_node
    from strategies.settings import RunSettings

    config: dict[str, Any] = {**config_told(home), "home": str(home)}
    if len(config) == 1 and (here := organizations_here(home)):
        node = read_node(home, here[0])
        config |= {"organizations": ",".join(here), "min-organizations": 1}
        if node.coordinator:
            config |= node.reading(home)
    return RunSettings.from_run_config(config)


def config_told(home: Path) -> dict[str, Any]:
    """Return what follows for a run from what the coordinator's machine was told, by setting.

    Empty where the machine is no coordinator of separate machines.
    """
    from client_app.cli.app_bundle import own_bundle
    from client_app.deployment.coordinator import configuration_path, read_coordinator

    if not configuration_path(home).exists():
        return {}
    return {**read_coordinator(home).run_config(home), "bundle": own_bundle()}


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
