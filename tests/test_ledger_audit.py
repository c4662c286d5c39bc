"""The ledger's audit: a valid one holds; whatever is changed in its files fails, and is named."""

# Names of tables and columns are the schema's.
# ruff: noqa: S608

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import Integer, Text

from blockchain.anchors import Anchor
from blockchain.private import anchoring, data_sets
from blockchain.private.anchoring import check_anchor
from blockchain.private.audit import audit
from blockchain.private.drafts import Draft
from blockchain.private.encoding import member_of
from blockchain.private.errors import (
    InvalidLedgerError,
    LedgerFileError,
    NotPermittedError,
    RolledBackError,
)
from blockchain.private.files import LEDGER_FILE, SECRETS_FILE
from blockchain.private.ledger import Ledger
from blockchain.private.record_types import Role
from blockchain.private.schema import LEDGER, SECRETS
from tests.ledger_cases import (
    AUDITOR,
    OFFICER,
    OPERATOR,
    STRANGER,
    evidence,
    found_ledger,
    payload_samples,
    training_run,
)

FILES = {LEDGER_FILE: LEDGER, SECRETS_FILE: SECRETS}
TABLES = [(file, table) for file, tables in FILES.items() for table in tables.sorted_tables]
COLUMNS = [(file, table, column) for file, table in TABLES for column in table.columns]

#: Rows whose lack cannot be told: the outbox only mirrors the chain, and a role's key may wait for
#: somebody to hand it on.
NOT_MISSED = {"outbox", "role_keys"}


def table_ids(value):
    return getattr(value, "name", value)


@dataclass(frozen=True)
class Made:
    """A ledger with some of everything, a copy from halfway, and an anchor of each."""

    folder: Path
    earlier: Path
    anchor: Anchor
    earlier_anchor: Anchor
    height: int


def anchor_of(history):
    return Anchor(history.size, history.tree.root(), 7)


def outbox_row(history, size, state):
    sent = state == "confirmed"
    return {
        "size": size,
        "root": history.tree.root(size),
        "deadline": 2_000_000_000,
        "signature": bytes([size]) * 65,
        "state": state,
        "transaction": bytes([size]) * 32 if sent else b"",
        "block": 12 if sent else 0,
    }


def fill(folder):
    """Fill a founded ledger; return the anchor that it had halfway, of a copy beside it."""
    contents = {f"customer-{n}": bytes([n]) * 32 for n in range(5)}
    with Ledger(folder, OPERATOR) as ledger:
        data_sets.commit(ledger, "records.csv", contents)
        runs = ledger.append(Draft(payload=training_run(1)), Draft(payload=training_run(2)))
        endorsed = ledger.append(Draft(payload=evidence("endorsed")))[0]
        ledger.append(Draft(payload=payload_samples()["agent-decision"]))
        halfway = anchor_of(ledger.history)
    shutil.copytree(folder, folder.with_name("earlier"))
    with Ledger(folder, OFFICER) as ledger:
        ledger.endorse(endorsed)
    with Ledger(folder, OPERATOR) as ledger:
        ledger.append(Draft(payload=evidence("pending")))
        data_sets.bury(ledger, ["customer-2"], request=bytes([9]) * 32)
        del contents["customer-2"]
        data_sets.commit(ledger, "records.csv", {**contents, "customer-5": bytes([5]) * 32})
        later = ledger.append(Draft(payload=training_run(3, data_set=9)))[0]
        ledger.erase("retention", record_numbers=runs[:1])
        ledger.erase("unlearning", positions=[2])
        admission = ledger.change_member(member_of(AUDITOR, Role.AUDITOR))
    with Ledger(folder, OFFICER) as ledger:
        ledger.endorse(admission)
        ledger.read(endorsed, "to look at what I stand behind")
    with Ledger(folder, OPERATOR) as ledger:
        ledger.read_all([runs[1], later], "to compare runs")
        ledger.append(Draft(payload=training_run(4)))
        ledger.append(Draft(payload=training_run(5)))
        for size, state in ((6, "confirmed"), (12, "sent"), (18, "prepared")):
            anchoring._put(ledger, outbox_row(ledger.history, size, state))
        ledger.read(later, "to look once more")
        anchoring._note_reads(ledger)
    return halfway


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop") / "ledger"
    halfway = fill(found_ledger(folder))
    history = audit(folder, OPERATOR).history
    return Made(folder, folder.with_name("earlier"), anchor_of(history), halfway, history.height)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The ledger of another organization, which has the same operator."""
    folder = tmp_path_factory.mktemp("north") / "ledger"
    fill(found_ledger(folder, name="north"))
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made.folder, tmp_path / "ledger")


def again(folder, made):
    """Put the ledger back as it was; what still has the altered files open keeps those."""
    shutil.rmtree(folder)
    shutil.copytree(made.folder, folder)


def opened(folder, file):
    connection = sqlite3.connect(folder / file)
    connection.isolation_level = None
    return closing(connection)


def run(folder, file, *statements):
    """Change a file behind the ledger's back; no foreign key stands in the way."""
    with opened(folder, file) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for statement, *values in statements:
            connection.execute(statement, values)


def rows_of(folder, file, query, *values):
    with opened(folder, file) as connection:
        return connection.execute(query, values).fetchall()


def row_ids(folder, file, name):
    """The first, a middle and the last row of a table."""
    key = ", ".join(f'"{c.name}"' for c in FILES[file].tables[name].primary_key)
    ids = [row[0] for row in rows_of(folder, file, f'SELECT rowid FROM "{name}" ORDER BY {key}')]
    return list(dict.fromkeys([ids[0], ids[len(ids) // 2], ids[-1]]))


def refused(folder, account=OPERATOR):
    """What the audit says, in one line."""
    with pytest.raises((InvalidLedgerError, LedgerFileError)) as caught:
        audit(folder, account)
    assert "\n" not in str(caught.value)
    return caught.value


def fault(folder):
    """What the audit says; None where the ledger holds."""
    try:
        audit(folder, OPERATOR)
    except (InvalidLedgerError, LedgerFileError) as error:
        return error
    return None


def changed(value, place):
    if isinstance(value, int):
        return value + 1
    if not value:
        return b"\1" if isinstance(value, bytes) else "x"
    at = round(place * (len(value) - 1))
    if isinstance(value, bytes):
        return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
    return value[:at] + ("1" if value[at] == "0" else "0") + value[at + 1 :]


def change(folder, file, name, column, row, place):
    """Change a value of a row a little; a number that is taken becomes the next free one."""
    where = f'"{name}" WHERE rowid = ?'
    [[value]] = rows_of(folder, file, f'SELECT "{column}" FROM {where}', row)
    update = f'UPDATE "{name}" SET "{column}" = ? WHERE rowid = ?'
    try:
        run(folder, file, (update, changed(value, place), row))
    except sqlite3.IntegrityError:
        [[last]] = rows_of(folder, file, f'SELECT max("{column}") FROM "{name}"')
        run(folder, file, (update, last + 1, row))


def place_of(folder, file, name, row):
    """The block and record that a row belongs to, each None where it belongs to none."""
    with opened(folder, file) as connection:
        connection.row_factory = sqlite3.Row
        found = dict(
            connection.execute(f'SELECT * FROM "{name}" WHERE rowid = ?', [row]).fetchone()
        )
    if name == "blocks":
        return SimpleNamespace(block=found["height"], record=None)
    number = found.get("record")
    if name == "entry_secrets":
        query = "SELECT record FROM entries WHERE position = ?"
        [[number]] = rows_of(folder, LEDGER_FILE, query, found["position"])
    if number is None:
        return SimpleNamespace(block=None, record=None)
    [[block]] = rows_of(folder, LEDGER_FILE, "SELECT block FROM records WHERE record = ?", number)
    return SimpleNamespace(block=block, record=number)


def assert_named(error, table, expected):
    if expected.record is not None:
        assert error.block in {expected.block, None}
        assert error.record == expected.record or (error.record, error.block) == (
            None,
            expected.block,
        )
    elif expected.block is not None:
        assert error.block == expected.block
    elif table == "witness":
        assert isinstance(error, RolledBackError) or error.field.startswith(table)
    else:
        assert error.field.startswith(table), error


# What holds


def test_a_ledger_with_some_of_everything_holds_for_each_of_its_members(made):
    types = {leaf.type for leaf in leaves_of(made.folder)}
    assert types >= {"data-set", "tombstone", "erase-pending", "erased", "membership", "reads"}
    for file, table in TABLES:
        assert rows_of(made.folder, file, f'SELECT 1 FROM "{table.name}"'), table.name
    for account in (OPERATOR, OFFICER, AUDITOR):
        held = audit(made.folder, account)
        assert held.history.height == made.height
        assert held.reads == len(rows_of(made.folder, LEDGER_FILE, "SELECT 1 FROM read_log")) > 3
        payloads = rows_of(made.folder, LEDGER_FILE, "SELECT 1 FROM payloads")
        assert held.opened + held.closed == len(payloads)
        assert (held.closed == 0) == (account is OPERATOR)


def leaves_of(folder):
    with Ledger(folder, OPERATOR) as ledger:
        return ledger.leaves()


def test_an_audit_writes_nothing(made, copy):
    before = {file: (copy / file).read_bytes() for file in FILES}
    audit(copy, OPERATOR)
    assert {file: (copy / file).read_bytes() for file in FILES} == before
    assert rows_of(copy, LEDGER_FILE, "SELECT count(*) FROM read_log") == rows_of(
        made.folder, LEDGER_FILE, "SELECT count(*) FROM read_log"
    )


def test_without_an_account_the_chain_is_checked_and_no_mac_is(copy):
    held = audit(copy)
    assert held.reads is None
    assert held.opened == 0
    assert held.closed > 5
    run(copy, LEDGER_FILE, ("UPDATE read_log SET purpose = 'another'",))
    assert audit(copy).reads is None
    assert refused(copy).field == "read_log.mac"
    run(copy, LEDGER_FILE, ("UPDATE blocks SET time = time + 1 WHERE height = 3",))
    assert refused(copy, None).block == 3


def test_a_stranger_is_told_that_it_is_no_member(copy):
    with pytest.raises(NotPermittedError, match="is no member"):
        audit(copy, STRANGER)


def test_progress_never_goes_backwards_and_ends_at_all_of_it(copy):
    told = []
    audit(copy, OPERATOR, lambda done, whole: told.append((done, whole)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len({whole for _, whole in told}) == 1
    assert told[-1][0] == told[-1][1] > told[0][0]


def test_a_ledger_that_others_write_to_meanwhile_holds(copy):
    with Ledger(copy, OPERATOR) as ledger:
        left = [6, 7, 8]
        told, size = [], ledger.history.size

        def write(done, whole):
            told.append(done)
            if left:
                ledger.append(Draft(payload=training_run(left.pop())))

        held = audit(copy, OPERATOR, write)
        assert not left
        # As it was when the audit began.
        assert (held.history.size, ledger.history.size) == (size, size + 3)
        assert told == sorted(told)


# What is changed


def test_the_schema_has_the_tables_and_columns_that_the_files_have(made):
    for file, tables in FILES.items():
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        names = {name for (name,) in rows_of(made.folder, file, query)}
        assert names == {*tables.tables, "alembic_version"}
        for name, table in tables.tables.items():
            columns = rows_of(made.folder, file, f'PRAGMA table_info("{name}")')
            assert [column[1] for column in columns] == [column.name for column in table.columns]


@pytest.mark.parametrize(("file", "table", "column"), COLUMNS, ids=table_ids)
def test_one_changed_value_of_any_column_is_caught_and_named(made, copy, file, table, column):
    for place, row in enumerate(row_ids(copy, file, table.name)):
        expected = place_of(copy, file, table.name, row)
        change(copy, file, table.name, column.name, row, place / 2)
        assert_named(refused(copy), table.name, expected)
        again(copy, made)
    audit(copy, OPERATOR)


@pytest.mark.parametrize("file", FILES)
def test_another_version_or_kind_of_file_is_refused_by_its_name(made, copy, file):
    for statement in (
        "UPDATE alembic_version SET version_num = version_num || '0'",
        "UPDATE alembic_version SET version_num = 'secrets_0002' || 'ledger_0002'",
        "DELETE FROM alembic_version",
        "DROP TABLE alembic_version",
        "PRAGMA application_id = 0x466F6500",
    ):
        run(copy, file, (statement,))
        error = refused(copy)
        assert isinstance(error, LedgerFileError)
        assert file in str(error)
        again(copy, made)


@pytest.mark.parametrize(("file", "table"), TABLES, ids=table_ids)
def test_numbers_and_texts_far_from_what_they_were_are_caught(made, copy, file, table):
    first = row_ids(copy, file, table.name)[0]
    for column in table.columns:
        values = [-1, 2**62] if isinstance(column.type, Integer) else [b"", bytes(100)]
        if isinstance(column.type, Text):
            values = ["", "é\U0001f600\n" * 9]
        for value in values:
            update = f'UPDATE "{table.name}" SET "{column.name}" = ? WHERE rowid = ?'
            run(copy, file, (update, value, first))
            refused(copy)
            again(copy, made)


def everything(folder):
    """All that both files hold; None where they cannot be read."""
    try:
        return [
            rows_of(folder, file, query)
            for file, tables in FILES.items()
            for query in (
                *(f'SELECT * FROM "{name}" ORDER BY rowid' for name in tables.tables),
                "SELECT * FROM alembic_version",
                "PRAGMA application_id",
            )
        ]
    except (sqlite3.Error, OverflowError):
        return None


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_of_a_file_is_caught_or_makes_no_difference(made, copy, file):
    original = (copy / file).read_bytes()
    before, chosen, caught = everything(copy), np.random.default_rng(7), 0
    for _ in range(60):
        content = bytearray(original)
        # What was never written says nothing: most flips are of bytes that are not zero.
        at = chosen.integers(len(content))
        while not content[at] and chosen.random() < 0.9:
            at = chosen.integers(len(content))
        content[at] ^= 1 << chosen.integers(8)
        (copy / file).write_bytes(content)
        error = fault(copy)
        if error is None:
            (copy / file).write_bytes(content)
            assert everything(copy) == before, at
        else:
            caught += 1
            assert "\n" not in str(error)
        again(copy, made)
    assert caught > 30
    audit(copy, OPERATOR)


@pytest.mark.parametrize(("file", "table"), TABLES, ids=table_ids)
def test_an_index_that_hides_rows_is_caught(made, copy, file, table):
    for index in table.indexes:
        run(
            copy,
            file,
            ("PRAGMA writable_schema = ON",),
            (f"UPDATE sqlite_master SET sql = sql || ' WHERE 0' WHERE name = '{index.name}'",),
        )
        run(copy, file, (f"REINDEX {index.name}",))
        run(
            copy,
            file,
            ("PRAGMA writable_schema = ON",),
            ("UPDATE sqlite_master SET sql = replace(sql, ' WHERE 0', '')",),
        )
        assert everything(copy) == everything(made.folder)
        assert "damaged" in str(refused(copy))
        again(copy, made)


# Rows deleted, exchanged, inserted


@pytest.mark.parametrize(
    ("file", "table"), [one for one in TABLES if one[1].name not in NOT_MISSED], ids=table_ids
)
def test_a_deleted_row_is_caught_and_named(made, copy, file, table):
    for row in row_ids(copy, file, table.name):
        expected = place_of(copy, file, table.name, row)
        run(copy, file, (f'DELETE FROM "{table.name}" WHERE rowid = ?', row))
        error = refused(copy)
        if table.name == "blocks":
            # The next one follows on nothing, or its records belong to no block.
            assert error.block == expected.block or error.field == "records.record"
        else:
            assert_named(error, table.name, expected)
        again(copy, made)


def test_a_deleted_role_key_is_caught_or_handed_on_again(made, copy):
    healed = 0
    for (row,) in rows_of(copy, SECRETS_FILE, "SELECT rowid FROM role_keys"):
        run(copy, SECRETS_FILE, ("DELETE FROM role_keys WHERE rowid = ?", row))
        error = fault(copy)
        if error is not None:
            assert error.field.startswith("role_keys"), error
        else:
            for account in (OPERATOR, OFFICER):
                Ledger(copy, account).close()
            count = "SELECT role, public, holder FROM role_keys ORDER BY 1, 2, 3"
            here = rows_of(copy, SECRETS_FILE, count)
            again(copy, made)
            assert here == rows_of(copy, SECRETS_FILE, count)
            healed += 1
        again(copy, made)
    assert healed


@pytest.mark.parametrize(
    ("file", "table"), [one for one in TABLES if one[1].name != "witness"], ids=table_ids
)
def test_two_rows_that_have_changed_places_are_caught(made, copy, file, table):
    names = [c.name for c in table.columns if not c.primary_key]
    columns = ", ".join(f'"{name}"' for name in names)
    settings = ", ".join(f'"{name}" = ?' for name in names)
    for chosen in (names, *([name] for name in names)):
        columns = ", ".join(f'"{name}"' for name in chosen)
        settings = ", ".join(f'"{name}" = ?' for name in chosen)
        ids = row_ids(copy, file, table.name)
        one, last = ids[0], ids[-1]
        query = f'SELECT {columns} FROM "{table.name}" WHERE rowid = ?'
        [here] = rows_of(copy, file, query, one)
        [there] = rows_of(copy, file, query, last)
        if here == there:
            continue
        update = f'UPDATE "{table.name}" SET {settings} WHERE rowid = ?'
        free = [-1 if isinstance(value, int) else value for value in here]
        run(copy, file, (update, *free, one), (update, *here, last), (update, *there, one))
        refused(copy)
        again(copy, made)


def insert_copy(folder, file, table, **changes):
    """Insert the last row of a table again, with other keys."""
    names = [column.name for column in table.columns]
    columns = ", ".join(f'"{name}"' for name in names)
    last = row_ids(folder, file, table.name)[-1]
    [row] = rows_of(folder, file, f'SELECT {columns} FROM "{table.name}" WHERE rowid = ?', last)
    values = {**dict(zip(names, row, strict=True)), **changes}
    marks = ", ".join("?" for _ in names)
    run(
        folder, file, (f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})', *values.values())
    )


SURPLUS = {
    "blocks": [{"height": 1000, "size": 1000}],
    "records": [{"record": 1000}],
    "payloads": [{"record": 0}, {"record": 2}, {"record": 6}, {"record": 1000}],
    "entries": [{"position": 1000}, {"position": 1000, "record": 0}],
    "outbox": [{"size": 1}, {"size": 1000}],
    "read_log": [{"number": 0}, {"number": 1000}],
    "keys": [
        *({"record": record} for record in (0, 2, 6, 1000)),
        {"record": 5, "role": "auditor"},
        {"role": "member"},
    ],
    "entry_secrets": [{"position": 2}, {"position": 6}, {"position": 1000}],
    "role_keys": [{"holder": STRANGER.address}, {"holder": AUDITOR.address, "role": "operator"}],
    "witness": [{"id": 2}, {"id": 2, "height": 1}],
}


@pytest.mark.parametrize(("file", "table"), TABLES, ids=table_ids)
def test_a_surplus_row_is_caught_and_its_table_named(made, copy, file, table):
    for changes in SURPLUS[table.name]:
        insert_copy(copy, file, table, **changes)
        error = refused(copy)
        assert table.name in {error.field.partition(".")[0], f"{error.field}s"} or (
            error.block is not None
        ), error
        again(copy, made)


def test_what_was_erased_is_caught_where_it_is_put_back(made, copy):
    for file, name in ((LEDGER_FILE, "payloads"), (SECRETS_FILE, "keys")):
        source = rows_of(made.earlier, file, f"SELECT * FROM {name} WHERE record = 2")
        assert source
        marks = ", ".join("?" for _ in source[0])
        run(copy, file, *((f"INSERT INTO {name} VALUES ({marks})", *row) for row in source))
        error = refused(copy)
        assert (error.record, error.detail) == (2, "it was erased, and is there")


def test_reads_deleted_at_the_end_are_missed_by_the_record_that_notes_them(copy):
    [[count]] = rows_of(copy, LEDGER_FILE, "SELECT count(*) FROM read_log")
    for last in range(count, 0, -1):
        run(copy, LEDGER_FILE, ("DELETE FROM read_log WHERE number = ?", last))
        error = refused(copy)
        assert error.field == "read_log.number"
        assert f"the ledger notes {count}: some were deleted" in error.detail


def test_a_byte_moved_from_ciphertext_to_nonce_is_caught_without_a_key(copy):
    run(
        copy,
        LEDGER_FILE,
        (
            "UPDATE payloads SET nonce = CAST(nonce || substr(ciphertext, 1, 1) AS BLOB), "
            "ciphertext = substr(ciphertext, 2) WHERE record = 3",
        ),
    )
    for account in (None, OFFICER, OPERATOR):
        error = refused(copy, account)
        assert (error.record, error.field) == (3, "payloads.nonce")


# The first of several


def flip(folder, table, column, where):
    [[value]] = rows_of(folder, LEDGER_FILE, f"SELECT {column} FROM {table} WHERE {where}")
    update = f"UPDATE {table} SET {column} = ? WHERE {where}"
    run(folder, LEDGER_FILE, (update, changed(value, 0.5)))


@pytest.mark.parametrize("account", [OPERATOR, AUDITOR, None], ids=["operator", "auditor", "none"])
def test_the_first_bad_block_is_named_where_several_are(copy, account):
    flip(copy, "blocks", "signature", "height = 6")
    assert (refused(copy, account).block, refused(copy, account).field) == (6, "signature")
    flip(copy, "blocks", "signature", "height = 4")
    assert (refused(copy, account).block, refused(copy, account).field) == (4, "signature")
    flip(copy, "payloads", "ciphertext", "record = 3")
    error = refused(copy, account)
    assert (error.block, error.record, error.field) == (2, 3, "payloads.ciphertext")
    flip(copy, "records", "leaf", "record = 1")
    assert refused(copy, account).block == 1


def test_a_member_admitted_later_is_told_of_a_bad_block_before_that(copy):
    flip(copy, "blocks", "signature", "height = 1")
    assert refused(copy, AUDITOR).block == 1


# Whole parts of it, older or of somebody else


def cut(folder, height):
    """Cut off the blocks from a height on, and what they hold."""
    gone = "(SELECT record FROM records WHERE block >= ?)"
    run(
        folder,
        LEDGER_FILE,
        (f"DELETE FROM payloads WHERE record IN {gone}", height),
        (f"DELETE FROM entries WHERE record IN {gone}", height),
        ("DELETE FROM records WHERE block >= ?", height),
        ("DELETE FROM blocks WHERE height >= ?", height),
    )


def test_a_ledger_without_its_last_blocks_is_caught_by_its_secrets_or_its_anchor(made, copy):
    run(copy, LEDGER_FILE, ("DELETE FROM outbox",))
    query = "SELECT DISTINCT block FROM records JOIN payloads USING (record) ORDER BY block"
    sealed = [block for (block,) in rows_of(copy, LEDGER_FILE, query)]
    seen = 0
    for height in range(made.height - 1, 0, -1):
        cut(copy, height)
        missing = sum(block >= height for block in sealed)
        if missing >= 2:
            error = refused(copy, None)
            assert isinstance(error, RolledBackError)
            assert error.field == "height"
            seen += 1
        else:
            shorter = audit(copy).history
            with pytest.raises(RolledBackError, match="records were cut off"):
                check_anchor(shorter, made.anchor)
    assert seen > 5


def test_an_anchor_holds_for_what_it_covers_and_all_that_follows(made):
    history = audit(made.folder).history
    check_anchor(history, made.anchor)
    check_anchor(history, made.earlier_anchor)
    check_anchor(history, Anchor(0, bytes(32), 0))
    for wrong in (
        Anchor(made.anchor.size, made.earlier_anchor.root, 7),
        Anchor(made.earlier_anchor.size, made.anchor.root, 7),
        Anchor(made.anchor.size, bytes(32), 7),
    ):
        with pytest.raises(InvalidLedgerError, match="the ledger was rewritten"):
            check_anchor(history, wrong)


def put(folder, source, *names):
    for name in names:
        shutil.copyfile(source / name, folder / name)


def test_an_older_ledger_file_is_caught_by_the_secrets(made, copy):
    put(copy, made.earlier, LEDGER_FILE)
    for account in (OPERATOR, None):
        error = refused(copy, account)
        assert isinstance(error, RolledBackError)
        assert "an older ledger.sqlite was put in its place" in str(error)
    with pytest.raises(RolledBackError):
        Ledger(copy, OPERATOR)


def test_an_older_secrets_file_is_caught(made, copy):
    put(copy, made.earlier, SECRETS_FILE)
    for account in (OPERATOR, None):
        assert refused(copy, account).field.partition(".")[0] in {"keys", "role_keys"}


def test_both_files_older_are_caught_by_the_anchor(made, copy):
    put(copy, made.earlier, *FILES)
    held = audit(copy, OPERATOR)
    check_anchor(held.history, made.earlier_anchor)
    with pytest.raises(RolledBackError, match="an older file was put in place"):
        check_anchor(held.history, made.anchor)


@pytest.mark.parametrize("names", [[LEDGER_FILE], [SECRETS_FILE]], ids=str)
def test_a_file_of_another_organization_is_caught(copy, other, names):
    put(copy, other, *names)
    for account in (OPERATOR, None):
        error = refused(copy, account)
        assert isinstance(error, RolledBackError)
        assert "the two files are of different ledgers" in str(error)


def test_both_files_of_another_organization_are_caught_by_the_anchor(made, copy, other):
    put(copy, other, *FILES)
    with pytest.raises(InvalidLedgerError, match="the ledger was rewritten"):
        check_anchor(audit(copy, OPERATOR).history, made.anchor)


def replay(folder, source, name, where):
    """Put rows of another ledger in the place of those that a condition names."""
    rows = rows_of(source, LEDGER_FILE, f"SELECT * FROM {name} WHERE {where}")
    assert rows
    marks = ", ".join("?" for _ in rows[0])
    run(
        folder,
        LEDGER_FILE,
        (f"DELETE FROM {name} WHERE {where}",),
        *((f"INSERT INTO {name} VALUES ({marks})", *row) for row in rows),
    )


def test_blocks_replayed_from_another_organizations_ledger_are_caught(made, copy, other):
    for height in range(made.height):
        replay(copy, other, "blocks", f"height = {height}")
        assert refused(copy).block == height
        replay(copy, other, "records", f"block = {height}")
        # A whole genesis begins another ledger, on which our next block does not follow.
        assert refused(copy).block == max(height, 1)
        again(copy, made)


def test_records_replayed_from_another_organizations_ledger_are_caught(made, copy, other):
    for name in ("records", "payloads", "entries", "outbox", "read_log"):
        replay(copy, other, name, "1")
        refused(copy)
        again(copy, made)
    for name in ("records", "payloads"):
        replay(copy, other, name, "record = 3")
        error = refused(copy)
        assert (error.block, error.record) in {(2, 3), (2, None)}
        again(copy, made)


def test_a_record_replayed_under_another_number_is_caught(copy):
    run(
        copy,
        LEDGER_FILE,
        ("UPDATE records SET leaf = (SELECT leaf FROM records WHERE record = 3) WHERE record = 7",),
    )
    assert refused(copy).block is not None


def test_a_trigger_or_view_in_a_file_is_refused_by_its_name(copy):
    for file, statement in (
        (LEDGER_FILE, "CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM payloads; END"),
        (SECRETS_FILE, "CREATE VIEW v AS SELECT * FROM keys"),
    ):
        run(copy, file, (statement,))
        assert str(refused(copy)).startswith(f"{copy / file}: it has a trigger or view")
        run(copy, file, ("DROP TRIGGER IF EXISTS t",), ("DROP VIEW IF EXISTS v",))
    audit(copy, OPERATOR)


def test_a_folder_without_one_of_the_files_is_refused_by_its_name(copy):
    for file in FILES:
        (copy / file).rename(copy / "aside")
        assert file in str(refused(copy))
        (copy / "aside").rename(copy / file)
