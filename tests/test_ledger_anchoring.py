"""A private ledger anchored on a real chain, through kills, losses and attempts to take it back."""

import json
import shutil
import subprocess
import sys

import pytest

from blockchain.errors import ChainError
from blockchain.merkle import organization_id
from blockchain.private.anchoring import (
    Stretch,
    anchor,
    check_anchor,
    outbox_rows,
    unanchored,
)
from blockchain.private.audit import audit
from blockchain.private.drafts import Draft
from blockchain.private.errors import InvalidLedgerError, RolledBackError
from blockchain.private.ledger import Ledger
from blockchain.private.record_types import ReadsSoFar
from tests.chain_samples import refusing
from tests.killed_anchor import STEPS
from tests.ledger_cases import found_ledger, training_run
from tests.signing_cases import NAMES, account_of

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]


@pytest.fixture(scope="module")
def anchors(travelling):
    """The contract, as each organization sends to it."""
    return {name: travelling.sent_by(name).anchors for name in NAMES}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each organization's ledger, which grows as the module's tests go on."""
    return {
        name: found_ledger(tmp_path_factory.mktemp(name) / "ledger", account_of(name), name)
        for name in NAMES
    }


def opened(folders, name):
    return Ledger(folders[name], account_of(name))


def grown(ledger, count=1):
    for _ in range(count):
        ledger.append(Draft(payload=training_run(ledger.history.size)))


def last(anchors, name):
    return anchors[name].last(organization_id(name))


def test_a_ledger_is_anchored_as_it_grows_and_what_is_left_over_is_stated(anchors, folders):
    with opened(folders, "east") as ledger:
        for count in (0, 1, 5, 2):
            grown(ledger, count)
            left = ledger.history.size - last(anchors, "east").size
            assert unanchored(ledger, last(anchors, "east")).records == left
            made = anchor(ledger, anchors["east"])
            stands = last(anchors, "east")
            assert (made.size, made.root, made.block) == (stands.size, stands.root, stands.block)
            assert stands.root == ledger.history.tree.root()
            assert unanchored(ledger, stands) == Stretch(0, 0)
            assert anchor(ledger, anchors["east"]) is None
        rows = outbox_rows(ledger)
    assert [row.state for row in rows] == ["confirmed"] * 4
    assert all(len(row.transaction) == 32 for row in rows)
    assert audit(folders["east"], account_of("east")).history.size == rows[-1].size


def test_the_end_of_the_log_of_reads_stands_under_the_anchored_root(anchors, folders):
    with opened(folders, "east") as ledger:
        grown(ledger)
        ledger.read(ledger.history.size - 1, "to see what was trained")
        anchor(ledger, anchors["east"])
        noted = ledger.leaves(ReadsSoFar.record_type)[-1].part()
        assert noted.count == len(ledger.reads())
        assert ledger.history.size == last(anchors, "east").size


@pytest.mark.parametrize("step", STEPS)
def test_an_anchor_cut_short_by_a_kill_is_made_once(anchors, folders, travelling, step):
    with opened(folders, "north") as ledger:
        grown(ledger)
        if step == STEPS[0]:
            anchor(ledger, anchors["north"])
            grown(ledger)
        size = ledger.history.size
    before = anchors["north"].history(organization_id("north"))
    settings = json.dumps(travelling.settings.model_dump(mode="json"))
    arguments = [settings, travelling.folder, folders["north"], "north", step]
    died = subprocess.run(
        [sys.executable, "-m", "tests.killed_anchor", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert died.returncode == 9, died.stderr
    with opened(folders, "north") as ledger:
        assert ledger.history.size == size
        anchor(ledger, anchors["north"])
        assert {row.state for row in outbox_rows(ledger)} == {"confirmed"}
    after = anchors["north"].history(organization_id("north"))
    assert [event.anchor.size for event in after[len(before) :]] == [size]
    assert audit(folders["north"], account_of("north")).history.size == size


def test_a_chain_that_does_not_answer_leaves_the_anchor_for_the_next_try(
    anchors, folders, travelling
):
    down = refusing(
        travelling.settings, lambda request: request["method"] == "eth_sendRawTransaction"
    )
    with opened(folders, "south") as ledger, down as settings:
        grown(ledger, 2)
        through = travelling.chain.__class__.connect(
            settings, travelling.chain.addresses, account_of("south"), travelling.folder
        )
        with pytest.raises(ChainError):
            anchor(ledger, through.anchors)
        [left] = outbox_rows(ledger)
        assert (left.state, left.size) == ("sent", ledger.history.size)
        assert last(anchors, "south").size == 0
        # Writing goes on meanwhile.
        grown(ledger)
        made = anchor(ledger, anchors["south"])
        assert [row.size for row in outbox_rows(ledger)] == [made.size] == [ledger.history.size]


def test_a_ledger_cut_short_is_caught_against_its_anchor(anchors, folders, tmp_path):
    with opened(folders, "west") as ledger:
        grown(ledger, 2)
    copy = shutil.copytree(folders["west"], tmp_path / "older")
    with opened(folders, "west") as ledger:
        grown(ledger)
        anchor(ledger, anchors["west"])
    # Both files of an earlier day, so that nothing in them tells of a later one.
    older = audit(copy, account_of("west")).history
    with pytest.raises(RolledBackError, match="are anchored in block"):
        check_anchor(older, last(anchors, "west"))
    with Ledger(copy, account_of("west")) as ledger:
        with pytest.raises(RolledBackError, match="an older file was put in place"):
            anchor(ledger, anchors["west"])
        # Grown again to the same size, it is another ledger.
        grown(ledger)
        with pytest.raises(InvalidLedgerError, match="the ledger was rewritten"):
            anchor(ledger, anchors["west"])
    assert last(anchors, "west").root == audit(folders["west"]).history.tree.root()


def test_another_organizations_anchor_is_not_taken_for_ones_own(anchors, folders):
    with opened(folders, "west") as ledger:
        foreign = last(anchors, "east")
        with pytest.raises(InvalidLedgerError):
            check_anchor(ledger.history, foreign)
