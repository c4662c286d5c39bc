"""Experiments on the real model: ``python -m benchmarks.experiments run robustness --seed 42``."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.experiments.measured import cells_of
from benchmarks.experiments.studies import STUDIES, Named
from benchmarks.experiments.tables import tables_of
from benchmarks.experiments.worker import begin, measured
from benchmarks.provenance import RESULTS
from benchmarks.results_file import ResultsFile, key_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command; return 0."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    for study in options.study:
        results = ResultsFile(options.output / f"{study}.json")
        if options.command == "show":
            for sheet in tables_of(study, cells_of(study, results.read())):
                Console(width=options.width).print(sheet.to_rich())
            continue
        named = [
            (name, experiment)
            for seed in options.seed
            for name, experiment in STUDIES[study](seed)
            if all(part in name for part in options.only)
        ]
        there = results.read()["cells"]
        missing = [one for one in named if key_of(one[0], one[1].digest) not in there]
        console.print(f"{study}: {len(named)} experiments, {len(missing)} missing")
        if options.command == "run":
            _run(missing, results, options.processes, console)
    return 0


def _run(missing: Sequence[Named], results: ResultsFile, processes: int, console: Console) -> None:
    """Carry out experiments, each stored as soon as it is done."""
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*bars, TimeRemainingColumn(), console=console) as progress,
        # Not forked: threads that torch has started would be missing there.
        ProcessPoolExecutor(processes, get_context("spawn"), initializer=begin) as pool,
    ):
        line = progress.add_task("experiments", total=len(missing))
        waiting = {pool.submit(measured, one): (name, one) for name, one in missing}
        for future in as_completed(waiting):
            name, experiment = waiting[future]
            cell = {"name": name, **future.result()}
            results.put(experiment.digest, experiment.inputs, cell)
            progress.console.print(
                f"{name}: {_came_to(cell['rounds'][-1])}, {cell['seconds']:.0f} s", highlight=False
            )
            progress.advance(line)


def _came_to(last: Mapping[str, Any]) -> str:
    """Say in short what the last round came to; texts have no right answer."""
    for figure in ("accuracy", "loss"):
        if (value := last[figure]) is not None:
            return f"{figure} {value:.3f}"
    return "no numbers"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "carry out the experiments that are missing"),
        ("list", "say how many there are and are missing"),
        ("show", "print the tables of what was measured"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("study", nargs="+", choices=list(STUDIES))
        command.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
        if name == "show":
            command.add_argument("--width", type=int, help="of what is printed, characters")
            continue
        command.add_argument("--seed", nargs="+", type=int, default=[42])
        command.add_argument(
            "--only", nargs="+", default=[], metavar="PART", help="names that hold all of these"
        )
        command.add_argument("--processes", type=int, default=2, help="at once, one core each")
    return parser


if __name__ == "__main__":
    sys.exit(main())
