"""An organization asks that records be forgotten: its ledger first, then a real chain."""

import shutil
from dataclasses import replace

import pytest
from eth_abi.abi import encode

from blockchain.errors import ChainError
from blockchain.merkle import organization_id
from blockchain.private import data_sets
from blockchain.private.audit import audit
from blockchain.private.record_types import TombstoneDetails, UnlearningRequest
from blockchain.unlearning_messages import (
    Cancellation,
    RequestState,
    UnlearningScope,
    subject_commitment,
)
from blockchain.unlearning_requests import UnlearningRequests
from client_app.ledger_opening import open_ledger
from client_app.own_ledger import OwnLedger
from client_app.own_record import OwnRecord
from client_app.own_request import Standing
from client_app.own_requests import (
    RequestError,
    UnknownRecordsError,
    ask,
    bring,
    known_tasks,
    own_requests,
)
from llm.records import Record
from strategies.home import ledger_folder, organization_folder
from tests.chain_samples import GENESIS, digest, fresh_task
from tests.signing_cases import account_of
from tests.small_federation import KilledError, small_settings
from tests.travelling_chain import store_key
from tests.unlearning_cases import signed

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]

EAST = account_of("east")
DAY = 86_400
MARKER = "Wintermärchen-4711"
RECORDS = [
    Record(id=f"review-{n}", prompt=f"{MARKER}, number {n}", completion="good") for n in range(8)
]


@pytest.fixture(scope="module")
def task(travelling):
    """A task whose second round is open."""
    task = fresh_task(travelling.chain)
    travelling.chain.open_round(task, 1, GENESIS)
    travelling.chain.void_round(task, 1)
    travelling.chain.open_round(task, 2, GENESIS)
    return task


@pytest.fixture
def chain(travelling):
    """The chain as the organization pays for it."""
    return travelling.sent_by("east")


@pytest.fixture(scope="module")
def founded(tmp_path_factory, travelling):
    """A home in whose one ledger a training set is committed to."""
    home = travelling.home(tmp_path_factory.mktemp("home"))
    store_key(home / "organizations" / "east" / "keys", "officer", account_of("officer").key)
    with OwnLedger(small_settings(home=str(home)), "east", EAST, travelling.chain) as own:
        own.committed(RECORDS)
    return home


@pytest.fixture
def home(founded, tmp_path):
    """A copy of it."""
    return shutil.copytree(founded, tmp_path / "home")


@pytest.fixture
def own(home, chain):
    """The organization's ledger, open."""
    with OwnLedger(small_settings(home=str(home)), "east", EAST, chain) as opened:
        yield opened


@pytest.fixture
def ledger(own):
    return own.ledger


@pytest.fixture
def asking(ledger, chain, task):
    """Ask that records be forgotten, or with none all of them."""

    def asked(*ids, account=EAST, seconds=7 * DAY, method="exact"):
        scope = UnlearningScope.RECORDS if ids else UnlearningScope.ORGANIZATION
        return ask(
            ledger,
            chain,
            account,
            "east",
            task,
            scope=scope,
            record_ids=ids,
            method=method,
            seconds=seconds,
            now=chain.now(),
        )

    return asked


@pytest.fixture
def killed(asking, monkeypatch):
    """Ask, and be killed before the chain is asked."""

    def kill(*_):
        raise KilledError

    def asked(*ids, **more):
        with monkeypatch.context() as dying:
            dying.setattr(UnlearningRequests, "ask", kill)
            with pytest.raises(KilledError):
                asking(*ids, **more)

    return asked


def written(ledger):
    """The requests that the ledger holds."""
    numbers = ledger.payloads_left(UnlearningRequest.record_type)
    return [opened.payload for opened in ledger.read_all(numbers, "test")]


def position_of(ledger):
    return {entry.id: entry.position for entry in data_sets.open_entries(ledger, "test")}


def allowed(own):
    return {record.id for record in own.allowed(RECORDS)}


# Asking


def test_a_request_is_in_the_ledger_and_on_the_chain_and_the_salt_opens_its_commitment(
    asking, ledger, chain, task
):
    positions = position_of(ledger)
    asked = asking("review-5", "review-2", method="fast")
    assert asked.positions == tuple(sorted(positions[one] for one in ("review-2", "review-5")))
    stored = chain.unlearning.request_of(asked.id)
    assert (stored, stored.state) == (asked.stored, RequestState.OPEN)
    said = stored.request
    assert said.subject == subject_commitment(asked.salt, UnlearningScope.RECORDS, asked.positions)
    assert (said.task, said.organization) == (task, organization_id("east"))
    [payload] = written(ledger)
    assert payload == UnlearningRequest(
        request=asked.id.hex(),
        scope="records",
        method="fast",
        positions=asked.positions,
        salt=asked.salt.hex(),
        deadline=said.deadline,
    )
    assert own_requests(ledger, chain, "east", [task]) == [asked]
    assert asked.standing(chain.now()) is Standing.OPEN
    assert asked.standing_in_words(said.deadline - 2 * DAY - 3600) == "open, 2 days 1 hour left"


def test_what_is_to_be_forgotten_is_barred_at_once_by_the_block_that_asks(
    asking, own, ledger, task
):
    height = ledger.history.height
    asked = asking("review-1", "review-3")
    assert allowed(own) == {record.id for record in RECORDS} - {"review-1", "review-3"}
    assert ledger.history.height == height + 1
    [(tombstone, details)] = data_sets.tombstones(ledger, "test")
    assert tombstone.positions == asked.positions
    assert asked.records == 2
    assert isinstance(details, TombstoneDetails)
    # Round 2 may have drawn already.
    assert (details.request, details.task, details.since_round) == (asked.id.hex(), task.hex(), 3)
    audit(ledger.folder, EAST)


def test_two_requests_stand_beside_each_other_the_older_first(asking, ledger, chain, task, own):
    first, second = asking("review-0"), asking("review-1")
    assert first.salt != second.salt
    assert own_requests(ledger, chain, "east", [task]) == [first, second]
    assert allowed(own) == {f"review-{n}" for n in range(2, 8)}


def test_every_leaf_that_a_record_ever_had_is_asked_about(asking, own, ledger):
    old = position_of(ledger)["review-4"]
    changed = [replace(one, completion="bad") if one.id == "review-4" else one for one in RECORDS]
    new = own.committed(changed).positions["review-4"]
    asked = asking("review-4")
    assert asked.positions == (old, new)
    [_, (tombstone, _)] = data_sets.tombstones(ledger, "test")
    assert tombstone.positions == (new,)
    assert asked.records == 1
    audit(ledger.folder, EAST)


def test_nothing_of_a_record_is_in_what_is_sent_to_the_chain(asking, chain):
    before = chain.height()
    asked = asking("review-6", "review-7")
    blocks = range(before + 1, chain.height() + 1)
    sent = [
        transaction
        for block in blocks
        for transaction in chain.node.eth.get_block(block, full_transactions=True)["transactions"]
    ]
    [transaction] = sent
    calldata = bytes(transaction["input"])
    for secret in (asked.salt, b"review", MARKER.encode(), b"east"):
        assert secret not in calldata
    struct = tuple(asked.request.values().values())
    types = ("(bytes32,bytes32,bytes32,bytes32,uint8,uint64)", "bytes")
    signature = signed(chain, asked.request, "east")
    # All that there is, besides the function's name: no room for anything else.
    assert calldata[4:] == encode(types, (struct, signature))


# All of an organization's data


def test_a_withdrawal_bars_everything_and_names_no_leaf(
    asking, own, ledger, chain, task, monkeypatch
):
    monkeypatch.setattr(data_sets, "_TOMBSTONE_RECORDS", 3)
    height = ledger.history.height
    asked = asking()
    assert (asked.positions, asked.records) == ((), len(RECORDS))
    assert asked.request.subject == subject_commitment(asked.salt, UnlearningScope.ORGANIZATION, ())
    assert allowed(own) == set()
    # More than one tombstone holds, and yet one block.
    assert len(data_sets.tombstones(ledger, "test")) == 3
    assert ledger.history.height == height + 1
    assert own_requests(ledger, chain, "east", [task]) == [asked]
    audit(ledger.folder, EAST)
    with pytest.raises(RequestError, match=f"forgotten already, by request 0x{asked.id.hex()}: op"):
        asking()
    chain.unlearning.cancel(asked.id, signed(chain, Cancellation(asked.id), "east"))
    # Nothing is left to be barred, but what was trained on may still be asked about.
    assert asking().records == 0


# Refused


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (("review-1", "nobody's"), 'no record "nobody\'s" of the training set'),
        (("d", "c", "b", "a", "e"), "no record 'a', 'b', 'c' and 2 more of the training set"),
        (("review-1", "review-2", "review-1"), "named twice: 'review-1'"),
    ],
)
def test_records_that_nobody_knows_or_named_twice_are_refused(asking, ledger, chain, ids, said):
    size, height = ledger.history.size, chain.height()
    with pytest.raises(UnknownRecordsError) as caught:
        asking(*ids)
    assert str(caught.value) == said
    assert (ledger.history.size, chain.height()) == (size, height)


def test_what_was_forgotten_already_is_refused_and_the_request_named(asking, ledger):
    asked = asking("review-1", "review-2")
    size = ledger.history.size
    with pytest.raises(RequestError) as caught:
        asking("review-3", "review-2")
    assert str(caught.value) == (f"forgotten already: 'review-2', by request 0x{asked.id.hex()}")
    assert ledger.history.size == size


def test_what_a_request_that_came_to_nothing_barred_may_be_asked_about_again(
    asking, ledger, chain, task, own
):
    first = asking("review-1", "review-2")
    chain.unlearning.cancel(first.id, signed(chain, Cancellation(first.id), "east"))
    again = asking("review-2", "review-3")
    assert again.positions == tuple(
        sorted(position_of(ledger)[n] for n in ("review-2", "review-3"))
    )
    assert again.records == 2
    assert own_requests(ledger, chain, "east", [task])[1].positions == again.positions
    # The records were barred all the while.
    assert allowed(own).isdisjoint({"review-1", "review-2", "review-3"})
    with pytest.raises(RequestError, match=f"'review-2', by request 0x{again.id.hex()}"):
        asking("review-2")


def test_what_cannot_be_meant_is_refused(asking, ledger, chain, task):
    size, now = ledger.history.size, chain.now()
    with pytest.raises(RequestError, match="a deadline 0 seconds from now"):
        asking("review-1", seconds=0)
    for ids, scope in (([], UnlearningScope.RECORDS), (["a"], UnlearningScope.ORGANIZATION)):
        more = {"scope": scope, "record_ids": ids, "method": "exact", "seconds": DAY, "now": now}
        with pytest.raises(UnknownRecordsError, match="forgotten"):
            ask(ledger, chain, EAST, "east", task, **more)
        with pytest.raises(ChainError, match="RoundsUnknownTask"):
            ask(
                ledger,
                chain,
                EAST,
                "east",
                bytes(32),
                **{**more, "record_ids": ["review-1"], "scope": UnlearningScope.RECORDS},
            )
    assert ledger.history.size == size


def test_an_organization_without_a_training_set_has_nothing_to_ask_for(chain, task, tmp_path):
    store_key(tmp_path / "organizations" / "west" / "keys", "officer", account_of("officer").key)
    with open_ledger(tmp_path, "west", account_of("west"), chain) as ledger:
        for scope, ids in ((UnlearningScope.RECORDS, ["a"]), (UnlearningScope.ORGANIZATION, [])):
            with pytest.raises(RequestError, match="west has not committed to a training set"):
                ask(
                    ledger,
                    chain,
                    account_of("west"),
                    "west",
                    task,
                    scope=scope,
                    record_ids=ids,
                    method="exact",
                    seconds=DAY,
                    now=chain.now(),
                )


def test_a_training_set_that_changes_meanwhile_is_asked_about_again(
    asking, own, home, chain, monkeypatch
):
    look, left = data_sets.open_entries, ["review-1"]

    def forgotten_meanwhile(opened, purpose):
        found = look(opened, purpose)
        while left:
            with open_ledger(home, "east", EAST, chain) as other:
                data_sets.bury(other, [left.pop()], request=digest("other"))
        return found

    monkeypatch.setattr(data_sets, "open_entries", forgotten_meanwhile)
    with pytest.raises(RequestError, match="meanwhile: ask again"):
        asking()
    assert written(own.ledger) == []
    assert len(allowed(own)) == len(RECORDS) - 1
    assert asking().records == len(RECORDS) - 1


# Brought later


def test_a_request_whose_asker_was_killed_is_brought_under_the_same_id(
    killed, ledger, home, chain, task, own
):
    killed("review-2")
    assert "review-2" not in allowed(own)
    [payload] = written(ledger)
    id = bytes.fromhex(payload.request)
    assert chain.unlearning.request_of(id) is None
    [waiting] = own_requests(ledger, chain, "east", [task])
    assert waiting.standing(chain.now()) is Standing.WAITING
    # The task is found among others.
    tasks = [fresh_task(chain.sent_by(account_of("coordinator"), home)), task]
    with open_ledger(home, "east", EAST, chain) as reopened:
        [brought] = bring(reopened, chain, EAST, "east", tasks, chain.now())
        assert (brought.id, brought.request.task) == (id, task)
        assert brought.stored == chain.unlearning.request_of(id)
        assert own_requests(reopened, chain, "east", tasks) == [brought]
        height = chain.height()
        assert bring(reopened, chain, EAST, "east", tasks, chain.now()) == []
    assert chain.height() == height


def test_one_whose_deadline_passed_before_is_left_and_said_so(
    killed, ledger, chain, task, travelling, own
):
    killed("review-2", seconds=1000)
    killed("review-3", seconds=9000)
    travelling.travel(2000)
    now = chain.now()
    [brought] = bring(ledger, chain, EAST, "east", [task], now)
    assert brought.positions == (position_of(ledger)["review-3"],)
    expired, _ = own_requests(ledger, chain, "east", [task])
    assert expired.standing(now) is Standing.EXPIRED
    assert expired.standing_in_words(now) == "expired before it was brought"
    assert allowed(own).isdisjoint({"review-2", "review-3"})


def test_another_organizations_key_is_refused_by_the_chain_and_the_ledger_goes_on(
    asking, ledger, chain, task, own
):
    with pytest.raises(RequestError, match=r"barred, and was not brought .*WrongSigner"):
        asking("review-1", account=account_of("north"))
    [payload] = written(ledger)
    assert chain.unlearning.request_of(bytes.fromhex(payload.request)) is None
    assert "review-1" not in allowed(own)
    with pytest.raises(RequestError, match="WrongSigner"):
        bring(ledger, chain, account_of("north"), "east", [task], chain.now())
    # Its own key brings it still.
    [brought] = bring(ledger, chain, EAST, "east", [task], chain.now())
    assert brought.id.hex() == payload.request


def test_a_request_about_a_task_that_is_not_known_is_named(asking, ledger, chain, home):
    asked = asking("review-1")
    with pytest.raises(RequestError) as caught:
        own_requests(ledger, chain, "east", [digest("other")])
    assert str(caught.value) == (
        f"request 0x{asked.id.hex()} in record {asked.record} of the ledger of east is about none "
        "of the 1 tasks that are known here"
    )


def test_the_tasks_known_are_those_that_a_record_is_kept_of(home):
    assert known_tasks(home, "east") == []
    for name in ("a", "b"):
        OwnRecord(organization_folder(home, "east"), digest(name))
    (organization_folder(home, "east") / "tasks" / "notes").mkdir()
    assert set(known_tasks(home, "east")) == {digest("a"), digest("b")}


def test_no_file_of_the_ledger_holds_what_opens_the_commitment(asking, home):
    asked = asking("review-1")
    for path in ledger_folder(home, "east").iterdir():
        content = path.read_bytes()
        assert asked.salt not in content
        assert asked.salt.hex().encode() not in content
