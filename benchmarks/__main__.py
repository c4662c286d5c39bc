"""Runs the benchmarks, one after the other, each in a process of its own; goes on where it was.

    python -m benchmarks [--list] [--again] [--only PART ...]

What was done is noted in the cache under a hash of its inputs: the command, and the sources of the
benchmark. A command that keeps its own cells (experiments, unlearning) is called in any case, and
does what is missing.
"""

import argparse
import hashlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from strategies.home import cache_folder, foedus_home
from strategies.run_archive import read_json, write_json

_FOLDER: Final = Path(__file__).parent
_SEEDS: Final = ("--seed", "42", "43", "44")


@dataclass(frozen=True)
class Benchmark:
    """A command that measures something.

    Parameters
    ----------
    module : str
        As Python names it.
    arguments : tuple of str
        What it is given.
    resumes : bool
        Whether it keeps its own cells, and does what is missing.
    """

    module: str
    arguments: tuple[str, ...] = ()
    resumes: bool = False

    @property
    def command(self) -> str:
        """As one would type it."""
        return shlex.join(["python", "-m", self.module, *self.arguments])

    @property
    def digest(self) -> str:
        """Hash of the command and of the benchmark's sources, hexadecimal."""
        path = _FOLDER.joinpath(*self.module.split(".")[1:])
        sources = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        hashed = hashlib.sha256(self.command.encode())
        for source in sources:
            hashed.update(source.read_bytes())
        return hashed.hexdigest()[:16]


BENCHMARKS: Final = (
    # One seed to screen, three of what something is claimed.
    *(
        Benchmark("benchmarks.experiments", ("run", study, "--seed", "42"), resumes=True)
        for study in ("together", "rules", "robustness", "privacy")
    ),
    Benchmark("benchmarks.experiments", ("run", "together", *_SEEDS), resumes=True),
    *(
        Benchmark("benchmarks.experiments", ("run", study, "--only", part, *_SEEDS), resumes=True)
        for study, part in (
            ("rules", "ffa/"),
            ("rules", "fedit/"),
            ("rules", "flora/"),
            ("rules", "accumulators/"),
            ("robustness", "ffa/"),
            ("robustness", "flipped-labels x2"),
            ("privacy", "label/"),
        )
    ),
    Benchmark("benchmarks.chain_scale"),
    Benchmark("benchmarks.growth"),
    Benchmark("benchmarks.coordinator"),
    Benchmark("benchmarks.aggregation"),
    Benchmark("benchmarks.training_throughput", ("--threads", "1")),
    Benchmark("benchmarks.contributions"),
    Benchmark("benchmarks.ledger"),
    Benchmark("benchmarks.participation.study"),
    Benchmark("benchmarks.participation.luck"),
    Benchmark("benchmarks.demo"),
    Benchmark("benchmarks.results_page", resumes=True),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing; return 1 if something failed, 130 if it was stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--list", action="store_true", help="say what was done, and run nothing")
    parser.add_argument("--again", action="store_true", help="run what was done as well")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="of a command")
    options = parser.parse_args(arguments)
    notes = cache_folder(foedus_home()) / "bench"
    chosen = [one for one in BENCHMARKS if all(part in one.command for part in options.only)]
    console = Console(stderr=True)
    if options.list:
        Console().print(_listed(chosen, notes))
        return 0
    failed = []
    for number, benchmark in enumerate(chosen, start=1):
        note = notes / f"{benchmark.digest}.json"
        if note.exists() and not benchmark.resumes and not options.again:
            console.print(f"[{number}/{len(chosen)}] {benchmark.command}: was done", markup=False)
            continue
        console.print(f"[{number}/{len(chosen)}] {benchmark.command}", markup=False)
        started = time.monotonic()
        command = [sys.executable, "-m", benchmark.module, *benchmark.arguments]
        try:
            ended = subprocess.run(command, check=False, cwd=_FOLDER.parent)
        except KeyboardInterrupt:
            console.print(f"stopped: called again, goes on with {benchmark.command}", markup=False)
            return 130
        if ended.returncode:
            failed.append(benchmark.command)
            continue
        notes.mkdir(parents=True, exist_ok=True)
        seconds = round(time.monotonic() - started)
        write_json(note, {"command": benchmark.command, "seconds": seconds})
    for command in failed:
        console.print(f"failed: {command}", style="red", markup=False)
    return 1 if failed else 0


def _listed(chosen: Sequence[Benchmark], notes: Path) -> Table:
    table = Table("command", "state", "seconds")
    for benchmark in chosen:
        note = notes / f"{benchmark.digest}.json"
        if note.exists():
            table.add_row(benchmark.command, "done", f"{read_json(note)['seconds']:,}")
        else:
            table.add_row(benchmark.command, "missing", "")
    return table


if __name__ == "__main__":
    sys.exit(main())
