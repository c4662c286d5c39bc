"""``foedus members``: who trains together, by the registry."""

from typing import TYPE_CHECKING

from rich.table import Table

from client_app.cli.chosen import known_names, settings_at
from client_app.cli.output import AsJson, Home, console, print_json

if TYPE_CHECKING:
    from strategies.members_here import Roster


def members(home: Home = None, as_json: AsJson = False) -> None:
    """List the organizations of the registry, thresholds and roles.

    Example: `foedus members`
    """
    from strategies.members_here import roster
    from strategies.run_chain import open_reading_chain

    settings = settings_at(home)
    chain = open_reading_chain(settings)
    found = roster(chain.members, settings.home_path, known_names(settings))
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)


def _print(found: "Roster") -> None:
    attestors = sum(member.attestor for member in found.members)
    table = Table("organization", "key", "since block", "attestor", "key lies here")
    for member in found.members:
        table.add_row(
            member.name or member.id,
            member.key,
            str(member.since),
            "yes" if member.attestor else "",
            "yes" if member.key_here else "",
        )
    console.print(table)
    console.print(
        f"a change needs {found.threshold} of {len(found.members)} members, an attestation "
        f"{found.attestor_threshold} of {attestors} attestors",
        highlight=False,
    )
    console.print(f"coordinator: {', '.join(found.coordinators) or 'nobody'}", highlight=False)
    console.print(f"may pause: {', '.join(found.pausers) or 'nobody'}", highlight=False)
    if found.simulated:
        console.print("one operator holds all keys: a simulation")
