"""Time, memory and bytes of a run as organizations become more.

    python -m benchmarks.growth [--sizes 2,4,8,16]

`foedus run` on the real model, one domain's rows split among the organizations: each trains as much
whatever their number, in turn on this machine, as Flower's simulation does it. On machines of their
own they train side by side: what grows there is the coordinator's and the attestors' part.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.memory import watched
from benchmarks.provenance import RESULTS, provenance
from strategies.home import cache_folder, foedus_home
from strategies.run_archive import newest_run, write_json

OUTPUT: Final = RESULTS / "growth.json"
SIZES: Final = "2,4,8,16"
ROUNDS: Final = 2
RECORDS: Final = 32
#: Rows that attestors and organizations evaluate on: as many as they train on.
VALIDATION: Final = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=SIZES, help=f"organizations (default {SIZES})")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    rows = []
    for size in [int(part) for part in options.sizes.split(",")]:
        rows.append(measure(size))
        Console(stderr=True).print(rows[-1])
    write_json(
        options.output,
        {
            **provenance(f"python -m benchmarks.growth --sizes {options.sizes}", "torch", "flwr"),
            "rounds": ROUNDS,
            "records_per_round": RECORDS,
            "validation_records": VALIDATION,
            "rows": rows,
        },
    )
    show(rows)


def measure(size: int) -> dict[str, Any]:
    """Run a federation of so many organizations in a home of its own."""
    home = Path(tempfile.mkdtemp(prefix="foedus-growth-"))
    config = {
        "organizations": ",".join(f"cinema-{number}" for number in range(1, size + 1)),
        "data": "embedded:cinema",
        "partition": "iid",
        "rounds": ROUNDS,
        "records-per-round": RECORDS,
        "participation": "always",
        "public-validation-records": VALIDATION,
        "validation-records": VALIDATION,
    }
    settings = [f"--run-config={key}={json.dumps(value)}" for key, value in config.items()]
    environment = {
        **os.environ,
        "FOEDUS_HOME": str(home),
        "FOEDUS_CACHE": str(cache_folder(foedus_home())),
    }
    command = [str(Path(sys.executable).parent / "foedus"), "run", "--json", *settings]
    try:
        done = watched(command, home, environment, home, keep_output=True)
        archive = newest_run(home)
        if done.status or archive is None:
            sys.exit(f"a run of {size} organizations failed with status {done.status}")
        summary = json.loads(done.output)
        records = [archive.record(number) for number in range(1, ROUNDS + 1)]
        return {
            "organizations": size,
            "peak_memory_gib": done.peak_bytes / 2**30,
            "seconds": summary["seconds"],
            "waited_seconds": sum(one["seconds"]["waited"] for one in records) / ROUNDS,
            "aggregated_seconds": sum(one["seconds"]["aggregated"] for one in records) / ROUNDS,
            "gas_used": summary["chain"]["gas_used"],
            "updates_mib": size_of(archive.folder / "updates") / ROUNDS / 2**20,
            "rounds_mib": size_of(archive.folder / "rounds") / (ROUNDS + 1) / 2**20,
        }
    finally:
        stop(environment)
        shutil.rmtree(home)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def stop(environment: dict[str, str]) -> None:
    """Stop the managed chain of the home."""
    command = [str(Path(sys.executable).parent / "foedus"), "chain", "stop"]
    watched(command, Path.cwd(), environment, Path(environment["FOEDUS_HOME"]), keep_output=True)


def show(rows: list[dict[str, Any]]) -> None:
    """Print what a round takes."""
    table = Table(
        "organizations", "replies, s", "train, s", "attest, s", "chain, s", "aggregate, s"
    )
    table.add_column("peak, GiB")
    table.add_column("updates a round, MiB")
    for row in rows:
        seconds = row["seconds"]
        table.add_row(
            str(row["organizations"]),
            f"{row['waited_seconds']:.1f}",
            *(f"{seconds[name] / ROUNDS:.1f}" for name in ("train", "attest", "chain")),
            f"{row['aggregated_seconds']:.2f}",
            f"{row['peak_memory_gib']:.2f}",
            f"{row['updates_mib']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
