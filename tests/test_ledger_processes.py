"""A ledger that several processes use at once, and whose writers are killed at any moment."""

import signal

import pytest
from sqlalchemy import select

from blockchain.private import data_sets
from blockchain.private.audit import audit
from blockchain.private.database import Database
from blockchain.private.drafts import Draft
from blockchain.private.errors import RolledBackError
from blockchain.private.files import (
    LEDGER_FILE,
    SECRETS_FILE,
    LedgerFiles,
    check_witness,
    follow,
)
from blockchain.private.history import History
from blockchain.private.ledger import Ledger
from blockchain.private.record_types import TrainingRun
from blockchain.private.schema import blocks, entry_secrets, keys
from tests.ledger_cases import OPERATOR, filled_ledger, found_ledger, training_run
from tests.ledger_kills import KilledLedger, Tally
from tests.ledger_writer import (
    Child,
    append_runs,
    audit_again,
    die_before_the_block,
    die_founding,
    die_in_the_data_set,
    hold_the_lock,
    open_once,
    watch,
)

WITHOUT_END = 1 << 20
FILES = (LEDGER_FILE, SECRETS_FILE)


@pytest.fixture
def folder(tmp_path):
    return found_ledger(tmp_path / "ledger")


def rounds_in(folder):
    """The round of each training run, by the record's number."""
    with Ledger(folder, OPERATOR) as ledger:
        numbers = [leaf.record for leaf in ledger.leaves("training-run")]
        opened = ledger.read_all(numbers, "to compare")
        return {one.leaf.record: one.payload.round for one in opened}


def secrets_from(folder, size):
    """How many rows of secrets there are of records from a number on, and of entries."""
    database = Database(folder / SECRETS_FILE, "secrets")
    with database.reading() as connection:
        own = connection.execute(select(keys.c.record).where(keys.c.record >= size)).all()
        entries = connection.execute(select(entry_secrets.c.position)).all()
    database.close()
    return len(own), len(entries)


@pytest.mark.parametrize(("writers", "each", "size"), [(2, 40, 1), (4, 16, 1), (3, 40, 4)])
def test_what_several_writing_processes_acknowledge_is_there_once_each(folder, writers, each, size):
    children = [
        Child(append_runs, folder, 1000 * (number + 1), each, size) for number in range(writers)
    ]
    said = [list(child.said())[1:] for child in children]
    assert [child.kill() for child in children] == [0] * writers
    acknowledged = [pair for one in said for pair in one]
    assert len(acknowledged) == writers * each
    # Each number once, each round once, and nothing that nobody wrote.
    assert rounds_in(folder) == dict(acknowledged)
    assert sorted(number for number, _ in acknowledged) == list(range(1, writers * each + 1))
    assert audit(folder, OPERATOR).opened == writers * each


def test_the_blocks_of_several_writers_are_one_chain_in_which_they_take_turns(folder):
    with (
        Child(append_runs, folder, 1, WITHOUT_END) as one,
        Child(append_runs, folder, WITHOUT_END, WITHOUT_END) as other,
    ):
        first, second = [[child.next() for _ in range(25)][1:] for child in (one, other)]
    # Neither was through before the other began.
    assert min(first) < max(second)
    assert min(second) < max(first)
    files = LedgerFiles(folder, read_only=True)
    with files.ledger.reading() as connection:
        rows = connection.execute(select(blocks).order_by(blocks.c.height)).all()
    files.close()
    assert len(rows) >= 49
    assert [row.height for row in rows] == list(range(len(rows)))
    assert [row.size for row in rows] == list(range(1, len(rows) + 1))
    assert audit(folder, OPERATOR).history.height == len(rows)


def test_a_writer_that_has_the_ledger_open_builds_on_what_another_process_wrote(folder):
    with Ledger(folder, OPERATOR) as ledger:
        ledger.append(Draft(payload=training_run(1)))
        with Child(append_runs, folder, 50, 3) as child:
            assert [number for number, _ in list(child.said())[1:]] == [2, 3, 4]
        assert ledger.append(Draft(payload=training_run(2))) == [5]
        assert ledger.history.size == 6
    assert list(rounds_in(folder).values()) == [1, 50, 51, 52, 2]


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_that_a_killed_writer_acknowledged_is_lost_and_the_next_opening_works(
    tmp_path, seed
):
    tally = Tally()
    ledger = KilledLedger(tmp_path / "ledger", seed, tally)
    for _ in range(7):
        ledger.kill()
    ledger.count()
    assert (tally.kills, tally.opens) == (7, 7)
    assert tally.acknowledged > 20
    assert (tally.found, tally.lost) == (tally.acknowledged, 0)
    assert tally.unerased == 0
    assert tally.finished == tally.begun


def test_a_writer_killed_before_its_block_leaves_secrets_that_the_next_one_replaces(folder):
    with Ledger(folder, OPERATOR) as ledger:
        ledger.append(Draft(payload=training_run(1)))
    with Child(die_before_the_block, folder, 3) as child:
        assert child.status() == -signal.SIGKILL
    left, _ = secrets_from(folder, 2)
    assert left == 3 * 3
    # They do no harm: the ledger holds, opens, and has no record of theirs.
    assert audit(folder, OPERATOR).opened == 1
    assert rounds_in(folder) == {1: 1}
    assert secrets_from(folder, 2)[0] == left
    with Ledger(folder, OPERATOR) as ledger:
        [number] = ledger.append(Draft(payload=training_run(7)))
        assert number == 2
        assert ledger.read(2, "to compare").payload == training_run(7)
    assert secrets_from(folder, 3)[0] == 0
    assert audit(folder, OPERATOR).opened == 2


def test_secrets_that_a_killed_writer_left_are_not_taken_for_those_of_a_record_without(folder):
    with Ledger(folder, OPERATOR) as ledger:
        ledger.append(Draft(payload=training_run(1)))
    with Child(die_before_the_block, folder, 4) as child:
        assert child.status() == -signal.SIGKILL
    with Ledger(folder, OPERATOR) as ledger:
        # Records 2 and 3, which have no payload.
        ledger.erase("retention", record_numbers=[1])
        assert ledger.history.types[2:] == ["erase-pending", "erased"]
    assert secrets_from(folder, 0)[0] == 0
    audit(folder, OPERATOR)


def test_secrets_of_entries_that_never_were_are_replaced_by_those_of_the_next_data_set(folder):
    with Child(die_in_the_data_set, folder) as child:
        assert child.status() == -signal.SIGKILL
    assert secrets_from(folder, 0) == (3, 8)
    audit(folder, OPERATOR)
    with Ledger(folder, OPERATOR) as ledger:
        committed = data_sets.commit(ledger, "reviews", {"a": bytes(32), "b": bytes(32)})
        assert committed.positions == {"a": 0, "b": 1}
        assert [one.id for one in data_sets.open_entries(ledger, "to compare")] == ["a", "b"]
    assert secrets_from(folder, 0)[1] == 2
    audit(folder, OPERATOR)


def test_several_writers_killed_one_after_the_other_before_their_blocks_do_no_harm(folder):
    for payloads in (5, 1, 3):
        with Child(die_before_the_block, folder, payloads) as child:
            assert child.status() == -signal.SIGKILL
        assert secrets_from(folder, 1)[0] == 3 * payloads
    assert rounds_in(folder) == {}
    audit(folder, OPERATOR)


@pytest.mark.parametrize("kind", ["secrets", "ledger"])
def test_a_ledger_whose_beginning_was_killed_is_begun_by_the_next_call(tmp_path, kind):
    folder = tmp_path / "ledger"
    with Child(die_founding, folder, kind) as child:
        assert child.status() == -signal.SIGKILL
    assert not (folder / LEDGER_FILE).exists()
    with Ledger(found_ledger(folder), OPERATOR) as ledger:
        assert ledger.append(Draft(payload=training_run(1))) == [1]
        in_use = {f"{name}{end}" for name in FILES for end in ("", "-wal", "-shm")}
    assert {path.name for path in folder.iterdir()} - in_use <= {"ledger.lock"}
    assert audit(folder, OPERATOR).opened == 1


def test_blocks_that_come_while_a_ledger_is_opened_are_no_sign_of_an_older_file(folder):
    files, history = LedgerFiles(folder), History()
    with files.ledger.reading() as connection:
        follow(connection, history)
    with Child(append_runs, folder, 1, 3) as child:
        assert len(list(child.said())) == 4
    check_witness(files, history)
    files.close()
    # Whoever opens it later knows of them.
    files = LedgerFiles(folder)
    with pytest.raises(RolledBackError, match="was put in its place"):
        check_witness(files, history)
    files.close()


@pytest.mark.parametrize("reader", [watch, audit_again])
def test_a_reader_sees_whole_states_of_the_ledger_while_another_process_writes(folder, reader):
    with Ledger(folder, OPERATOR) as ledger:
        ledger.append(Draft(payload=training_run(1)))
    with Child(append_runs, folder, 10, WITHOUT_END, 3) as writing:
        writing.next()
        with Child(reader, folder) as watching:
            watching.next()
            seen = [watching.next() for _ in range(8)]
    sizes = [size for size, _ in seen]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 3
    with Ledger(folder, OPERATOR) as ledger:
        tree = ledger.history.tree
    assert all(root == tree.root(size) for size, root in seen)
    # Never a part of a block.
    assert all((size - 2) % 3 == 0 for size in sizes)


def test_a_killed_process_leaves_no_lock_behind(folder):
    with Child(hold_the_lock, folder / LEDGER_FILE, "ledger") as child:
        assert [child.next(), child.next()] == [("started",), ("locked",)]
        assert child.kill() == -signal.SIGKILL
        with Ledger(folder, OPERATOR) as ledger:
            assert ledger.append(Draft(payload=training_run())) == [1]


def test_a_reader_is_not_held_up_by_a_writer(tmp_path):
    folder = filled_ledger(tmp_path / "ledger")
    with Child(hold_the_lock, folder / LEDGER_FILE, "ledger") as holding:
        assert [holding.next(), holding.next()] == [("started",), ("locked",)]
        with Child(open_once, folder) as opening:
            assert list(opening.said()) == [("started",), (4,)]
        assert audit(folder, OPERATOR).opened == 3


def test_a_record_written_by_another_process_can_be_read_at_once(folder):
    with Ledger(folder, OPERATOR) as ledger, Child(append_runs, folder, 10, 10) as child:
        child.next()
        for number, round_number in child.said():
            payload = ledger.read(number, "to compare").payload
            assert isinstance(payload, TrainingRun)
            assert payload.round == round_number
