"""``foedus privacy``: what an organization's updates may have said of one of its records."""

import math
from dataclasses import asdict
from typing import Annotated

import typer

from client_app.cli.chosen import settings_at
from client_app.cli.ledger_member import MemberKey, Organization, one_organization, opened_ledger
from client_app.cli.output import AsJson, Home, console, print_json


def privacy(
    organization: Organization = None,
    delta: Annotated[
        float, typer.Option(min=1e-300, max=1, help="Probability for which epsilon is stated.")
    ] = 1e-5,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Add up what was spent of differential privacy, from an organization's private ledger.

    Over all its runs and replays. A round without noise (`privacy-epsilon` 0, the default) has no
    bound.

    Example: `foedus privacy --org shop --delta 1e-6`
    """
    from client_app.privacy_spent import privacy_spent

    settings = settings_at(home)
    name = one_organization(settings, organization)
    with opened_ledger(settings, name, member) as ledger:
        spent = privacy_spent(ledger, delta)
    bounded = math.isfinite(spent.epsilon)
    if as_json:
        print_json(
            {
                "organization": name,
                **asdict(spent),
                "epsilon": spent.epsilon if bounded else None,
                "bounded": bounded,
            }
        )
        return
    rounds = f"{spent.rounds} rounds"
    if bounded:
        said = f"epsilon {spent.epsilon:.3f} at delta {delta:g} for any one record"
    else:
        said = f"no bound: {spent.unprotected} of them without noise (privacy-epsilon 0)"
    console.print(f"{name}: {rounds}: {said}", highlight=False)
    if spent.unreadable:
        console.print(
            f"{spent.unreadable} rounds are not counted: what they drew was erased",
            highlight=False,
        )
