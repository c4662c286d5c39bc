"""Writers of a private ledger, killed at random moments: what they had acknowledged must be there.

    python -m benchmarks.ledger_soak [--kills 200] [--seed 1]

Each writer is a process of its own, which writes records and blocks of them, commits to data sets
and erases payloads until it is killed (SIGKILL) within 0.6 seconds of its start. After each kill
the ledger is opened as it is, and audited; after every 25 kills each record that a writer had
acknowledged is looked for and opened, and a new ledger is begun. Exits with 1 if one is lost, if an
erasure that was acknowledged did not happen, or if a ledger does not open or does not hold.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.provenance import RESULTS, provenance
from strategies.run_archive import write_json
from tests.ledger_kills import KilledLedger, Tally

OUTPUT = RESULTS / "ledger_soak.json"
KILLS_PER_LEDGER = 25


def main() -> int:
    """Kill; return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    tally, started = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ledgers: list[KilledLedger] = []
        for number in track(range(options.kills), "Killing", console=Console(stderr=True)):
            if number % KILLS_PER_LEDGER == 0:
                path = Path(folder) / f"ledger-{len(ledgers)}"
                ledgers.append(KilledLedger(path, options.seed + number, tally))
            ledgers[-1].kill()
            if (number + 1) % KILLS_PER_LEDGER == 0 or number + 1 == options.kills:
                ledgers[-1].count()
    holds = tally.lost == tally.unerased == 0 and tally.finished == tally.begun
    result = {
        **provenance(
            f"python -m benchmarks.ledger_soak --kills {options.kills} --seed {options.seed}",
            "sqlalchemy",
            "cryptography",
            "pydantic",
        ),
        "ledgers": len(ledgers),
        **vars(tally),
        "seconds": time.monotonic() - started,
        "holds": holds,
    }
    write_json(options.output, result)
    show(tally)
    return 0 if holds else 1


def show(tally: Tally) -> None:
    """Print the counts."""
    table = Table("what", "count", title="writers of a private ledger, killed")
    for what, count in (
        ("kills", tally.kills),
        ("openings after a kill, without repair", tally.opens),
        ("records acknowledged", tally.acknowledged),
        ("of those, found", tally.found),
        ("of those, lost", tally.lost),
        ("payloads acknowledged as erased", tally.erasures),
        ("of those, not erased", tally.unerased),
        ("erasures that a kill interrupted", tally.begun),
        ("of those, finished by the next opening", tally.finished),
        ("rows of secrets that a kill left without a block", tally.orphans),
        *((f"killed during: {what}", n) for what, n in sorted(tally.interrupted.items())),
    ):
        table.add_row(what, f"{count:,}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
