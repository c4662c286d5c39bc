"""``foedus chain`` and ``foedus deploy``: the managed node and the contracts on it."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from client_app.cli.output import AsJson, Home, console, print_json

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
    """Say whether the node runs, and where. Exit status 1 if it does not.

    Example: `foedus chain status --json`
    """
    now = _node(home).status()
    if as_json:
        print_json(
            {
                "running": now.running,
                "rpc_url": now.rpc_url,
                "pid": now.pid,
                "block": now.block_number,
                "log": str(now.log),
            }
        )
    elif now.running:
        console.print(f"running at {now.rpc_url}, block {now.block_number}, process {now.pid}")
    else:
        console.print("not running; `foedus chain start` starts it")
    if not now.running:
        raise typer.Exit(1)


def deploy(home: Home = None, as_json: AsJson = False) -> None:
    """Deploy the contracts to the managed chain, or say where they are.

    Example: `foedus deploy`
    """
    from strategies.run_chain import open_writing_chain
    from strategies.settings import RunSettings

    chain = open_writing_chain(RunSettings(home=str(_home(home))))
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
