"""What every subcommand prints alike: JSON on demand, errors as one line, exit statuses.

0 when it holds, 1 when a check or a run fails, 2 on wrong usage.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

#: What people read goes to standard output unless ``--json`` claims it; progress never does.
console = Console()
progress_console = Console(stderr=True)

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of everything a run writes.", envvar="FOEDUS_HOME"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def print_json(value: Any) -> None:
    """Print one JSON value."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def shown_time(seconds: int) -> str:
    """Return a second since the epoch as people read it, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def report(message: str) -> None:
    """Print an error as one line to standard error."""
    Console(stderr=True, soft_wrap=True).print(
        f"foedus: {message}", style="red", markup=False, highlight=False
    )


def fail(message: str, status: int = 1) -> NoReturn:
    """Print an error as one line to standard error and exit."""
    report(message)
    raise typer.Exit(status)
