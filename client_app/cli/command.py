"""``foedus``: the command itself, and how its errors end."""

import importlib.metadata
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from client_app.cli import (
    agent,
    attest,
    chain,
    challenge,
    deployment,
    generation,
    keys,
    leave,
    ledger,
    members,
    receipt,
    rewards,
    run,
    unlearn,
    verification,
)
from client_app.cli.output import report

app = typer.Typer(
    name="foedus",
    help="Federated fine-tuning of language models, publicly auditable.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("run")(run.run)
app.command("verify")(verification.verify)
app.command("attest")(attest.attest)
app.command("receipt")(receipt.receipt)
app.command("generate")(generation.generate)
app.command("deploy")(chain.deploy)
app.command("invite")(deployment.invite)
app.command("join")(deployment.join)
app.command("up")(deployment.up)
app.command("down")(deployment.down)
app.command("leave")(leave.leave)
app.add_typer(deployment.init, name="init")
app.add_typer(members.app, name="members")
app.add_typer(chain.app, name="chain")
app.add_typer(challenge.app, name="challenge")
app.add_typer(rewards.app, name="rewards")
app.add_typer(keys.app, name="keys")
app.add_typer(ledger.app, name="ledger")
app.add_typer(agent.app, name="agent")
app.add_typer(unlearn.app, name="unlearn")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"foedus {importlib.metadata.version('foedus')}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command; an error that is ours ends as one line, not as a traceback."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _exit)
    try:
        app(standalone_mode=True)
    except Exception as error:
        if not isinstance(error, _expected_errors()):
            raise
        report(str(error))
        sys.exit(2 if type(error).__name__ == "SettingsError" else 1)


def _exit(number: int, _: FrameType | None) -> None:
    # As an exception, so that what the command started is stopped on the way out.
    sys.exit(128 + number)


def _expected_errors() -> tuple[type[Exception], ...]:
    # Looked up only when something was raised: importing these costs seconds.
    from blockchain.errors import ChainError
    from blockchain.private.errors import LedgerError
    from client_app.agent.agent_file import AgentError
    from client_app.cli.local_superlink import SuperLinkError
    from client_app.deployment.certificates import CertificateError
    from client_app.deployment.commented_toml import ConfigurationError
    from client_app.deployment.door import DoorError
    from client_app.deployment.processes import ProcessError
    from client_app.deployment.start_node import NotReadyError
    from client_app.key_rotation import RotationError
    from client_app.leaving import LeavingError
    from client_app.own_requests import RequestError
    from llm.adapters import AdapterError
    from llm.cached_folder import CacheError
    from llm.model_source import BaseModelError
    from llm.registry import RegistryError
    from llm.rows import DataError
    from strategies.challenges import ChallengeError
    from strategies.deployed_members import MembersError
    from strategies.invitation import InvitationError
    from strategies.joined import JoinedError
    from strategies.membership_change import ChangeError
    from strategies.node_key import NodeKeyError
    from strategies.run_archive import ArchiveError
    from strategies.settings import SettingsError

    return (
        ChainError,
        LedgerError,
        SuperLinkError,
        CertificateError,
        ConfigurationError,
        DoorError,
        ProcessError,
        NotReadyError,
        MembersError,
        InvitationError,
        JoinedError,
        LeavingError,
        NodeKeyError,
        ChangeError,
        AdapterError,
        AgentError,
        BaseModelError,
        CacheError,
        ChallengeError,
        DataError,
        RegistryError,
        RequestError,
        RotationError,
        ArchiveError,
        SettingsError,
    )
