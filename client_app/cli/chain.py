"""``foedus chain`` and ``foedus deploy``: the managed node and the contracts on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from client_app.cli.output import AsJson, Home, console, print_json, shown_time

if TYPE_CHECKING:
    from blockchain.managed_node import ManagedNode

app = typer.Typer(help="The managed chain, on this machine.", no_args_is_help=True)


@app.command()
def start(home: Home = None, as_json: AsJson = False) -> None:
    """Start the node, unless it runs.

    Example: `foedus chain start`
    """
    _node(home).start()
    status(home, as_json)


@app.command()
def stop(home: Home = None, as_json: AsJson = False) -> None:
    """Stop the node. The next start brings the chain back from its journal.

    Example: `foedus chain stop`
    """
    stopped = _node(home).stop()
    if as_json:
        print_json({"stopped": stopped})
    else:
        console.print("stopped" if stopped else "no managed node was running")


@app.command()
def status(home: Home = None, as_json: AsJson = False) -> None:
    """Say whether the node runs, and where; how far the newest run is sealed and final; balances.

    Exit status 1 if the node does not run.

    Example: `foedus chain status --json`
    """
    now = _node(home).status()
    standing = _standing(home) if now.running else None
    if as_json:
        print_json(
            {
                "running": now.running,
                "rpc_url": now.rpc_url,
                "pid": now.pid,
                "block": now.block_number,
                "log": str(now.log),
                "standing": standing,
            }
        )
    elif now.running:
        console.print(f"running at {now.rpc_url}, block {now.block_number}, process {now.pid}")
        if standing is not None:
            _print_standing(standing)
    else:
        console.print("not running; `foedus chain start` starts it")
    if not now.running:
        raise typer.Exit(1)


def _standing(home: Path | None) -> "dict[str, Any] | None":
    """Return where the newest run, pausing and the coordinator's balance stand; None unknown."""
    from blockchain.errors import ChainError
    from client_app.cli.chosen import settings_of
    from strategies.chain_standing import chain_standing
    from strategies.run_archive import ArchiveError, newest_run
    from strategies.run_chain import open_reading_chain
    from strategies.settings import RunSettings, SettingsError

    try:
        archive = newest_run(_home(home))
        settings = RunSettings(home=str(_home(home)))
        if archive is not None and "settings" in archive.read_run():
            settings = settings_of(archive)
        # Nothing deployed yet is no news to somebody who asks for the node.
        chain = open_reading_chain(settings)
        return chain_standing(chain, settings, archive).to_json()
    except (ChainError, ArchiveError, SettingsError):
        return None


def _print_standing(standing: "dict[str, Any]") -> None:
    run = standing["run"]
    if run is not None:
        console.print(
            f"run {run['name']}: sealed up to round {run['last_sealed']}, final up to round "
            f"{run['last_final']}"
            + (
                f"; round {run['next_final']} at the earliest {shown_time(run['final_from'])}"
                if run["final_from"] is not None
                else ""
            ),
            highlight=False,
            soft_wrap=True,
        )
    if standing["paused"]:
        console.print("opening rounds is paused")
    balance = standing["coordinator"]
    if balance is not None:
        console.print(f"coordinator: {int(balance['wei']) / 1e18:.6g} ether", highlight=False)
        if balance["low"]:
            console.print("[yellow]warning:[/] that is little: send it some")


def deploy(home: Home = None, as_json: AsJson = False) -> None:
    """Deploy the contracts, or say where they are.

    On separate machines the organizations found the registry with it, once all have joined.

    Example: `foedus deploy`
    """
    from client_app.cli.chosen import settings_told
    from strategies.run_chain import open_writing_chain

    chain = open_writing_chain(settings_told(_home(home)))
    if as_json:
        print_json({"contracts": {"Rounds": chain.address}})
    else:
        console.print(f"Rounds is at {chain.address}")


def _home(home: Path | None) -> Path:
    from strategies.home import foedus_home

    return foedus_home(str(home or ""))


def _node(home: Path | None) -> "ManagedNode":
    from blockchain.managed_node import ManagedNode

    return ManagedNode(_home(home))
