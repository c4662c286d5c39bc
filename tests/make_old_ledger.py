"""A ledger as the first version of the program left it, to see that later ones can open it.

``python -m tests.make_old_ledger`` made ``tests/vectors/ledger_v1`` once, by the first migrations.
Keys of payloads and entries are random: another call would make another ledger. Not to be repeated.
"""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, MetaData, insert, select

from blockchain.private import data_sets
from blockchain.private.database import Database, create
from blockchain.private.drafts import Draft
from blockchain.private.files import LEDGER_FILE, SECRETS_FILE
from blockchain.private.ledger import Ledger
from blockchain.private.schema import LEDGER, SECRETS
from tests.ledger_cases import OPERATOR, found_ledger, payload_samples, training_run

VECTORS: Final = Path(__file__).parent / "vectors" / "ledger_v1"

#: What the first migrations had.
FIRST_TABLES: Final = {
    "ledger": ("blocks", "records", "payloads", "entries"),
    "secrets": ("keys", "entry_secrets", "role_keys"),
}


def fill(folder: Path) -> Path:
    """Begin a ledger with one record of each kind, a data set, and one payload erased."""
    with Ledger(found_ledger(folder), OPERATOR) as ledger:
        records = {f"review-{n}": hashlib.sha256(b"%d" % n).digest() for n in range(5)}
        data_sets.commit(ledger, "reviews", records)
        del records["review-1"]
        data_sets.commit(ledger, "reviews", records)
        ledger.append(*(Draft(payload=payload) for payload in payload_samples().values()))
        [erased] = ledger.append(Draft(payload=training_run(2)))
        ledger.erase("retention", record_numbers=[erased])
        ledger.append(Draft(payload=training_run(3)))
    return folder


def first_version(source: Path, target: Path) -> Path:
    """Copy a ledger's rows into files that the first migrations make."""
    target.mkdir(mode=0o700, parents=True)
    for name, kind, tables in (
        (LEDGER_FILE, "ledger", LEDGER),
        (SECRETS_FILE, "secrets", SECRETS),
    ):
        database = Database(source / name, kind, read_only=True)

        def copied(
            into: Connection, database: Database = database, kind: str = kind,
            tables: MetaData = tables,
        ) -> None:  # fmt: skip
            with database.reading() as connection:
                for table in (tables.tables[each] for each in FIRST_TABLES[kind]):
                    rows = [row._asdict() for row in connection.execute(select(table))]
                    if rows:
                        into.execute(insert(table), rows)

        create(target / name, kind, f"{kind}_0001", copied)
        database.close()
    journal = source / "erasures.jsonl"
    if journal.exists():
        shutil.copy(journal, target)
    return target


def main() -> None:
    if VECTORS.exists():
        sys.exit(f"{VECTORS} is there, and is what it is about: it is not made twice")
    with tempfile.TemporaryDirectory() as aside:
        first_version(fill(Path(aside) / "ledger"), VECTORS)


if __name__ == "__main__":
    main()
