"""Commitments to the training set: what was in it, what is not, and what must not come back."""

import hashlib
import shutil
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockchain import transparency_log
from blockchain.private import data_sets
from blockchain.private.audit import audit
from blockchain.private.drafts import Draft
from blockchain.private.encoding import TOMBSTONE_LEAF, entry_commitment
from blockchain.private.errors import EntryBarredError, LedgerError, NotPermittedError
from blockchain.private.ledger import Ledger
from tests.ledger_cases import OFFICER, OPERATOR, found_ledger, training_run

SOURCE = "records.csv"
REQUEST = bytes([7]) * 32


def content(*names, version=0):
    return {name: hashlib.sha256(f"{name} {version}".encode()).digest() for name in names}


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    return found_ledger(tmp_path_factory.mktemp("sets") / "ledger")


@pytest.fixture
def ledger(founded, tmp_path):
    with Ledger(shutil.copytree(founded, tmp_path / "ledger"), OPERATOR) as opened:
        yield opened


def raw_leaves(ledger, known):
    """A set's leaves, from the rows and bodies alone."""
    with ledger.files.ledger.reading() as connection:
        rows = connection.exec_driver_sql("SELECT commitment FROM entries ORDER BY position").all()
    leaves = [row.commitment for row in rows][: known.size]
    for leaf in ledger.leaves("tombstone"):
        if leaf.record < known.record:
            for position in leaf.body["positions"]:
                leaves[position] = TOMBSTONE_LEAF
    return leaves


def assert_rebuilt(ledger):
    """Every set ever committed to has the root that its leaves make, now and then."""
    history = ledger.history
    for known in history.data_sets:
        leaves = raw_leaves(ledger, known)
        assert known.root == transparency_log.root(leaves)
        tree = data_sets.tree_of(history, known)
        assert tree.root() == known.root
        for position, leaf in enumerate(leaves):
            proof = tree.inclusion_proof(position)
            assert transparency_log.verify_inclusion(leaf, position, known.size, known.root, proof)


def standing(ledger):
    removed = ledger.history.removed
    return {
        entry.id: (entry.position, entry.digest)
        for entry in data_sets.open_entries(ledger, "to compare")
        if entry.position not in removed
    }


def assert_committed(ledger, training_set, records):
    """The ledger stands for exactly these records, and the set names their leaves."""
    here = standing(ledger)
    assert {name: digest for name, (_, digest) in here.items()} == records
    assert training_set.positions == {name: position for name, (position, _) in here.items()}
    assert training_set.record == ledger.history.data_sets[-1].record
    assert ledger.history.data_sets[-1].root == ledger.history.entries.root()


def test_a_set_is_committed_to_record_by_record(ledger):
    records = content("a", "b", "c")
    committed = data_sets.commit(ledger, SOURCE, records)
    assert_committed(ledger, committed, records)
    assert_rebuilt(ledger)
    history = ledger.history
    for entry in data_sets.open_entries(ledger, "to see"):
        assert history.commitments[entry.position] == entry_commitment(
            entry.salt, entry.id, records[entry.id]
        )
    assert len({entry.salt for entry in data_sets.open_entries(ledger, "to see")}) == 3
    assert ledger.read(committed.record, "to see").payload.source == SOURCE


def test_an_unchanged_set_is_no_new_record(ledger):
    records = content("a", "b", "c")
    first = data_sets.commit(ledger, SOURCE, records)
    size = ledger.history.size
    again = data_sets.commit(ledger, "another name", dict(reversed(records.items())))
    assert again == first
    assert ledger.history.size == size


def test_new_records_get_leaves_behind_those_that_are_there(ledger):
    first = data_sets.commit(ledger, SOURCE, content("b", "c"))
    records = content("a", "b", "c")
    second = data_sets.commit(ledger, SOURCE, records)
    assert_committed(ledger, second, records)
    assert second.positions == {**first.positions, "a": 2}
    assert not ledger.leaves("tombstone")
    assert_rebuilt(ledger)


def test_a_record_with_another_content_gets_a_new_leaf_and_the_old_one_a_tombstone(ledger):
    first = data_sets.commit(ledger, SOURCE, content("a", "b"))
    records = {**content("a", "b"), **content("a", version=1)}
    second = data_sets.commit(ledger, SOURCE, records)
    assert_committed(ledger, second, records)
    assert second.positions["a"] == 2
    assert set(ledger.history.removed) == {first.positions["a"]}
    assert_rebuilt(ledger)
    # Not forgotten: its first content may come back.
    assert data_sets.barred(ledger, ["a"]) == set()
    data_sets.commit(ledger, SOURCE, content("a", "b"))
    assert_rebuilt(ledger)


def test_records_left_out_get_tombstones_and_may_come_back(ledger):
    first = data_sets.commit(ledger, SOURCE, content("a", "b", "c"))
    second = data_sets.commit(ledger, SOURCE, content("b"))
    assert_committed(ledger, second, content("b"))
    assert set(ledger.history.removed) == {first.positions["a"], first.positions["c"]}
    [tombstone] = ledger.leaves("tombstone")
    details = ledger.read(tombstone.record, "to see").payload
    assert (bytes.fromhex(details.request), details.suppressed) == (data_sets.NO_REQUEST, ())
    third = data_sets.commit(ledger, SOURCE, content("a", "b"))
    assert_committed(ledger, third, content("a", "b"))
    assert third.positions["a"] == 3
    assert_rebuilt(ledger)


def test_a_set_may_be_empty(ledger):
    empty = data_sets.commit(ledger, SOURCE, {})
    assert_committed(ledger, empty, {})
    assert data_sets.commit(ledger, SOURCE, {}) == empty
    data_sets.commit(ledger, SOURCE, content("a"))
    assert_committed(ledger, data_sets.commit(ledger, SOURCE, {}), {})
    assert_rebuilt(ledger)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 1), max_size=6),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_is_committed_stands_and_every_earlier_root_can_be_rebuilt(
    founded, tmp_path_factory, steps
):
    folder = shutil.copytree(founded, tmp_path_factory.mktemp("steps") / "ledger")
    with Ledger(folder, OPERATOR) as ledger:
        for step in steps:
            records = {}
            for name, version in step.items():
                records |= content(name, version=version)
            assert_committed(ledger, data_sets.commit(ledger, SOURCE, records), records)
        assert_rebuilt(ledger)
    audit(folder, OPERATOR)


# Forgotten


def test_a_forgotten_record_is_out_of_the_next_set_and_must_not_come_back(ledger):
    first = data_sets.commit(ledger, SOURCE, content("a", "b", "c"))
    assert data_sets.bury(ledger, ["b"], request=REQUEST, since_round=4) == [1]
    for records in (content("a", "b", "c"), content("b", version=1)):
        with pytest.raises(EntryBarredError, match="1 of the records were forgotten"):
            data_sets.commit(ledger, SOURCE, records)
    second = data_sets.commit(ledger, SOURCE, content("a", "c"))
    # Not the set of before, which still holds it.
    assert second.record != first.record
    assert_committed(ledger, second, content("a", "c"))
    assert data_sets.commit(ledger, SOURCE, content("a", "c")) == second
    assert_rebuilt(ledger)
    [tombstone] = ledger.leaves("tombstone")
    details = ledger.read(tombstone.record, "to see").payload
    assert (details.request, details.since_round) == (REQUEST.hex(), 4)
    assert tombstone.body == {"positions": [1]}


def test_barred_ids_are_found_after_what_opened_their_entries_was_erased(ledger):
    data_sets.commit(ledger, SOURCE, content("a", "b", "c"))
    positions = data_sets.bury(ledger, ["a", "c"], request=REQUEST)
    ledger.erase("unlearning", positions=positions)
    assert [entry.id for entry in data_sets.open_entries(ledger, "to see")] == ["b"]
    assert data_sets.barred(ledger, ["a", "b", "c", "d", "A", ""]) == {"a", "c"}
    assert data_sets.barred(ledger, []) == set()
    with pytest.raises(EntryBarredError, match="2 of the records were forgotten"):
        data_sets.commit(ledger, SOURCE, content("a", "b", "c"))
    with Ledger(ledger.folder, OFFICER) as other:
        assert data_sets.barred(other, ["a", "b"]) == {"a"}
    assert_rebuilt(ledger)


def test_only_records_that_are_in_the_set_are_forgotten(ledger):
    data_sets.commit(ledger, SOURCE, content("a", "b"))
    size = ledger.history.size
    with pytest.raises(LedgerError, match="not in the training set: c, d"):
        data_sets.bury(ledger, ["a", "d", "c"], request=REQUEST)
    assert ledger.history.size == size
    data_sets.bury(ledger, ["a"], request=REQUEST)
    with pytest.raises(LedgerError, match="not in the training set: a"):
        data_sets.bury(ledger, ["a"], request=REQUEST)


def test_one_who_may_not_write_data_sets_commits_to_none(ledger):
    data_sets.commit(ledger, SOURCE, content("a"))
    with Ledger(ledger.folder, OFFICER) as other:
        with pytest.raises(NotPermittedError, match="may not write data-set records"):
            data_sets.commit(other, SOURCE, content("b"))
        assert other.history.size == 2


# Two at once

COMMITTER = """
import sys
from pathlib import Path
from blockchain.private import data_sets
from blockchain.private.ledger import Ledger
from tests.ledger_cases import OPERATOR
from tests.test_ledger_data_sets import content

name = sys.argv[2]
with Ledger(Path(sys.argv[1]), OPERATOR) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(5):
        data_sets.commit(ledger, name, content(f"{name}{number}", "common"))
"""


def test_two_writers_that_commit_at_once_leave_one_history_of_whole_sets(ledger):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", COMMITTER, str(ledger.folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("x", "y")
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    here = standing(ledger)
    assert set(here) in ({"x4", "common"}, {"y4", "common"})
    assert here["common"] == (here["common"][0], content("common")["common"])
    assert len(ledger.history.data_sets) == 10
    assert_rebuilt(ledger)
    held = audit(ledger.folder, OPERATOR)
    assert held.history.entries.root() == ledger.history.data_sets[-1].root


def test_a_record_forgotten_while_another_commits_does_not_come_back(ledger, monkeypatch):
    data_sets.commit(ledger, SOURCE, content("a", "b"))
    look, left = data_sets.open_entries, ["b"]

    def forgotten_meanwhile(opened, purpose):
        found = look(opened, purpose)
        while left:
            with Ledger(ledger.folder, OFFICER) as other:
                data_sets.bury(other, [left.pop()], request=REQUEST)
        return found

    monkeypatch.setattr(data_sets, "open_entries", forgotten_meanwhile)
    with pytest.raises(EntryBarredError):
        data_sets.commit(ledger, SOURCE, content("a", "b", "c"))
    assert not left
    assert set(standing(ledger)) == {"a"}


def written_twice(ledger):
    with ledger.decided() as writer:
        writer.append(Draft(payload=training_run(1)))
        writer.append(Draft(payload=training_run(2)))


def test_one_block_is_written_under_the_lock_and_no_second_one(ledger):
    size = ledger.history.size
    with pytest.raises(LedgerError, match="a second one needs another"):
        written_twice(ledger)
    # Refused, the first is not there either, and the ledger goes on.
    assert ledger.history.size == size
    ledger.append(Draft(payload=training_run(3)))
    assert ledger.history.size == size + 1
    audit(ledger.folder, OPERATOR)
