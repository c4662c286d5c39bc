"""A private ledger's speed and size: durable appends, verification, opening and proofs.

    python -m benchmarks.ledger [--sizes 1000,10000,31600,100000] [--folder FOLDER]

One ledger is filled with training runs, in blocks of 100, up to each size in turn. At each it is
opened, audited by a member (who opens every payload), and inclusion proofs of records drawn at
random are made and verified. Appends are measured beside what the disk itself does: an
``fsync`` after 4 KiB, and a commit of bare SQLite with the same settings. The figures of one run
belong together: another machine, or another load, has another floor.
"""

import argparse
import math
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.provenance import RESULTS, provenance
from blockchain.private.audit import audit
from blockchain.private.drafts import Draft
from blockchain.private.files import LEDGER_FILE, SECRETS_FILE
from blockchain.private.ledger import Ledger
from blockchain.transparency_log import verify_inclusion
from strategies.run_archive import write_json
from tests.ledger_cases import OPERATOR, found_ledger, training_run

OUTPUT: Final = RESULTS / "ledger.json"
SIZES: Final = "1000,10000,31600,100000"
BLOCK: Final = 100
#: Repetitions of what is written, and of proofs.
COMMITS: Final = 300
PROOFS: Final = 1000

#: What is drawn: figure, name, and how it is to grow.
CURVES: Final = (
    ("verify_seconds", "verification, every payload opened", "n"),
    ("open_seconds", "opening", "n"),
    ("prove_seconds", "making an inclusion proof", "log n"),
    ("check_seconds", "verifying an inclusion proof", "log n"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=SIZES, help=f"records, ascending (default {SIZES})")
    parser.add_argument("--folder", type=Path, help="where to write; its disk is measured")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        appends = measure_appends(Path(name))
        rows = measure_sizes(Path(name) / "grown", sizes)
    result = {
        **provenance(
            f"python -m benchmarks.ledger --sizes {options.sizes}",
            *("sqlalchemy", "cryptography", "pydantic", "coincurve"),
        ),
        "sqlite": sqlite3.sqlite_version,
        "appends": appends,
        "records_per_block": BLOCK,
        "rows": rows,
    }
    write_json(options.output, result)
    draw(rows, options.output.with_suffix(".png"))
    show(result)


# Appends


def measure_appends(folder: Path) -> dict[str, float]:
    """Time single appends and blocks of them, in turns with the disk's own floor."""
    seconds: dict[str, list[float]] = {"fsync": [], "sqlite": [], "alone": [], "block": []}
    with (
        Ledger(found_ledger(folder / "appends"), OPERATOR) as ledger,
        (folder / "file").open("wb", buffering=0) as file,
    ):
        bare = bare_sqlite(folder / "bare.sqlite")

        def synced() -> None:
            file.write(bytes(4096))
            os.fsync(file.fileno())

        def committed() -> None:
            bare.execute("BEGIN IMMEDIATE")
            bare.execute("INSERT INTO leaves (leaf) VALUES (?)", (os.urandom(512),))
            bare.execute("COMMIT")

        for number in track(range(COMMITS), "Appending", console=Console(stderr=True)):
            seconds["fsync"].append(timed(synced))
            seconds["sqlite"].append(timed(committed))
            draft = Draft(payload=training_run(number))
            seconds["alone"].append(timed(lambda draft=draft: ledger.append(draft)))
            if number % 10 == 0:
                drafts = drafted(number, BLOCK)
                seconds["block"].append(timed(lambda drafts=drafts: ledger.append(*drafts)))
        bare.close()
    alone, block = median(seconds["alone"]), median(seconds["block"])
    return {
        "fsync_4k_per_second": 1 / median(seconds["fsync"]),
        "sqlite_commits_per_second": 1 / median(seconds["sqlite"]),
        "alone_per_second": 1 / alone,
        "in_blocks_per_second": BLOCK / block,
        "alone_in_fsyncs": alone / median(seconds["fsync"]),
        "alone_in_sqlite_commits": alone / median(seconds["sqlite"]),
    }


def bare_sqlite(path: Path) -> sqlite3.Connection:
    """Open a file with the settings of a ledger's, and one table."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("CREATE TABLE leaves (record INTEGER PRIMARY KEY, leaf BLOB)")
    return connection


def drafted(first: int, count: int) -> list[Draft]:
    return [Draft(payload=training_run(first + n)) for n in range(count)]


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


# Sizes


def measure_sizes(folder: Path, sizes: list[int]) -> list[dict[str, Any]]:
    """Fill a ledger up to each size, and measure it there."""
    found_ledger(folder)
    rows = []
    for size in sizes:
        started = time.perf_counter()
        with Ledger(folder, OPERATOR) as ledger:
            there = ledger.history.size
            starts = range(there, size, BLOCK)
            for first in track(starts, f"Filling to {size:,}", console=Console(stderr=True)):
                ledger.append(*drafted(first, min(BLOCK, size - first)))
            # With nothing left in the write-ahead logs.
            ledger.files.ledger.checkpoint()
            ledger.files.secrets.checkpoint()
        filled = time.perf_counter() - started
        rows.append({"records": size, "fill_seconds": filled, **measure(folder, size)})
        Console(stderr=True).print(rows[-1])
    return rows


def measure(folder: Path, size: int) -> dict[str, Any]:
    """Open and verify a ledger, and prove records of it."""
    opened = [timed(lambda: Ledger(folder, OPERATOR).close()) for _ in range(repeats(size))]
    verified = [timed(lambda: audit(folder, OPERATOR)) for _ in range(repeats(size))]
    with Ledger(folder, OPERATOR) as ledger:
        tree = ledger.history.tree
        leaves = [leaf.encoded() for leaf in ledger.leaves()]
    root, numbers = tree.root(), random.Random(size).choices(range(size), k=PROOFS)  # noqa: S311
    proofs = []
    for number in numbers:
        proof, leaf = tree.inclusion_proof(number), leaves[number]
        if not verify_inclusion(leaf, number, size, root, proof):
            raise RuntimeError(f"the proof of record {number} of {size} does not hold")
        made = fastest(lambda number=number: tree.inclusion_proof(number))
        checked = fastest(
            lambda leaf=leaf, number=number, proof=proof: verify_inclusion(
                leaf, number, size, root, proof
            )
        )
        proofs.append((made, checked, len(proof)))
    ledger_bytes = (folder / LEDGER_FILE).stat().st_size
    secrets_bytes = (folder / SECRETS_FILE).stat().st_size
    return {
        "open_seconds": min(opened),
        "verify_seconds": min(verified),
        "verified_per_second": size / min(verified),
        "prove_seconds": median(made for made, _, _ in proofs),
        "check_seconds": median(checked for _, checked, _ in proofs),
        "proof_hashes": fmean(length for _, _, length in proofs),
        "longest_proof": max(length for _, _, length in proofs),
        "ledger_bytes_per_record": ledger_bytes / size,
        "secrets_bytes_per_record": secrets_bytes / size,
    }


def fastest(call: Callable[[], object]) -> float:
    """Time what takes microseconds: the fastest of some counts, undisturbed by all else."""
    return min(timed(call) for _ in range(10))


def repeats(size: int) -> int:
    """How often something that takes time in proportion is done; the fastest counts."""
    return 3 if size <= 10_000 else 1


# What is shown


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw time against size, both logarithmic, each with the line of how it is to grow."""
    mpl.use("Agg")
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    sizes = [row["records"] for row in rows]
    growth: dict[str, Callable[[int], float]] = {"n": float, "log n": math.log2}
    for figures, name, kind in CURVES:
        values = [row[figures] for row in rows]
        [line] = axes.loglog(sizes, values, "o-", label=name)
        # Through the largest, where what does not grow counts least.
        scale = values[-1] / growth[kind](sizes[-1])
        expected = [scale * growth[kind](size) for size in sizes]
        axes.loglog(sizes, expected, "--", color=line.get_color(), alpha=0.6, label=f"~ {kind}")
    axes.set_xlabel("records in the ledger")
    axes.set_ylabel("seconds")
    axes.set_title("Private ledger: time against size")
    axes.grid(which="both", alpha=0.25)
    axes.legend(fontsize="small", ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def show(result: dict[str, Any]) -> None:
    """Print the figures."""
    appends = result["appends"]
    table = Table("durable writes", "per second", title="appends, in turns with the floor")
    table.add_row("fsync after 4 KiB", f"{appends['fsync_4k_per_second']:,.0f}")
    table.add_row("commit of bare SQLite", f"{appends['sqlite_commits_per_second']:,.0f}")
    table.add_row("records, one in a block", f"{appends['alone_per_second']:,.0f}")
    table.add_row(f"records, {BLOCK} in a block", f"{appends['in_blocks_per_second']:,.0f}")
    title = "against size: seconds; records a second; us and hashes a proof; bytes a record"
    scaling = Table(title=title)
    headings = ("records", "open", "verify", "a second", "prove", "check", "hashes")
    for heading in (*headings, "ledger", "secrets"):
        scaling.add_column(heading, justify="right", no_wrap=True)
    for row in result["rows"]:
        scaling.add_row(
            f"{row['records']:,}",
            f"{row['open_seconds']:.2f}",
            f"{row['verify_seconds']:.2f}",
            f"{row['verified_per_second']:,.0f}",
            f"{row['prove_seconds'] * 1e6:.1f}",
            f"{row['check_seconds'] * 1e6:.1f}",
            f"{row['proof_hashes']:.2f}",
            f"{row['ledger_bytes_per_record']:.0f}",
            f"{row['secrets_bytes_per_record']:.0f}",
        )
    Console().print(table, scaling, sep="\n")


if __name__ == "__main__":
    main()
