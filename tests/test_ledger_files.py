"""The ledger's files where the disk is full, the folder locked away, or a file not what it was."""

import shutil
import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from blockchain.private import data_sets, database
from blockchain.private.audit import audit
from blockchain.private.database import APPLICATION_IDS, NEWEST, Database, create, folder_lock
from blockchain.private.drafts import Draft
from blockchain.private.errors import ErasedError, LedgerError, LedgerFileError
from blockchain.private.files import LEDGER_FILE, SECRETS_FILE
from blockchain.private.ledger import Ledger
from blockchain.private.schema import LEDGER, SECRETS
from tests.ledger_cases import (
    OPERATOR,
    filled_ledger,
    found_ledger,
    payload_samples,
    training_run,
)
from tests.ledger_writer import (
    Child,
    append_runs,
    hold_the_lock,
    open_once,
    run_out_of_room,
    try_with_permissions,
)
from tests.make_old_ledger import VECTORS, fill, first_version

KINDS = {"ledger": LEDGER_FILE, "secrets": SECRETS_FILE}
TABLES = {"ledger": LEDGER, "secrets": SECRETS}

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def folder(tmp_path):
    return filled_ledger(tmp_path / "ledger")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(database, "_LOCK_SECONDS", 0.3)


def refusal(folder):
    """The one line that opening the ledger ends with; the audit ends with it too."""
    with pytest.raises(LedgerFileError) as caught:
        Ledger(folder, OPERATOR)
    line = str(caught.value)
    assert "\n" not in line
    return line


def assert_whole(folder, records):
    """It audits clean, and has so many training runs, in order."""
    with Ledger(folder, OPERATOR) as ledger:
        numbers = [leaf.record for leaf in ledger.leaves("training-run")]
        assert numbers == list(range(1, records + 1))
        assert len(ledger.read_all(numbers, "to compare")) == records
    assert audit(folder, OPERATOR).opened == records


def pragma(connection, name):
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def stop_growing(ledger, kind):
    """Let a file have no page more than it has."""
    connection = getattr(ledger.files, kind).connection
    pages = pragma(connection, "page_count")
    pragma(connection, f"max_page_count = {pages}")
    return lambda: pragma(connection, "max_page_count = 1000000")


def many(first):
    """So many records that they do not fit into what room a file has."""
    return [Draft(payload=training_run(first + n)) for n in range(60)]


# How they are opened


@each_kind
def test_what_is_committed_lasts_and_what_is_deleted_is_overwritten(folder, kind):
    with Ledger(folder, OPERATOR) as ledger:
        connection = getattr(ledger.files, kind).connection
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == 2
        assert pragma(connection, "foreign_keys") == 1
        assert pragma(connection, "secure_delete") == 1
        assert pragma(connection, "trusted_schema") == 0
        assert pragma(connection, "cell_size_check") == 1
        assert pragma(connection, "application_id") == APPLICATION_IDS[kind]


def test_files_are_readable_by_their_owner_alone(folder):
    assert folder.stat().st_mode & 0o777 == 0o700
    with Ledger(folder, OPERATOR) as ledger:
        ledger.append(Draft(payload=training_run(4)))
        files = {path.name: path for path in folder.iterdir() if ".sqlite" in path.name}
        # With the write-ahead logs, which hold the same.
        assert {f"{name}{end}" for name in KINDS.values() for end in ("", "-wal", "-shm")} == set(
            files
        )
        assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}


@pytest.mark.parametrize("name", ["a#b?c=d&mode=memory", "100% 20%41", "Prüfung 'x'", "a:b;c"])
def test_a_ledger_can_lie_in_a_folder_of_any_name(tmp_path, name):
    folder = filled_ledger(tmp_path / name, 1)
    assert_whole(folder, 1)
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert (folder / LEDGER_FILE).stat().st_size > 0


def test_a_foreign_key_that_leads_nowhere_is_refused_by_the_file_itself(folder):
    with (
        Ledger(folder, OPERATOR) as ledger,
        pytest.raises(LedgerFileError, match="FOREIGN KEY"),
        ledger.files.ledger.writing() as connection,
    ):
        connection.exec_driver_sql("UPDATE records SET block = 77 WHERE record = 1")
    assert_whole(folder, 3)


# A full disk


@each_kind
def test_where_a_file_cannot_grow_nothing_is_written_and_the_line_says_so(folder, kind):
    with Ledger(folder, OPERATOR) as ledger:
        make_room = stop_growing(ledger, kind)
        with pytest.raises(LedgerFileError) as caught:
            ledger.append(*many(10))
        assert str(caught.value) == (
            f"{folder / KINDS[kind]}: the disk is full: nothing was written; make room and try "
            "again"
        )
        assert ledger.history.size == 4
        assert audit(folder, OPERATOR).opened == 3
        make_room()
        assert ledger.append(*many(10)) == list(range(4, 64))
    assert_whole(folder, 63)


@each_kind
def test_after_a_full_disk_another_process_finds_all_that_was_there_before(folder, kind):
    with Ledger(folder, OPERATOR) as ledger:
        stop_growing(ledger, kind)
        with pytest.raises(LedgerFileError, match="full"):
            ledger.append(*many(10))
        with Child(append_runs, folder, 4, 1) as child:
            assert list(child.said()) == [("started",), (4, 4)]
    assert_whole(folder, 4)


def test_no_payload_is_handed_out_that_cannot_be_logged_as_read(folder):
    with Ledger(folder, OPERATOR) as ledger:
        make_room = stop_growing(ledger, "ledger")
        purpose = "a" * 5000
        with pytest.raises(LedgerFileError, match=r"ledger\.sqlite: the disk is full"):
            ledger.read(1, purpose)
        assert ledger.reads() == []
        make_room()
        assert ledger.read(1, purpose).payload == training_run(1)
        assert [read.records for read in ledger.reads()] == ["1"]


@pytest.mark.parametrize("room", [0, 20_000, 200_000])
def test_a_process_whose_files_may_not_grow_loses_nothing_and_goes_on_once_they_may(folder, room):
    with Child(run_out_of_room, folder, room) as child:
        _, *numbers, failure, (after,) = child.said()
        assert child.status() == 0
    kind, line = failure
    assert kind == "LedgerFileError"
    assert line.startswith(str(folder))
    assert "nothing was written" in line
    assert "\n" not in line
    written = [number for (number,) in numbers]
    assert written == list(range(4, 4 + len(written)))
    # The number that failed was given to the next one.
    assert after == 4 + len(written)
    assert_whole(folder, after)


def test_where_there_is_no_room_for_a_ledger_none_is_begun(tmp_path):
    path = tmp_path / LEDGER_FILE

    def too_much(connection):
        pragma(connection, f"max_page_count = {pragma(connection, 'page_count')}")
        connection.exec_driver_sql("CREATE TABLE more (content BLOB)")
        connection.exec_driver_sql("INSERT INTO more VALUES (zeroblob(100000))")

    with pytest.raises(LedgerFileError, match="the disk is full") as caught:
        create(path, "ledger", fill=too_much)
    assert str(caught.value).startswith(str(path))
    assert not path.exists()
    create(path, "ledger")
    assert [entry.name for entry in tmp_path.iterdir()] == [LEDGER_FILE]


# What may not be written, or is in use


@each_kind
def test_a_file_that_may_only_be_read_is_named_and_nothing_is_changed(folder, kind):
    path = folder / KINDS[kind]
    path.chmod(0o444)
    before = path.read_bytes()
    with Child(try_with_permissions, folder) as child:
        assert list(child.said()) == [
            ("started",),
            ("opened",),
            ("LedgerFileError", f"{path}: it cannot be written: make file and folder writable"),
        ]
    assert path.read_bytes() == before
    path.chmod(0o600)
    assert_whole(folder, 3)


def test_a_folder_that_may_only_be_read_is_named_and_nothing_is_changed(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.chmod(0o500)
    with Child(try_with_permissions, folder) as child:
        _, (kind, line) = child.said()
    folder.chmod(0o700)
    assert kind == "LedgerFileError"
    assert line.startswith(f"{folder / LEDGER_FILE}: it cannot be ")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_may_not_be_entered_is_named(folder):
    folder.chmod(0o000)
    with Child(try_with_permissions, folder) as child:
        said = list(child.said())
    folder.chmod(0o700)
    line = (
        f"{folder}: Permission denied: see that there is room, and that it can be read and written"
    )
    assert said == [("started",), ("LedgerFileError", line)]
    assert_whole(folder, 3)


@each_kind
def test_a_file_that_another_process_holds_locked_is_named_after_a_while(folder, kind, impatient):
    with (
        Ledger(folder, OPERATOR) as ledger,
        Child(hold_the_lock, folder / KINDS[kind], kind) as (holding),
    ):
        assert [holding.next(), holding.next()] == [("started",), ("locked",)]
        with pytest.raises(LedgerFileError) as caught:
            ledger.append(Draft(payload=training_run(4)))
        assert str(caught.value) == (
            f"{folder / KINDS[kind]}: another process holds it locked: try again when that is done"
        )
        holding.kill()
        assert ledger.append(Draft(payload=training_run(4))) == [4]
    assert_whole(folder, 4)


def test_who_waits_for_a_lock_gets_it_once_it_is_free(folder):
    with Child(hold_the_lock, folder / LEDGER_FILE, "ledger") as holding:
        assert [holding.next(), holding.next()] == [("started",), ("locked",)]
        with Child(append_runs, folder, 4, 1) as waiting:
            assert waiting.next() == ("started",)
            holding.kill()
            assert list(waiting.said()) == [(4, 4)]


def test_a_folder_that_another_process_restores_into_is_named_after_a_while(folder, impatient):
    line = "another process is making or restoring it: try again when that is done"
    with folder_lock(folder), pytest.raises(LedgerFileError) as caught, folder_lock(folder):
        pass
    assert str(caught.value) == f"{folder}: {line}"


# A file that is not what it was


@each_kind
def test_a_missing_file_is_named(folder, kind):
    (folder / KINDS[kind]).unlink()
    line = refusal(folder)
    assert str(folder) in line
    assert f"{KINDS[kind]} is missing" in line
    assert "restore it" in line
    # It is not made anew, which would hide that it is gone.
    assert not (folder / KINDS[kind]).exists()
    with pytest.raises(LedgerFileError, match=f"{KINDS[kind]} is missing"):
        audit(folder, OPERATOR)


def test_a_folder_without_a_ledger_is_named_and_nothing_is_made_in_it(tmp_path):
    line = f"there is no ledger in {tmp_path}: {LEDGER_FILE} is missing; restore it, if there was"
    assert refusal(tmp_path) == f"{line} one"
    assert list(tmp_path.iterdir()) == []
    assert refusal(tmp_path / "nowhere").startswith(f"there is no ledger in {tmp_path / 'nowhere'}")


@each_kind
def test_a_file_of_another_program_is_named_and_left_as_it_is(folder, kind):
    path = folder / KINDS[kind]
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("PRAGMA application_id = 7")
    other.execute("CREATE TABLE records (record INTEGER)")
    other.commit()
    other.close()
    assert refusal(folder) == (
        f"{path} is no {kind} file: its application id is 0x7, expected "
        f"{APPLICATION_IDS[kind]:#x}: restore it from a backup"
    )
    other = sqlite3.connect(path)
    assert other.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    other.close()


def test_each_of_the_two_files_is_not_taken_for_the_other(folder):
    aside = folder / "aside"
    (folder / LEDGER_FILE).rename(aside)
    (folder / SECRETS_FILE).rename(folder / LEDGER_FILE)
    aside.rename(folder / SECRETS_FILE)
    assert f"{folder / LEDGER_FILE} is no ledger file" in refusal(folder)


@each_kind
@pytest.mark.parametrize("content", [b"{}\n" * 2000, bytes(8192), b"SQLite format 4\0" + bytes(99)])
def test_a_file_that_is_no_database_is_named(folder, kind, content):
    path = folder / KINDS[kind]
    path.write_bytes(content)
    line = refusal(folder)
    assert line == f"{path}: it is no SQLite file: restore it from a backup"
    assert path.read_bytes() == content
    with pytest.raises(LedgerFileError, match="no SQLite file"):
        audit(folder, OPERATOR)


@each_kind
@pytest.mark.parametrize("share", [0.0, 0.0005, 0.1, 0.5, 0.9])
def test_a_file_that_was_cut_short_is_named(folder, kind, share):
    path = folder / KINDS[kind]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(LedgerFileError) as caught:
        audit(folder, OPERATOR)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "restore it" in line
    assert "\n" not in line
    path.write_bytes(whole)
    assert_whole(folder, 3)


@each_kind
def test_a_file_whose_last_bytes_are_missing_does_not_pass_the_audit(folder, kind):
    path = folder / KINDS[kind]
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(LedgerError) as caught:
        audit(folder, OPERATOR)
    assert "\n" not in str(caught.value)


@each_kind
def test_a_file_of_a_newer_version_is_named_and_not_touched(folder, kind):
    path = folder / KINDS[kind]
    newer = sqlite3.connect(path)
    newer.execute("UPDATE alembic_version SET version_num = 'ledger_0099'")
    newer.commit()
    newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    newer.close()
    before = path.read_bytes()
    line = f"{path} has version 'ledger_0099', this program knows up to {NEWEST[kind]}: update the"
    assert refusal(folder) == f"{line} program"
    with pytest.raises(LedgerFileError, match="ledger_0099"):
        audit(folder, OPERATOR)
    assert path.read_bytes() == before


@each_kind
def test_a_file_without_its_tables_is_named(folder, kind):
    path = folder / KINDS[kind]
    path.unlink()
    empty = sqlite3.connect(path)
    empty.execute(f"PRAGMA application_id = {APPLICATION_IDS[kind]}")
    empty.execute("CREATE TABLE something (x)")
    empty.commit()
    empty.close()
    line = f"{path}: its tables are not those of its version: restore it from a backup"
    assert refusal(folder) == line


def test_the_log_of_a_ledger_that_was_removed_is_not_taken_for_that_of_the_next(tmp_path):
    folder = filled_ledger(tmp_path / "ledger")
    kept = tmp_path / "kept"
    with Ledger(folder, OPERATOR) as ledger:
        ledger.append(Draft(payload=training_run(4)))
        shutil.copytree(folder, kept)
    # As a kill leaves it, and somebody who then deletes the two files.
    assert (kept / f"{LEDGER_FILE}-wal").stat().st_size > 0
    for name in KINDS.values():
        (kept / name).unlink()
    found_ledger(kept)
    assert_whole(kept, 0)


# Versions


@pytest.fixture
def made_anew(tmp_path):
    """A ledger of today, as the first migrations would have left it."""
    source = fill(tmp_path / "source")
    return first_version(source, tmp_path / "ledger")


@pytest.fixture
def kept(tmp_path):
    """A ledger that was made by the first version, long ago."""
    folder = tmp_path / "kept"
    shutil.copytree(VECTORS, folder)
    return folder


@pytest.mark.parametrize("which", ["made_anew", "kept"])
def test_a_ledger_of_the_first_version_is_brought_up_to_date_with_all_its_records(which, request):
    folder = request.getfixturevalue(which)
    for kind, name in KINDS.items():
        assert version_of(folder / name) == f"{kind}_0001"
    leaves, types = leaves_of(folder), sorted(payload_samples())
    with Ledger(folder, OPERATOR) as ledger:
        assert [leaf.encoded() for leaf in ledger.leaves()] == leaves
        for kind, name in KINDS.items():
            assert version_of(folder / name) == NEWEST[kind]
        payloads = {
            leaf.type: ledger.read(leaf.record, "to compare").payload
            for leaf in ledger.leaves()
            if leaf.type in types and ledger.status(leaf.record) != "erased"
        }
        assert payloads == {**payload_samples(), "training-run": training_run(3)}
        [erased] = ledger.history.erased_records
        with pytest.raises(ErasedError):
            ledger.read(erased, "to see that it is gone")
        standing = {one.id for one in data_sets.open_entries(ledger, "to compare")}
        assert standing == {f"review-{n}" for n in range(5)}
    size = len(leaves)
    assert audit(folder, OPERATOR).history.size == size
    with Ledger(folder, OPERATOR) as ledger:
        assert ledger.append(Draft(payload=training_run(4))) == [size]
        assert ledger.read(size, "to compare").payload == training_run(4)
    assert audit(folder, OPERATOR).history.size == size + 1


def test_who_may_only_read_is_told_how_a_ledger_is_brought_up_to_date(kept):
    with pytest.raises(LedgerFileError) as caught:
        audit(kept, OPERATOR)
    assert str(caught.value) == (
        f"{kept / LEDGER_FILE} has version ledger_0001, expected {NEWEST['ledger']}: open it for "
        "writing once (`foedus ledger show`) to bring it up to date"
    )
    assert version_of(kept / LEDGER_FILE) == "ledger_0001"


def test_several_processes_that_bring_a_ledger_up_to_date_at_once_do_it_once(kept):
    size = len(leaves_of(kept))
    children = [Child(open_once, kept) for _ in range(4)]
    assert [list(child.said()) for child in children] == [[("started",), (size,)]] * 4
    assert [child.status() for child in children] == [0] * 4
    assert audit(kept, OPERATOR).history.size == size
    for kind, name in KINDS.items():
        assert version_of(kept / name) == NEWEST[kind]


@each_kind
def test_an_upgrade_that_fails_leaves_the_file_as_it_was(kept, kind):
    path = kept / KINDS[kind]
    other = sqlite3.connect(path)
    # In the way of the second migration's last table.
    name = {"ledger": "read_log", "secrets": "witness"}[kind]
    other.execute(f"CREATE TABLE {name} (x)")
    other.commit()
    before = other.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    assert str(path) in refusal(kept)
    assert other.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall() == before
    assert version_of(path) == f"{kind}_0001"
    other.execute(f"DROP TABLE {name}")
    other.commit()
    other.close()
    with Ledger(kept, OPERATOR):
        assert version_of(path) == NEWEST[kind]


@each_kind
@pytest.mark.parametrize("upgraded", [False, True], ids=["made at once", "upgraded"])
def test_the_migrations_leave_exactly_the_tables_that_the_program_works_with(
    tmp_path, kind, upgraded
):
    path, plain = tmp_path / KINDS[kind], tmp_path / "plain"
    create(path, kind, f"{kind}_0001" if upgraded else "head")
    Database(path, kind).close()
    engine = create_engine(f"sqlite:///{plain}")
    TABLES[kind].create_all(engine)
    engine.dispose()
    assert tables_of(path) == tables_of(plain)
    made = create_engine(f"sqlite:///{path}")
    with made.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, TABLES[kind]) == []
    made.dispose()


def version_of(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    finally:
        connection.close()


def leaves_of(folder):
    connection = sqlite3.connect(folder / LEDGER_FILE)
    try:
        return [row[0] for row in connection.execute("SELECT leaf FROM records ORDER BY record")]
    finally:
        connection.close()


def tables_of(path):
    """All that SQLite knows of a file's tables, but for how they are written down."""
    connection = sqlite3.connect(path)
    try:
        tables = {}
        for schema, name, kind, _, without_row_id, strict in connection.execute(
            "PRAGMA table_list"
        ).fetchall():
            if schema != "main" or name.startswith("sqlite_") or name == "alembic_version":
                continue
            indexes = [
                (index[1:], connection.execute(f"PRAGMA index_xinfo('{index[1]}')").fetchall())
                for index in connection.execute(f"PRAGMA index_list('{name}')")
            ]
            tables[name] = (
                (kind, without_row_id, strict),
                connection.execute(f"PRAGMA table_xinfo('{name}')").fetchall(),
                connection.execute(f"PRAGMA foreign_key_list('{name}')").fetchall(),
                sorted(indexes),
            )
        return tables
    finally:
        connection.close()
