"""``foedus init``, ``invite``, ``join``, ``up`` and ``down``: a federation on separate machines."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from client_app.cli.output import AsJson, Home, console, fail, print_json, progress_console

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")

init = typer.Typer(help="Set up this machine's part of a federation.", no_args_is_help=True)

_DAY_SECONDS = 86_400

Organization = Annotated[
    str | None, typer.Option("--org", help="The organization, where this home has several.")
]


@init.command()
def coordinator(
    organizations: Annotated[
        str, typer.Option(prompt=True, help="Who takes part, by name, separated by commas.")
    ],
    address: Annotated[
        list[str] | None,
        typer.Option(help="Host name or IP address of this machine for them; may be repeated."),
    ] = None,
    port: Annotated[int, typer.Option(help="The port open to them.")] = 9443,
    chain_url: Annotated[
        str, typer.Option(help="`managed`, or the URL of an Ethereum node.")
    ] = "managed",
    chain_id: Annotated[int, typer.Option(help="Of that chain.")] = 31337,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write a coordinator's configuration, and make its certificate authority.

    Example: `foedus init coordinator --organizations north,south,east --address 10.0.0.1`
    """
    from client_app.deployment.certificates import issue_server, make_authority
    from client_app.deployment.coordinator import (
        CoordinatorConfiguration,
        certificates,
        configuration_path,
        write_configuration,
    )
    from strategies.home import foedus_home

    folder = foedus_home(str(home or ""))
    path = configuration_path(folder)
    if path.exists():
        fail(f"{path} is there already: edit it, and call `foedus up`", 2)
    addresses = address or [_answer("Host name or IP address at which they reach this machine")]
    made = _checked(
        CoordinatorConfiguration,
        organizations=[name.strip() for name in organizations.split(",")],
        addresses=addresses,
        port=port,
        chain_url=chain_url,
        chain_id=chain_id,
    )
    issue_server(make_authority(certificates(folder).folder), made.addresses)
    write_configuration(folder, made)
    if as_json:
        print_json({"configuration": str(path), "address": made.address})
    else:
        console.print(f"{path}\nnext: `foedus up`, then `foedus invite NAME` for each", style="")


@init.command()
def organization(
    org: Annotated[str, typer.Option("--org", prompt="Name", help="The organization's name.")],
    data: Annotated[
        str,
        typer.Option(
            prompt="Your records: a .jsonl or .csv by absolute path, hub:NAME, or embedded",
            help="A .jsonl or .csv by absolute path, `hub:NAME` or `embedded`.",
        ),
    ],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write an organization's configuration, and make its keys.

    Example: `foedus init organization --org north --data /srv/reviews.jsonl`
    """
    from client_app.deployment.node import (
        NodeConfiguration,
        node_key_folder,
        node_path,
        write_node,
    )
    from strategies.home import foedus_home
    from strategies.node_key import make_node_key
    from strategies.organization_key import signing_account

    folder = foedus_home(str(home or ""))
    path = node_path(folder, org)
    if path.exists():
        fail(f"{path} is there already: edit it, and call `foedus up`", 2)
    made = _checked(NodeConfiguration, organization=org, data=data)
    account = signing_account(folder, org)
    make_node_key(node_key_folder(folder, org))
    write_node(folder, made)
    if as_json:
        print_json({"configuration": str(path), "address": account.address})
    else:
        console.print(
            f"{path}\nkey {account.address}\nnext: `foedus join INVITATION`", highlight=False
        )


def invite(
    organization: Annotated[str, typer.Argument(help="Whom, by name.")],
    output: Annotated[Path | None, typer.Option(help="Where the invitation goes.")] = None,
    days: Annotated[int, typer.Option(min=1, max=90, help="How long it is taken.")] = 7,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write an invitation for an organization: where to reach us, and a token good for one answer.

    Bring it there by a way that you trust: who reads it can answer in the organization's name. A
    second one for the same organization makes the first void.

    Example: `foedus invite north --output north.json`
    """
    from client_app.deployment.coordinator import certificates, read_coordinator
    from strategies.deployed_members import coordinator_folder
    from strategies.home import foedus_home
    from strategies.invitation import Invitation, Invitations, new_token

    folder = foedus_home(str(home or ""))
    configuration = read_coordinator(folder)
    if organization not in configuration.organizations:
        named = ", ".join(configuration.organizations)
        fail(
            f"{organization!r:.80} is not among the organizations of the configuration: {named}", 2
        )
    invitation = Invitation(
        organization=organization,
        address=configuration.address,
        authority=certificates(folder).authority.read_text(encoding="ascii"),
        chain_id=configuration.chain_id,
        chain_url="" if configuration.managed else configuration.chain_url,
        token=new_token(),
        expires=int(time.time()) + days * _DAY_SECONDS,
    )
    Invitations(coordinator_folder(folder)).note(invitation)
    path = output or Path(f"{organization}-invitation.json")
    invitation.write(path)
    if as_json:
        print_json({"invitation": str(path), "expires": invitation.expires})
    else:
        console.print(
            f"{path}\nnext, at {organization}: `foedus join {path.name}`", highlight=False
        )


def join(
    invitation: Annotated[Path, typer.Argument(help="The file that the coordinator gave you.")],
    data: Annotated[
        str | None, typer.Option(help="Your records, where `foedus init` was not told of them.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Answer an invitation: the coordinator learns your key and your node's, under one signature.

    It is agreed that the application of the Foedus installed here may run, and no other.

    Example: `foedus join north-invitation.json`
    """
    from blockchain.durable_file import write_durably
    from client_app.cli.app_bundle import own_bundle
    from client_app.deployment.door import Door
    from client_app.deployment.node import (
        NodeConfiguration,
        authority_path,
        node_key_folder,
        node_path,
        read_node,
        write_node,
    )
    from strategies.home import foedus_home
    from strategies.invitation import Invitation
    from strategies.joining import Joining
    from strategies.node_key import make_node_key, public_key_of
    from strategies.organization_key import signing_account

    folder, given = foedus_home(str(home or "")), Invitation.read(invitation)
    name = given.organization
    if node_path(folder, name).exists():
        configuration = read_node(folder, name)
    else:
        configuration = _checked(NodeConfiguration, organization=name)
    account = signing_account(folder, name)
    node_key = make_node_key(node_key_folder(folder, name))
    answer = Joining.signed(
        account,
        organization=name,
        node_key=public_key_of(node_key),
        token=given.token,
        chain_id=given.chain_id,
    )
    door = Door(given.address, given.authority)
    said = door.join(answer.model_dump_json())
    write_durably(authority_path(folder), given.authority)
    path = write_node(
        folder,
        configuration.model_copy(
            update={
                "coordinator": given.address,
                "chain_url": given.chain_url,
                "chain_id": given.chain_id,
                "bundles": [own_bundle()],
                **({} if data is None else {"data": data}),
            }
        ),
    )
    if as_json:
        print_json({"configuration": str(path), "node": said.get("node")})
    else:
        console.print(
            f"joined; {path}\nnext, once the coordinator has called `foedus deploy`: `foedus up`",
            highlight=False,
        )


def up(
    org: Organization = None,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground", help="Stay, start again what ends, and end all of it when ended."
        ),
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Start this machine's processes: a coordinator's or an organization's; those that run go on.

    Examples: `foedus up`, `foedus up --foreground`
    """
    from client_app.deployment.coordinator import configuration_path, read_coordinator
    from client_app.deployment.node import read_node
    from client_app.deployment.start_coordinator import start_coordinator
    from client_app.deployment.start_node import start_node
    from strategies.home import foedus_home

    folder = foedus_home(str(home or ""))
    if foreground:
        if as_json:
            fail("--json does not go with --foreground", 2)
        _watch(folder, org)
        return
    if org is None and configuration_path(folder).exists():
        configuration = read_coordinator(folder)
        with progress_console.status("starting") as status:
            started = start_coordinator(folder, configuration, status.update)
        where = f"the door is open at {configuration.address}"
    else:
        name = organization_here(folder, org)
        with progress_console.status("starting") as status:
            started = start_node(folder, read_node(folder, name), status.update)
        where = f"the node of {name} runs"
    if as_json:
        print_json({"started": started})
    else:
        console.print(
            f"{where}; started: {', '.join(started) or 'nothing, all ran'}", highlight=False
        )


def down(org: Organization = None, home: Home = None, as_json: AsJson = False) -> None:
    """Stop this machine's processes; the managed chain comes back from its journal.

    Example: `foedus down`
    """
    from client_app.deployment import start_node
    from client_app.deployment.coordinator import configuration_path
    from client_app.deployment.start_coordinator import stop_coordinator
    from strategies.home import foedus_home

    folder = foedus_home(str(home or ""))
    if org is None and configuration_path(folder).exists():
        stopped = stop_coordinator(folder)
    else:
        stopped = start_node.processes(folder, organization_here(folder, org)).stop()
    if as_json:
        print_json({"stopped": stopped})
    else:
        console.print(f"stopped: {', '.join(stopped) or 'nothing ran'}", highlight=False)


def _answer(question: str) -> str:
    return str(typer.prompt(question, err=True)).strip()


def _watch(home: Path, org: str | None) -> None:
    from client_app.deployment.coordinator import configuration_path, read_coordinator
    from client_app.deployment.node import read_node
    from client_app.deployment.start_coordinator import coordinator_part
    from client_app.deployment.start_node import node_part
    from client_app.deployment.watching import watch

    def tell(line: str) -> None:
        progress_console.print(line, highlight=False, soft_wrap=True)

    if org is None and configuration_path(home).exists():
        part = coordinator_part(home, read_coordinator(home))
    else:
        part = node_part(home, read_node(home, organization_here(home, org)), tell)
    watch(part, tell)


def organization_here(home: Path, org: str | None) -> str:
    """Return the organization named, or the only one whose node is set up here, or end."""
    from client_app.deployment.node import organizations_here

    here = organizations_here(home)
    if org is not None and org in here:
        return org
    if org is not None or not here:
        fail(
            f"{home} is set up neither for a coordinator nor for "
            f"{'an organization' if org is None else org}: `foedus init`",
            2,
        )
    if len(here) > 1:
        fail(f"several organizations have a node here: name one by --org ({', '.join(here)})", 2)
    return here[0]


def _checked(model: "type[Model]", **fields: Any) -> "Model":
    """Make a configuration of what was given, or end as wrong usage does."""
    from pydantic import ValidationError

    try:
        return model(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "together"
        return fail(f"{where}: {first['msg']} (given: {first['input']!r:.80})", 2)
