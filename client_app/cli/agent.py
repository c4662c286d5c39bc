"""``foedus agent``: what an organization's participation agent decided, and what that brought."""

from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from client_app.cli.chosen import settings_at
from client_app.cli.ledger_member import MemberKey, Organization, one_organization, opened_ledger
from client_app.cli.output import AsJson, Home, console, fail, print_json

app = typer.Typer(
    help="An organization's participation agent: its decisions, and what it learned from them.",
    no_args_is_help=True,
)


@app.command()
def show(
    organization: Organization = None,
    last: Annotated[int, typer.Option(min=1, help="How many decisions, the newest.")] = 20,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show an agent's decisions, and what each has brought so far, from the private ledger.

    Example: `foedus agent show --org shop`
    """
    from client_app.agent.decision_lines import decision_lines
    from client_app.agent.own_agent import agent_records, read_records

    settings = settings_at(home)
    name = one_organization(settings, organization)
    with opened_ledger(settings, name, member) as ledger:
        records = read_records(ledger, agent_records(ledger))
    lines = decision_lines(records)[-last:]
    if as_json:
        print_json({"organization": name, "decisions": lines})
        return
    table = Table(
        title=f"Agent of {name}: the last {len(lines)} decisions, in gwei",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    for heading in ("record", "round", "state", "chose", "prob."):
        table.add_column(heading, no_wrap=True)
    for heading in ("tokens", "cost", "paid", "reward"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        waiting = line["reward"] is None
        table.add_row(
            str(line["record"]),
            str(line["round"]),
            ",".join(map(str, line["state"])),
            line["action"],
            f"{line['probability']:.2f}",
            f"{line['tokens']:,}",
            f"{line['cost_gwei']:,}",
            "waiting" if waiting else f"{int(line['paid_wei']) // 10**9:,}",
            "" if waiting else f"{line['reward']:+.2f}",
        )
    console.print(table)


@app.command()
def verify(
    organization: Organization = None,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make the agent again from its private ledger alone, and compare it with its file.

    Each decision is decided again, each reward computed and learned again, bit for bit.

    Example: `foedus agent verify --org shop`
    """
    from client_app.agent.action_space import ActionSpace
    from client_app.agent.agent_file import AgentError, load_agent
    from client_app.agent.own_agent import AGENT_FILE, agent_records, read_records
    from client_app.agent.replay import differences, replayed
    from strategies.home import organization_folder

    settings = settings_at(home)
    name = one_organization(settings, organization)
    space = ActionSpace(settings.effort)
    path = organization_folder(settings.home_path, name) / AGENT_FILE
    with opened_ledger(settings, name, member) as ledger:
        records = read_records(ledger, agent_records(ledger))
        try:
            made = replayed(records, space, ledger.history.ledger.hex())
            kept = load_agent(path, space)
            wrong = differences(kept, made)
        except AgentError as error:
            wrong = [str(error)]
    if as_json:
        print_json(
            {"organization": name, "records": len(records), "holds": not wrong, "wrong": wrong}
        )
    elif not wrong:
        console.print(
            f"{name}: {len(records)} records replayed, the agent is what they make", highlight=False
        )
    else:
        for line in wrong:
            console.print(f"{name}: {line}", markup=False, highlight=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


@app.command()
def learn(organization: Organization = None, home: Home = None, as_json: AsJson = False) -> None:
    """Claim what can be claimed for decisions that wait, and learn from what arrived.

    A run does so at every message; this is for what becomes final after it.

    Example: `foedus agent learn --org shop`
    """
    from client_app.participation import Participation
    from strategies.run_accounts import organization_chain
    from strategies.run_chain import open_reading_chain

    settings = settings_at(home)
    name = one_organization(settings, organization)
    reading = open_reading_chain(settings)
    participation = Participation(
        settings, name, reading, lambda: organization_chain(settings, reading, name)
    )
    with opened_ledger(settings, name, "signing") as ledger:
        numbers = participation.learn(ledger)
        waiting = len(participation.agent(ledger).state.open)
    if as_json:
        print_json({"organization": name, "learned": numbers, "waiting": waiting})
        return
    console.print(
        f"{name}: {len(numbers)} decisions learned from, {waiting} wait for what they bring",
        highlight=False,
    )


@app.command()
def reset(
    organization: Organization = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Begin a new agent: the old one stays in the private ledger, and learns no more.

    Needed where the newest run's terms have other actions than the agent learned for.

    Example: `foedus agent reset --org shop`
    """
    from client_app.agent.action_space import ActionSpace
    from client_app.agent.agent_start import agent_start
    from client_app.agent.own_agent import begin_anew
    from strategies.home import organization_folder

    settings = settings_at(home)
    name = one_organization(settings, organization)
    if not yes and not typer.confirm(f"begin a new agent of {name}?"):
        fail("nothing was changed")
    space = ActionSpace(settings.effort)
    start = agent_start(space, seed=settings.seed, organization=name)
    with opened_ledger(settings, name, "signing") as ledger:
        begin_anew(organization_folder(settings.home_path, name), ledger, space, start)
    if as_json:
        print_json({"organization": name, "fingerprint": space.fingerprint().hex()})
        return
    console.print(f"{name} has a new agent, for the efforts of the newest run", highlight=False)
