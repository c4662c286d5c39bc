"""``foedus ledger members | card | admit | dismiss``: who may do what in a ledger."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from client_app.cli.chosen import settings_at
from client_app.cli.ledger_member import (
    MemberKey,
    Organization,
    member_account,
    one_organization,
    opened_ledger,
)
from client_app.cli.output import AsJson, Home, console, fail, print_json

_MAX_CARD_BYTES = 4096


def members(
    organization: Organization = None,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """List a ledger's members, their roles, and which records need whose endorsement.

    Example: `foedus ledger members --org shop`
    """
    settings = settings_at(home)
    name = one_organization(settings, organization)
    with opened_ledger(settings, name, member) as ledger:
        policy = ledger.history.members
    needed = {
        kind: {str(role): count for role, count in rule.items()}
        for kind, rule in sorted(policy.rules.endorsements.items())
    }
    if as_json:
        print_json(
            {
                "organization": name,
                "members": [
                    one.model_dump(mode="json") for _, one in sorted(policy.members.items())
                ],
                "endorsements": needed,
            }
        )
        return
    table = Table("member", "roles", title=f"Members of {name}'s ledger")
    for address, one in sorted(policy.members.items()):
        table.add_row(address, ", ".join(one.roles))
    console.print(table)
    for kind, rule in needed.items():
        behind = ", ".join(f"{count} {role}" for role, count in rule.items())
        console.print(f"{kind} needs behind it: {behind}", highlight=False)


def card(
    organization: Annotated[str, typer.Option("--org", help="Whose key folder.")],
    member: MemberKey = "signing",
    home: Home = None,
) -> None:
    """Print the card by which a key's holder can be admitted to a ledger: address and public key.

    Example: `foedus ledger card --org shop --member /keys/auditor.json > auditor-card.json`
    """
    from blockchain.private.encoding import member_of

    account = member_account(settings_at(home), organization, member)
    print_json(member_of(account).model_dump(mode="json"))


def admit(
    card_file: Annotated[Path, typer.Option("--card", help="File with the member's card.")],
    roles: Annotated[
        str,
        typer.Option(
            "--roles", help="operator, trainer, auditor, data-protection-officer; by commas."
        ),
    ],
    organization: Organization = None,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Admit a member to a ledger, or give one other roles; it counts once endorsed.

    Example: `foedus ledger admit --org shop --card auditor-card.json --roles auditor`
    """
    from pydantic import ValidationError

    from blockchain.private.record_types import (
        Member,
        Role,
    )

    settings = settings_at(home)
    name = one_organization(settings, organization)
    wanted = sorted({part.strip() for part in roles.split(",") if part.strip()})
    unknown = [role for role in wanted if role not in set(Role)]
    if unknown or not wanted:
        fail(f"--roles {roles!r:.80}: expected some of {', '.join(Role)}", 2)
    try:
        with card_file.open("rb") as file:
            given = Member.model_validate_json(file.read(_MAX_CARD_BYTES))
    except OSError as error:
        fail(f"{card_file} cannot be read: {error.strerror}", 2)
    except ValidationError:
        fail(f"{card_file} is no member's card: `foedus ledger card` prints one", 2)
    admitted = given.model_copy(update={"roles": tuple(Role(role) for role in wanted)})
    with opened_ledger(settings, name, member) as ledger:
        number = ledger.change_member(admitted)
        status = ledger.status(number)
    _say(name, number, status, as_json=as_json)


def dismiss(
    address: Annotated[str, typer.Argument(help="The member's address.")],
    organization: Organization = None,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Take all roles from a member; it counts once endorsed. What it could read, it may have read.

    Example: `foedus ledger dismiss 0x5FbDB2315678afecb367f032d93F642f64180aa3 --org shop`
    """
    settings = settings_at(home)
    name = one_organization(settings, organization)
    with opened_ledger(settings, name, member) as ledger:
        there = ledger.history.members.members.get(address)
        if there is None:
            fail(f"{address!r:.80} is no member of {name}'s ledger", 2)
        number = ledger.change_member(there.model_copy(update={"roles": ()}))
        status = ledger.status(number)
    _say(name, number, status, as_json=as_json)


def _say(organization: str, number: int, status: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"organization": organization, "record": number, "status": status})
    elif status == "pending":
        console.print(
            f"record {number} is pending: `foedus ledger endorse {number} --org {organization}`",
            highlight=False,
        )
    else:
        console.print(f"record {number} is {status}", highlight=False)
