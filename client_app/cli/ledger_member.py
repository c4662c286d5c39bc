"""Whose ledger a command is about, and by whose key it is opened."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client_app.cli.output import fail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eth_account.signers.local import LocalAccount

    from blockchain.anchors import Anchor
    from blockchain.private.ledger import Ledger
    from strategies.settings import RunSettings

Organization = Annotated[
    str | None,
    typer.Option("--org", help="Whose ledger; needed where several lie under the home."),
]
MemberKey = Annotated[
    str,
    typer.Option(
        "--member",
        help="Whose key opens it: the name of a keystore of the organization (signing, officer), "
        "or the path of one elsewhere.",
    ),
]


def one_organization(settings: "RunSettings", organization: str | None) -> str:
    """Return the organization named, or the only one whose ledger lies here."""
    from client_app.ledger_view import ledgers_here

    here = ledgers_here(settings.home_path)
    if organization is not None:
        if organization not in here:
            fail(f"there is no ledger of {organization!r:.80} under {settings.home_path}", 2)
        return organization
    if len(here) != 1:
        found = ", ".join(here) or "none"
        fail(f"ledgers under {settings.home_path}: {found}; choose by --org NAME", 2)
    return here[0]


def member_account(settings: "RunSettings", organization: str, member: str) -> "LocalAccount":
    """Open the keystore that was named; none is made."""
    from blockchain.keys import open_account
    from strategies.organization_key import key_folder

    given = Path(member).expanduser()
    path = (
        given
        if given.suffix == ".json"
        else key_folder(settings.home_path, organization) / f"{member}.json"
    )
    if not path.is_file():
        fail(f"there is no keystore at {path}", 2)
    return open_account(path.parent, path.stem)


@contextmanager
def opened_ledger(settings: "RunSettings", organization: str, member: str) -> "Iterator[Ledger]":
    """Have a ledger open by a member's key."""
    from client_app.ledger_opening import opened

    account = member_account(settings, organization, member)
    with opened(settings.home_path, organization, account) as ledger:
        yield ledger


def last_anchor(settings: "RunSettings", organization: str) -> "Anchor":
    """Ask the chain for an organization's last anchor."""
    from blockchain.merkle import organization_id
    from strategies.run_chain import open_reading_chain

    return open_reading_chain(settings).anchors.last(organization_id(organization))


def numbers(text: str, option: str) -> list[int]:
    """Read numbers such as ``3,7-9``, or end the command."""
    found: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (not dash or last.isdecimal())) or len(part) > 40:
            fail(f"{option} {text!r:.80}: expected numbers such as 3,7-9", 2)
        low, high = int(first), int(last or first)
        if not low <= high < low + 100_000:
            fail(f"{option} {text!r:.80}: expected numbers such as 3,7-9", 2)
        found += range(low, high + 1)
    return found
