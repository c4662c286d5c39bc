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
    doctor,
    generation,
    html_report,
    keys,
    leave,
    ledger,
    members,
    privacy,
    receipt,
    rewards,
    run,
    unlearn,
    verification,
)
from client_app.cli.output import report
from client_app.cli.verbosity import speak_up
from client_app.own_errors import own_errors

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
app.command("privacy")(privacy.privacy)
app.command("report")(html_report.report)
app.command("attest")(attest.attest)
app.command("receipt")(receipt.receipt)
app.command("generate")(generation.generate)
app.command("deploy")(chain.deploy)
app.command("invite")(deployment.invite)
app.command("join")(deployment.join)
app.command("up")(deployment.up)
app.command("down")(deployment.down)
app.command("doctor")(doctor.doctor)
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
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Say what goes on: events, transactions; one JSON line each, on standard error.",
        ),
    ] = False,
) -> None:
    if verbose:
        speak_up()


def main() -> None:
    """Run the command; an error that is ours ends as one line, not as a traceback."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _exit)
    try:
        app(standalone_mode=True)
    except Exception as error:
        if not isinstance(error, own_errors()):
            raise
        report(str(error))
        sys.exit(2 if type(error).__name__ == "SettingsError" else 1)


def _exit(number: int, _: FrameType | None) -> None:
    # As an exception, so that what the command started is stopped on the way out.
    sys.exit(128 + number)
