"""``foedus members``: who trains together, by the registry; and how another joins later."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from client_app.cli.chosen import known_names, settings_at, settings_told
from client_app.cli.output import AsJson, Home, console, fail, print_json

if TYPE_CHECKING:
    from strategies.members_here import Roster

app = typer.Typer(
    help="The organizations of the registry; how members admit another.",
    invoke_without_command=True,
)

Proposal = Annotated[Path, typer.Argument(help="The file that `foedus members admit` wrote.")]


@app.callback()
def members(context: typer.Context, home: Home = None, as_json: AsJson = False) -> None:
    """List the organizations of the registry, thresholds and roles.

    Example: `foedus members`
    """
    if context.invoked_subcommand is not None:
        return
    from strategies.members_here import roster
    from strategies.run_chain import open_reading_chain

    settings = settings_at(home)
    chain = open_reading_chain(settings)
    found = roster(chain.members, settings.home_path, known_names(settings))
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)


@app.command()
def admit(
    organization: Annotated[str, typer.Argument(help="Who answered its invitation.")],
    output: Annotated[Path | None, typer.Option(help="Where the proposal goes.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write a proposal that an organization become a member; members have to approve it.

    Example: `foedus members admit west`
    """
    from strategies.deployed_members import joined_organizations
    from strategies.membership_change import Admission
    from strategies.run_chain import open_reading_chain

    settings = settings_told(_folder(home))
    joined = joined_organizations(settings.home_path).read(organization)
    if joined is None:
        fail(f"{organization!r:.80} has not answered an invitation: `foedus invite` first")
    proposal = Admission.of(joined, open_reading_chain(settings).members)
    path = output or Path(f"admit-{organization}.json")
    proposal.write(path)
    if as_json:
        print_json({"proposal": str(path), **proposal.model_dump()})
    else:
        console.print(f"{path}\nnext, at members: `foedus members approve {path.name}`", style="")


@app.command()
def approve(
    proposal: Proposal,
    org: Annotated[str, typer.Option("--org", help="The member that approves.")],
    output: Annotated[Path | None, typer.Option(help="Where the approval goes.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Sign a proposal with a member's key, and write the approval.

    Example: `foedus members approve admit-west.json --org north`
    """
    from strategies.membership_change import Admission, Approval
    from strategies.organization_key import signing_account
    from strategies.run_chain import open_reading_chain

    settings = settings_told(_folder(home))
    change = Admission.read(proposal)
    chain = open_reading_chain(settings)
    signed = Approval.signed(change, chain.members, org, signing_account(settings.home_path, org))
    path = output or Path(f"{proposal.stem}-{org}.json")
    signed.write(path)
    if as_json:
        print_json({"approval": str(path), "organization": change.organization})
    else:
        console.print(
            f"{org} approves that {change.organization} (key {change.key}) become a member, and "
            f"that a change need {change.threshold} members from then on: {path}",
            highlight=False,
        )


@app.command()
def execute(
    proposal: Proposal,
    approvals: Annotated[list[Path], typer.Argument(help="Members' approvals.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Bring a proposal that enough members approved to the chain.

    Example: `foedus members execute admit-west.json admit-west-north.json admit-west-south.json`
    """
    from strategies.membership_change import Admission, Approval
    from strategies.membership_change import execute as make
    from strategies.run_chain import open_writing_chain

    change = Admission.read(proposal)
    found = [Approval.read(path) for path in approvals]
    receipt = make(change, found, open_writing_chain(settings_told(_folder(home))).members)
    if as_json:
        print_json({"organization": change.organization, "gas": receipt.gas_used})
    else:
        console.print(f"{change.organization} is a member; {receipt.gas_used:,} gas")


def _folder(home: Path | None) -> Path:
    from strategies.home import foedus_home

    return foedus_home(str(home or ""))


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
