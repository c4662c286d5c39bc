"""All tables of a file of results, printed and written down."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.sheets import Sheet
from benchmarks.unlearning.groups import Group, groups_of
from benchmarks.unlearning.speed import deep_sheet, exact_sheet, speed_sheet
from benchmarks.unlearning.tables import (
    judgement_sheet,
    leak_sheet,
    measured_sheet,
    missing_sheet,
)
from blockchain.durable_file import write_durably
from unlearning.verification.equivalence import DRAWS


def sheets_of(results: Mapping[str, Any], *, draws: int = DRAWS) -> list[Sheet]:
    """Return all tables: they depend on the file and on nothing else.

    Parameters
    ----------
    results : mapping
        As :meth:`ResultsFile.read` gives it.
    draws : int, optional
        Resamples of each interval.
    """
    return [sheet for group in groups_of(results) for sheet in _of_group(group, draws)]


def _of_group(group: Group, draws: int) -> list[Sheet]:
    always = [
        judgement_sheet(group, draws=draws),
        measured_sheet(group),
        leak_sheet(group),
        speed_sheet(group),
    ]
    where_any = [exact_sheet(group), deep_sheet(group), missing_sheet(group)]
    return [*always, *(sheet for sheet in where_any if sheet.rows)]


def report(results: Mapping[str, Any], path: Path, console: Console) -> None:
    """Print all tables, and write them down beside the file.

    Parameters
    ----------
    results : mapping
        As :meth:`ResultsFile.read` gives it.
    path : Path
        The document, Markdown.
    console : Console
        Where to print.
    """
    sheets = sheets_of(results)
    for sheet in sheets:
        console.print(sheet.to_rich())
    settings = [
        f"- {digest}: `{json.dumps(found, sort_keys=True)}`"
        for digest, found in sorted(results["settings"].items())
    ]
    head = "## Unlearning: tables\n\nWritten by `python -m benchmarks.unlearning report`.\n\n"
    parts = [head + "Settings:\n\n" + "\n".join(settings) + "\n"]
    write_durably(path, "\n".join([*parts, *(sheet.to_markdown() for sheet in sheets)]))
