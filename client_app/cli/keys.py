"""``foedus keys``: the signing keys under a home, made, listed and rotated; never shown."""

from typing import Annotated

import typer
from rich.table import Table

from client_app.cli.chosen import settings_at
from client_app.cli.output import AsJson, Home, console, fail, print_json, report

app = typer.Typer(help="Signing keys: made, listed, rotated.", no_args_is_help=True)

Organization = Annotated[str, typer.Option("--org", help="The organization.")]


@app.command()
def new(organization: Organization, home: Home = None, as_json: AsJson = False) -> None:
    """Make an organization's signing key, unless there is one, and print its address.

    Example: `foedus keys new --org shop`
    """
    from strategies.home import foedus_home
    from strategies.organization_key import SIGNING, key_folder, signing_account
    from strategies.settings import RunSettings

    if "," in organization:
        fail(f"--org {organization!r:.80}: give one name", 2)
    folder = foedus_home(str(home or ""))
    # As a run would check the name.
    RunSettings.from_run_config({"organizations": organization, "min-organizations": 1})
    made = not (key_folder(folder, organization) / f"{SIGNING}.json").exists()
    address = signing_account(folder, organization).address
    if as_json:
        print_json({"organization": organization, "address": address, "made": made})
    else:
        console.print(f"{address}{'' if made else ' (it was there already)'}", highlight=False)


@app.command("list")
def list_(home: Home = None, as_json: AsJson = False) -> None:
    """List the keystores under the home: addresses, and whether the registry knows them now.

    Example: `foedus keys list`
    """
    from blockchain.errors import ChainError
    from strategies.members_here import keys_here
    from strategies.run_chain import open_reading_chain

    settings = settings_at(home)
    try:
        members = open_reading_chain(settings).members
    except ChainError as error:
        # The keys are here all the same.
        report(str(error))
        members = None
    found = keys_here(settings.home_path, members)
    if as_json:
        print_json({"keys": [key.to_json() for key in found]})
        return
    table = Table("owner", "use", "address", "registered now")
    for key in found:
        known = "unknown" if key.registered is None else ("yes" if key.registered else "no")
        table.add_row(key.owner, key.use, key.address, known)
    console.print(table)
    for key in found:
        if key.use == "next":
            console.print(
                f"a rotation of {key.owner} is under way: `foedus keys rotate --org {key.owner}` "
                "finishes it",
                highlight=False,
            )


@app.command()
def rotate(organization: Organization, home: Home = None, as_json: AsJson = False) -> None:
    """Replace an organization's signing key; the old and the new one both sign.

    Goes on where an earlier rotation was killed. The old keystore is kept.

    Example: `foedus keys rotate --org shop`
    """
    from client_app.key_rotation import rotate as rotate_key
    from strategies.run_chain import open_reading_chain

    settings = settings_at(home)
    rotation = rotate_key(settings, open_reading_chain(settings), organization)
    transaction = rotation.transaction
    if as_json:
        print_json(
            {
                "organization": rotation.organization,
                "old": rotation.old,
                "new": rotation.new,
                "transaction": None if transaction is None else f"0x{transaction.hex()}",
            }
        )
        return
    earlier = "" if transaction is not None else " (an earlier rotation, finished now)"
    console.print(
        f"{organization} signs with {rotation.new} now, no longer with {rotation.old}{earlier}",
        highlight=False,
        soft_wrap=True,
    )
