"""Erasure from a ledger: no file keeps a trace, and neither kill nor backup brings one back."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass

import pytest

from blockchain import transparency_log
from blockchain.merkle import organization_id
from blockchain.private import data_sets, database
from blockchain.private.audit import audit
from blockchain.private.backup import back_up, restore
from blockchain.private.database import Database
from blockchain.private.drafts import Draft
from blockchain.private.encoding import member_of
from blockchain.private.errors import (
    ErasedError,
    InvalidLedgerError,
    LedgerError,
    LedgerFileError,
    NotPermittedError,
    RecordRefusedError,
    RolledBackError,
)
from blockchain.private.files import LEDGER_FILE, SECRETS_FILE
from blockchain.private.founding import found
from blockchain.private.ledger import Ledger
from blockchain.private.policy import DEFAULT_RULES
from blockchain.private.record_types import Role
from tests.killed_eraser import ERASING, POSITIONS, RECORDS, RESTORING
from tests.ledger_cases import AUDITOR, OFFICER, OPERATOR, STRANGER, evidence, training_run

JOURNAL = "erasures.jsonl"
#: Is not erased.
KEPT = 5


@dataclass(frozen=True)
class Traces:
    """What must not be found of what was erased."""

    #: Stand in the files until then.
    stored: tuple[bytes, ...]
    #: Stand in no file as they are; what opens the stored ones.
    opening: tuple[bytes, ...]


@dataclass(frozen=True)
class Made:
    folder: object
    traces: Traces
    kept: Traces


def pieces(content):
    """A long content may lie in several pages."""
    return tuple(content[i : i + 16] for i in range(0, len(content) - 15, 16))


def traces_of(ledger, records=(), positions=()):
    """Read what there is of records and entries, by the ledger's own means."""
    stored, opening = [], []
    with ledger.files.ledger.reading() as connection:
        rows = connection.exec_driver_sql("SELECT record, nonce, ciphertext FROM payloads").all()
    for record, nonce, ciphertext in rows:
        if record in records:
            stored += [nonce, *pieces(ciphertext)]
    with ledger.files.secrets.reading() as connection:
        key_rows = connection.exec_driver_sql("SELECT * FROM keys").all()
        entry_rows = connection.exec_driver_sql("SELECT * FROM entry_secrets").all()
    for row in key_rows:
        if row.record in records:
            stored += pieces(row.sealed)
            opening += ledger.keyring.open_payload_key(row) or ()
    for record in records:
        opening += pieces(ledger.read(record, "to know what to look for").payload.canonical())
    for row in entry_rows:
        if row.position in positions:
            stored += [row.nonce, *pieces(row.ciphertext)]
    for entry in data_sets.open_entries(ledger, "to know what to look for"):
        if entry.position in positions:
            opening += [entry.id.encode(), entry.salt, entry.salt.hex().encode()]
    return Traces(tuple(stored), tuple(opening))


def found_in(folder, needles):
    """Which of them stand in any file of the folder, whatever it is."""
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return [needle for needle in needles if any(needle in content for content in contents)]


def is_there(folder, traces):
    """Whether a search finds them; pieces that go from one page to the next are not found."""
    return len(found_in(folder, traces.stored)) > 0.9 * len(traces.stored) > 9


def assert_no_trace(folder, traces):
    assert not found_in(folder, [*traces.stored, *traces.opening])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A ledger whose records fill pages of their own, and what stands in it."""
    folder = tmp_path_factory.mktemp("erasing") / "ledger"
    members = [member_of(OFFICER, Role.OFFICER), member_of(AUDITOR, Role.AUDITOR)]
    found(folder, organization_id("shop"), OPERATOR, members)
    contents = {f"customer-number-{n}": bytes([n]) * 32 for n in range(4)}
    with Ledger(folder, OPERATOR) as ledger:
        data_sets.commit(ledger, "records.csv", contents)
        for number in range(1, 5):
            drawn = tuple(range(number * 1000, number * 1000 + 3000))
            ledger.append(Draft(payload=training_run(number, drawn=drawn)))
        traces = traces_of(ledger, RECORDS, POSITIONS)
        kept = traces_of(ledger, [KEPT], [0])
    # Pages, free space and write-ahead log as they are in use: nothing is cleaned.
    return Made(folder, traces, kept)


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made.folder, tmp_path / "ledger")


def erase(folder, account=OPERATOR):
    with Ledger(folder, account) as ledger:
        return ledger.erase("unlearning", record_numbers=RECORDS, positions=POSITIONS)


# No trace


@pytest.mark.parametrize("is_open", [True, False], ids=["while open", "once closed"])
def test_no_file_holds_a_trace_of_what_was_erased(made, copy, is_open):
    with Ledger(copy, OPERATOR) as ledger:
        ledger.append(Draft(payload=training_run(9)))
        assert is_there(copy, made.traces)
        assert not found_in(copy, made.traces.opening)
        ledger.erase("unlearning", record_numbers=RECORDS, positions=POSITIONS)
        if is_open:
            assert_no_trace(copy, made.traces)
    assert_no_trace(copy, made.traces)
    # Found where it was not erased: the search finds what is there.
    assert is_there(copy, made.kept)


def test_commitments_stay_and_every_proof_still_leads_to_its_root(made, copy):
    with Ledger(copy, OPERATOR) as ledger:
        before, anchored = ledger.leaves(), ledger.history.tree.root()
        size, commitments = ledger.history.size, list(ledger.history.commitments)
        ledger.erase("unlearning", record_numbers=RECORDS, positions=POSITIONS)
        history, after = ledger.history, ledger.leaves()
        assert after[:size] == before
        assert all(after[number].sealed.commitment for number in RECORDS)
        assert history.commitments == commitments
        assert history.tree.root(size) == anchored
        for leaf in after:
            proof = history.tree.inclusion_proof(leaf.record)
            assert transparency_log.verify_inclusion(
                leaf.encoded(), leaf.record, history.size, history.tree.root(), proof
            )
        for known in history.data_sets:
            tree = data_sets.tree_of(history, known)
            assert tree.root() == known.root
        assert [entry.position for entry in data_sets.open_entries(ledger, "to see")] == [0, 2, 3]
        assert ledger.read(KEPT, "to see").payload.round == 4
    for account in (OPERATOR, OFFICER, AUDITOR, None):
        audit(copy, account)


def test_what_was_erased_is_said_to_be_and_cannot_be_read(copy):
    pending = erase(copy)
    for account in (OPERATOR, AUDITOR):
        with Ledger(copy, account) as ledger:
            for number in RECORDS:
                assert ledger.status(number) == "erased"
                with pytest.raises(ErasedError, match=f"was erased .record {pending}."):
                    ledger.read(number, "to see")
            assert ledger.leaf(pending + 1).body == {"pending": pending}


def test_an_officer_may_erase(made, copy):
    erase(copy, OFFICER)
    assert_no_trace(copy, made.traces)
    audit(copy, OFFICER)


def test_the_note_beside_the_ledger_names_leaves_by_number_and_hash_alone(copy):
    erase(copy)
    assert (copy / JOURNAL).stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in (copy / JOURNAL).read_text().splitlines()]
    assert [(line["kind"], line["number"]) for line in lines] == [
        ("record", 2),
        ("record", 3),
        ("entry", 1),
    ]
    with Ledger(copy, OPERATOR) as ledger:
        history = ledger.history
    assert [line["leaf"] for line in lines] == [
        history.tree.leaf(2).hex(),
        history.tree.leaf(3).hex(),
        history.commitments[1].hex(),
    ]
    assert all(set(line) == {"kind", "number", "leaf", "generation", "mac"} for line in lines)


# What is refused


@pytest.mark.parametrize(
    ("records", "positions", "said"),
    [
        ([], [], "it names nothing to erase"),
        ([0], [], "records: 0 has no payload"),
        ([1], [], "records: 1 is a data set: erase its entries"),
        ([6], [], "records: 6 has no payload"),
        ([2, 1000], [], "records: 1000 has no payload"),
        ([2], [4], "entries: 4 is no entry, or erased already"),
    ],
)
def test_an_erasure_of_what_cannot_be_erased_is_refused_whole(made, copy, records, positions, said):
    with Ledger(copy, OPERATOR) as ledger:
        with pytest.raises(RecordRefusedError, match=said):
            ledger.erase("unlearning", record_numbers=records, positions=positions)
        assert ledger.history.size == 6
        assert ledger.read(2, "to see").payload.round == 1
    assert not (copy / JOURNAL).exists()
    assert is_there(copy, made.traces)


def test_nothing_is_erased_twice(copy):
    erase(copy)
    with Ledger(copy, OPERATOR) as ledger:
        for records, positions in ((RECORDS[:1], ()), ((KEPT, *RECORDS), ()), ((), POSITIONS)):
            with pytest.raises(RecordRefusedError, match="erased already"):
                ledger.erase("again", record_numbers=records, positions=positions)
        assert ledger.read(KEPT, "to see").payload.round == 4


def test_a_member_that_may_not_erase_erases_nothing(made, copy):
    with pytest.raises(NotPermittedError, match="may not write erase-pending records"):
        erase(copy, AUDITOR)
    assert is_there(copy, made.traces)


def test_an_erasure_that_has_to_be_endorsed_erases_nothing_before(tmp_path):
    both = {Role.OPERATOR: 1, Role.OFFICER: 1}
    endorsements = {**DEFAULT_RULES.endorsements, "erase-pending": both}
    rules = DEFAULT_RULES.model_copy(update={"endorsements": endorsements})
    folder = tmp_path / "ledger"
    members = [member_of(OFFICER, Role.OFFICER)]
    found(folder, organization_id("shop"), OPERATOR, members, rules=rules)
    with Ledger(folder, OPERATOR) as ledger:
        [number] = ledger.append(Draft(payload=evidence()))
        traces = traces_of(ledger, [number])
        pending = ledger.erase("unlearning", record_numbers=[number])
        assert ledger.status(pending) == "pending"
        assert ledger.read(number, "to see").payload == evidence()
    assert not (folder / JOURNAL).exists()
    assert is_there(folder, traces)
    audit(folder, OPERATOR)
    with Ledger(folder, OFFICER) as ledger:
        ledger.endorse(pending)
        assert ledger.status(number) == "pending"
        assert number in ledger.history.erased_records
        assert not ledger.history.erasing
    assert_no_trace(folder, traces)
    audit(folder, OPERATOR)


@pytest.mark.parametrize(("file", "table"), [(SECRETS_FILE, "keys"), (LEDGER_FILE, "payloads")])
def test_what_is_deleted_by_hand_is_missed(copy, file, table):
    with closing(sqlite3.connect(copy / file)) as connection:
        connection.execute(f"DELETE FROM {table} WHERE record = 2")  # noqa: S608
        connection.commit()
    for account in (OPERATOR, None):
        with pytest.raises(InvalidLedgerError, match="it is missing, and was not erased") as caught:
            audit(copy, account)
        assert (caught.value.block, caught.value.record) == (2, 2)
        assert caught.value.field == f"{table}.record"
    with (
        Ledger(copy, OPERATOR) as ledger,
        pytest.raises(InvalidLedgerError, match="missing and was not erased"),
    ):
        ledger.read(2, "to see")


# Kills


def killed(*jobs):
    subprocess.run(
        [sys.executable, "-m", "tests.killed_eraser", *(str(part) for job in jobs for part in job)],
        check=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def cut_short(made, tmp_path_factory):
    """Copies of the ledger whose erasure was killed, by the step after which it was."""
    home = tmp_path_factory.mktemp("killed")
    folders = {step: shutil.copytree(made.folder, home / step) for step in ERASING}
    killed(*((step, folder, "-") for step, folder in folders.items()))
    return folders


@pytest.fixture(params=ERASING)
def unfinished(request, cut_short, tmp_path):
    return shutil.copytree(cut_short[request.param], tmp_path / "ledger")


def test_an_erasure_cut_short_anywhere_is_finished_at_the_next_opening(made, unfinished):
    with Ledger(unfinished, OPERATOR) as ledger:
        assert not ledger.history.erasing
        assert [ledger.status(number) for number in RECORDS] == ["erased", "erased"]
        assert [leaf.type for leaf in ledger.leaves()[-2:]] == ["erase-pending", "erased"]
        assert_no_trace(unfinished, made.traces)
    assert_no_trace(unfinished, made.traces)
    held = audit(unfinished, OPERATOR)
    assert held.history.size == 8
    assert is_there(unfinished, made.kept)


def test_an_erasure_cut_short_leaves_a_ledger_that_holds(unfinished):
    for account in (OPERATOR, AUDITOR, None):
        held = audit(unfinished, account)
        assert list(held.history.erasing) == [6]


def test_one_who_may_not_say_so_finishes_all_but_that(made, unfinished):
    with Ledger(unfinished, AUDITOR) as ledger:
        assert list(ledger.history.erasing) == [6]
        with pytest.raises(ErasedError):
            ledger.read(RECORDS[0], "to see")
    assert_no_trace(unfinished, made.traces)
    audit(unfinished, AUDITOR)
    with Ledger(unfinished, OFFICER) as ledger:
        assert not ledger.history.erasing
    audit(unfinished, OPERATOR)


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM " + sys.argv[2]).fetchall()
print("reading", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize(("file", "table"), [(LEDGER_FILE, "blocks"), (SECRETS_FILE, "keys")])
def test_an_erasure_while_another_process_reads_stays_pending_and_is_finished_later(
    made, copy, file, table, monkeypatch
):
    # Not half a minute.
    monkeypatch.setattr(database, "_LOCK_SECONDS", 0.2)
    monkeypatch.setattr(Database.checkpoint, "__defaults__", (0.2,))
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(copy / file), table],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout.readline() == "reading\n"
        with Ledger(copy, OPERATOR) as ledger:
            with pytest.raises(LedgerFileError) as caught:
                ledger.erase("unlearning", record_numbers=RECORDS, positions=POSITIONS)
            assert "\n" not in str(caught.value)
            assert f"{file}: another process reads it" in str(caught.value)
            assert list(ledger.history.erasing) == [6]
            with pytest.raises(ErasedError):
                ledger.read(RECORDS[0], "to see")
        with pytest.raises(LedgerFileError, match="another process reads it"):
            Ledger(copy, OPERATOR)
        reader.communicate("done\n")
    with Ledger(copy, OPERATOR) as ledger:
        assert not ledger.history.erasing
    assert_no_trace(copy, made.traces)
    audit(copy, OPERATOR)


# Older copies


@pytest.mark.parametrize(
    "account", [OPERATOR, OFFICER, AUDITOR], ids=["operator", "dpo", "auditor"]
)
@pytest.mark.parametrize("names", [[LEDGER_FILE, SECRETS_FILE], [SECRETS_FILE]], ids=str)
def test_older_files_put_back_lose_what_was_erased_before_anybody_reads(made, copy, account, names):
    erase(copy)
    for name in names:
        shutil.copyfile(made.folder / name, copy / name)
    assert found_in(copy, made.traces.stored)
    with Ledger(copy, account) as ledger:
        assert_no_trace(copy, made.traces)
        for number in RECORDS:
            with pytest.raises((ErasedError, InvalidLedgerError, NotPermittedError)):
                ledger.read(number, "to see")
    assert_no_trace(copy, made.traces)
    # Who may say that it is erased has done so, or does at the next opening.
    with Ledger(copy, OPERATOR) as ledger:
        assert [ledger.status(number) for number in RECORDS] == ["erased"] * len(RECORDS)
        size = ledger.history.size
    audit(copy, OPERATOR)
    with Ledger(copy, OPERATOR) as ledger:
        assert ledger.history.size == size


def test_a_stranger_that_opens_older_files_finds_nothing_of_what_was_erased(made, copy):
    erase(copy)
    for name in (LEDGER_FILE, SECRETS_FILE):
        shutil.copyfile(made.folder / name, copy / name)
    with pytest.raises(NotPermittedError):
        Ledger(copy, STRANGER)
    assert_no_trace(copy, made.traces)


def test_another_history_of_the_ledger_keeps_its_own_records_of_these_numbers(made, copy):
    with Ledger(copy, OPERATOR) as ledger:
        [number] = ledger.append(Draft(payload=training_run(7)))
        ledger.erase("unlearning", record_numbers=[number])
    for name in (LEDGER_FILE, SECRETS_FILE):
        shutil.copyfile(made.folder / name, copy / name)
    with Ledger(copy, OPERATOR) as ledger:
        assert ledger.append(Draft(payload=training_run(8))) == [number]
    with Ledger(copy, OPERATOR) as ledger:
        assert ledger.read(number, "to see").payload.round == 8
        ledger.erase("retention", record_numbers=[number])
    # Both are noted under one number, and each is kept out by its own note.
    assert [json.loads(line)["number"] for line in journal_lines(copy)] == [number, number]
    audit(copy, OPERATOR)


def journal_lines(folder):
    return (folder / JOURNAL).read_text().splitlines()


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text.replace('"number":2', '"number":-2'),
        lambda text: text.replace('"number":2', '"number":"2"'),
        lambda text: text.replace('"record"', '"block"', 1),
        lambda text: text.replace('"leaf":"', '"leaf":"0', 1),
        lambda text: text.replace('"kind"', '"sort"', 1),
        lambda text: text.replace("}", "", 1),
        lambda text: text.replace("}", ',"more":1}', 1),
        lambda text: "\n" + text,
        lambda text: "null\n" + text,
        lambda text: "\N{SNOWMAN}\n" + text,
        lambda text: "[" * 5000 + "\n" + text,
    ],
)
def test_an_altered_list_of_erasures_is_refused_in_one_line(copy, alter):
    erase(copy)
    path = copy / JOURNAL
    text = path.read_text()
    path.write_text(alter(text))
    assert path.read_text() != text
    with pytest.raises(LedgerFileError, match=r"erasures.jsonl:1 is no noted erasure") as caught:
        Ledger(copy, OPERATOR)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\n")
    with pytest.raises(LedgerFileError, match="is no noted erasure"):
        Ledger(copy, OPERATOR)
    path.write_text(text)
    Ledger(copy, OPERATOR).close()


@pytest.mark.parametrize("mac", ["00" * 32, None])
def test_the_ledger_never_says_of_what_no_member_noted_that_it_was_erased(copy, mac):
    erase(copy)
    noted = json.loads(journal_lines(copy)[0])
    with Ledger(copy, OPERATOR) as ledger:
        leaf, size = ledger.history.tree.leaf(KEPT).hex(), ledger.history.size
    forged = {**noted, "number": KEPT, "leaf": leaf, "mac": mac or noted["mac"]}
    with (copy / JOURNAL).open("a") as file:
        file.write(json.dumps(forged) + "\n")
    for _ in range(2):
        with pytest.raises(InvalidLedgerError, match=r"erasures\.mac: no member wrote this"):
            Ledger(copy, OPERATOR)
    with pytest.raises(InvalidLedgerError, match="missing, and was not erased"):
        audit(copy, OPERATOR)
    assert audit_size(copy) == size


def audit_size(folder):
    """Records in the file, whether or not it holds."""
    with closing(sqlite3.connect(folder / LEDGER_FILE)) as connection:
        return connection.execute("SELECT count(*) FROM records").fetchone()[0]


def test_a_line_that_a_kill_cut_short_is_no_obstacle(made, copy):
    erase(copy)
    lines = journal_lines(copy)
    with (copy / JOURNAL).open("a") as file:
        file.write(lines[0][:30])
    with Ledger(copy, OPERATOR) as ledger:
        ledger.erase("retention", record_numbers=[KEPT])
    assert journal_lines(copy)[:3] == lines
    assert json.loads(journal_lines(copy)[3])["number"] == KEPT
    assert len(journal_lines(copy)) == 4


# Backups


@pytest.fixture
def backup(copy, tmp_path):
    """A backup of the ledger from before anything was erased."""
    with Ledger(copy, OPERATOR) as ledger:
        back_up(ledger, tmp_path / "backup")
    return tmp_path / "backup"


def state(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if keeps(path)}


def keeps(path):
    """Whether a file says anything: a lock does not, nor a log that whoever read left empty."""
    return path.suffix != ".lock" and not path.name.endswith(("-shm", "-wal"))


def test_a_backup_restores_the_ledger_as_it_was(copy, backup):
    before = audit(backup, OPERATOR).history
    with Ledger(copy, OPERATOR) as ledger:
        ledger.append(Draft(payload=training_run(8)))
    saved = state(backup)
    held = restore(copy, backup, OPERATOR)
    assert held.history.head == before.head == audit(copy, OPERATOR).history.head
    assert state(backup) == saved
    assert set(state(copy)) == {LEDGER_FILE, SECRETS_FILE}
    for name in (LEDGER_FILE, SECRETS_FILE):
        assert (copy / name).stat().st_mode & 0o077 == 0


def test_a_backup_is_whole_while_the_ledger_is_in_use(made, copy, tmp_path):
    with Ledger(copy, OPERATOR) as ledger, Ledger(copy, OFFICER) as other:
        ledger.append(Draft(payload=training_run(8)))
        other.read  # noqa: B018
        back_up(ledger, tmp_path / "backup")
        ledger.append(Draft(payload=training_run(9)))
        with pytest.raises(LedgerFileError, match="is there already"):
            back_up(ledger, tmp_path / "backup")
    assert audit(tmp_path / "backup", OPERATOR).history.size == 7
    assert is_there(tmp_path / "backup", made.traces)


def test_what_was_erased_since_a_backup_is_erased_from_it_and_said_again(made, copy, backup):
    erase(copy)
    held = restore(copy, backup, OPERATOR)
    assert_no_trace(copy, made.traces)
    assert sorted(held.history.erased_records) == list(RECORDS)
    assert sorted(held.history.erased_entries) == list(POSITIONS)
    for account in (OPERATOR, OFFICER, AUDITOR, None):
        audit(copy, account)
    with Ledger(copy, AUDITOR) as ledger:
        assert ledger.read(KEPT, "to see").payload.round == 4
        with pytest.raises(ErasedError):
            ledger.read(RECORDS[0], "to see")
    # Nothing is said a third time.
    assert restore(copy, backup, OPERATOR).history.size == held.history.size


def test_a_backup_restores_into_an_empty_folder_with_its_own_list_of_erasures(made, copy, tmp_path):
    erase(copy)
    with Ledger(copy, OPERATOR) as ledger:
        back_up(ledger, tmp_path / "backup")
    restore(tmp_path / "new" / "ledger", tmp_path / "backup", OPERATOR)
    assert journal_lines(tmp_path / "new" / "ledger") == journal_lines(copy)
    for name in (LEDGER_FILE, SECRETS_FILE):
        shutil.copyfile(made.folder / name, tmp_path / "new" / "ledger" / name)
    Ledger(tmp_path / "new" / "ledger", OPERATOR).close()
    assert_no_trace(tmp_path / "new" / "ledger", made.traces)


def spoil(backup, file, statement):
    with closing(sqlite3.connect(backup / file)) as connection:
        connection.execute(statement)
        connection.commit()


SPOILED = {
    "no ledger": lambda backup: (backup / LEDGER_FILE).unlink(),
    "no secrets": lambda backup: (backup / SECRETS_FILE).unlink(),
    "empty": lambda backup: (backup / LEDGER_FILE).write_bytes(b""),
    "cut off": lambda backup: (backup / LEDGER_FILE).write_bytes(
        (backup / LEDGER_FILE).read_bytes()[:20_000]
    ),
    "no database": lambda backup: (backup / SECRETS_FILE).write_bytes(bytes(9000)),
    "exchanged": lambda backup: shutil.copyfile(backup / LEDGER_FILE, backup / SECRETS_FILE),
    "a signature": lambda backup: spoil(
        backup, LEDGER_FILE, "UPDATE blocks SET signature = zeroblob(65) WHERE height = 2"
    ),
    "a payload": lambda backup: spoil(
        backup, LEDGER_FILE, "UPDATE payloads SET ciphertext = zeroblob(99) WHERE record = 2"
    ),
    "a lacking key": lambda backup: spoil(
        backup, SECRETS_FILE, "DELETE FROM keys WHERE record = 5"
    ),
    "a read": lambda backup: spoil(backup, LEDGER_FILE, "UPDATE read_log SET purpose = 'x'"),
    "its list of erasures": lambda backup: (backup / JOURNAL).write_text("{}\n"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_an_incomplete_or_altered_backup_is_refused_and_the_ledger_is_as_it_was(copy, backup, how):
    erase(copy)
    before = state(copy)
    SPOILED[how](backup)
    with pytest.raises((LedgerFileError, InvalidLedgerError)) as caught:
        restore(copy, backup, OPERATOR)
    assert "\n" not in str(caught.value)
    assert state(copy) == before


def test_a_backup_of_another_ledger_is_refused_and_the_ledger_is_as_it_was(made, copy, tmp_path):
    before = state(copy)
    for account, name in ((OPERATOR, "north"), (STRANGER, "south")):
        folder = tmp_path / name
        found(folder, organization_id(name), account)
        with Ledger(folder, account) as ledger:
            back_up(ledger, tmp_path / f"backup of {name}")
    with pytest.raises(LedgerFileError, match="is a backup of another ledger than"):
        restore(copy, tmp_path / "backup of north", OPERATOR)
    with pytest.raises(NotPermittedError, match="is no member"):
        restore(copy, tmp_path / "backup of south", OPERATOR)
    assert state(copy) == before


def test_a_backup_that_is_not_accepted_leaves_the_ledger_as_it_was(copy, backup):
    erase(copy)
    before, sizes = state(copy), []

    def refuse(held):
        sizes.append(held.history.size)
        raise RolledBackError("size", "more was anchored")

    with pytest.raises(RolledBackError, match="more was anchored"):
        restore(copy, backup, OPERATOR, refuse)
    assert sizes == [6]
    assert state(copy) == before


def test_a_member_that_could_not_say_what_was_erased_restores_nothing(copy, backup):
    erase(copy)
    before = state(copy)
    with pytest.raises(LedgerError):
        restore(copy, backup, AUDITOR)
    assert state(copy) == before


def test_a_restoring_killed_at_any_move_is_done_by_the_next_one(made, copy, backup, tmp_path):
    erase(copy)
    folders = {step: shutil.copytree(copy, tmp_path / step) for step in RESTORING}
    killed(*((step, folder, backup) for step, folder in folders.items()))
    for folder in folders.values():
        held = restore(folder, backup, OPERATOR)
        assert held.history.size == 8
        assert_no_trace(folder, made.traces)
        assert not list(folder.glob(".restoring*"))
        audit(folder, OPERATOR)
        with Ledger(folder, OPERATOR) as ledger:
            ledger.append(Draft(payload=training_run(10)))
        audit(folder, AUDITOR)
