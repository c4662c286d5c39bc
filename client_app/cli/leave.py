"""``foedus leave``: an organization leaves the federation for good, from its own machine."""

from typing import Annotated

import typer

from client_app.cli.deployment import Organization, organization_here
from client_app.cli.output import AsJson, Home, console, fail, print_json


def leave(
    org: Organization = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it.")] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also with requests to forget that are open.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Leave the federation for good, by the organization's own signature.

    No later round takes it. What it trained stays in the model unless its data was withdrawn
    first: `foedus unlearn --org NAME --withdraw`.

    Example: `foedus leave --org north`
    """
    from client_app.cli.chosen import settings_told
    from client_app.leaving import CONSEQUENCES, check_leaving
    from client_app.leaving import leave as depart
    from strategies.home import foedus_home
    from strategies.run_chain import open_reading_chain

    folder = foedus_home(str(home or ""))
    name = organization_here(folder, org)
    if as_json and not yes:
        fail("--json does not ask: give --yes as well", 2)
    settings = settings_told(folder)
    chain = open_reading_chain(settings)
    check_leaving(settings, chain, name, anyway=anyway)
    if not as_json:
        console.print(CONSEQUENCES.format(name=name), highlight=False, markup=False)
    if not yes:
        typer.confirm(f"Have {name} leave?", abort=True, err=True)
    receipt = depart(settings, chain, name)
    if as_json:
        transaction = f"0x{receipt.hash.hex()}"
        left = {"organization": name, "block": receipt.block_number, "transaction": transaction}
        print_json({**left, "gas": receipt.gas_used})
    else:
        console.print(
            f"{name} has left (block {receipt.block_number})\n"
            "next: `foedus down`, which ends its node here",
            highlight=False,
        )
