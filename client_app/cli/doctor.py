"""``foedus doctor``: whether this machine has what it needs, and what to do where it has not."""

from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from client_app.cli.deployment import Organization, organization_here
from client_app.cli.output import AsJson, Home, console, print_json, progress_console

if TYPE_CHECKING:
    from client_app.doctor.examination import Examined

_STYLES = {"ok": "green", "warns": "yellow", "fails": "bold red", "not checked": "dim"}


def doctor(org: Organization = None, home: Home = None, as_json: AsJson = False) -> None:
    """Check what this machine needs, a coordinator's or an organization's; say what to do.

    Nothing is changed. Exit status 1 if a check fails.

    Example: `foedus doctor`
    """
    from client_app.deployment.coordinator import configuration_path
    from client_app.doctor.check import Status
    from client_app.doctor.examination import examine
    from client_app.doctor.machine import Machine
    from client_app.doctor.registry import COORDINATOR, ORGANIZATION
    from strategies.home import foedus_home

    folder = foedus_home(str(home or ""))
    if org is None and configuration_path(folder).exists():
        machine, checks = Machine(folder), COORDINATOR
    else:
        machine, checks = Machine(folder, organization_here(folder, org)), ORGANIZATION
    with progress_console.status("looking"):
        found = examine(machine, checks)
    sound = not any(one.finding.status is Status.FAILS for one in found)
    if as_json:
        print_json(
            {
                "holds": sound,
                "machine": "coordinator" if machine.organization is None else "organization",
                "organization": machine.organization,
                "checks": [one.to_json() for one in found],
            }
        )
    else:
        console.print(_table(found, machine.organization or "the coordinator"))
    if not sound:
        raise typer.Exit(1)


def _table(found: "list[Examined]", whose: str) -> Table:
    # Findings quote paths, addresses and what other machines say: as text, never as markup.
    table = Table("check", "", "found", "what to do", title=Text(f"The machine of {whose}"))
    for one in found:
        finding = one.finding
        table.add_row(
            Text(one.name),
            Text(finding.status, style=_STYLES[finding.status]),
            Text(finding.found, overflow="fold"),
            Text(finding.remedy, overflow="fold"),
        )
    return table
