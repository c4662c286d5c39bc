"""Events are read in bounded ranges, each once, across reorganizations, kills and resets."""

import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blockchain import event_reader
from blockchain.artifacts import load
from blockchain.block_ranges import next_range
from blockchain.connection import connect_node
from blockchain.deployment import connect_deployed, deploy
from blockchain.errors import (
    ChainError,
    ChainFileError,
    ChainWasResetError,
    NodeUnreachableError,
)
from blockchain.event_reader import ChainEvent, EventReader
from blockchain.event_store import EventStore
from tests.bare_node import bare_node
from tests.chain_samples import (
    DISPUTES,
    GENESIS,
    ask,
    changed,
    digest,
    founding_of,
    free_port,
    refusing,
)
from tests.ping_contract import ABI, ADDRESS, emit, funded_account, install

real = pytest.mark.real


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory):
    with bare_node(tmp_path_factory.mktemp("node") / "log") as settings:
        install(settings)
        yield settings


@pytest.fixture
def node(shared_node):
    """A node whose blocks from before the test hold nothing that it reads."""
    ask(shared_node, "hardhat_mine", "0x2")
    return shared_node


@pytest.fixture(scope="module")
def second_node(tmp_path_factory):
    with bare_node(tmp_path_factory.mktemp("second") / "log") as settings:
        install(settings)
        yield settings


@pytest.fixture
def empty_node(second_node):
    """A node without a block but the first, nor afterwards any that the test made."""
    snapshot = ask(second_node, "evm_snapshot")
    assert head(second_node) == 0
    yield second_node
    ask(second_node, "evm_revert", snapshot)


class Calls:
    """A sink that notes what it is told, and a store that keeps it."""

    def __init__(self, folder):
        self.store = EventStore(folder / "events.jsonl")
        self.batches = []
        self.undone = []

    def add(self, events):
        self.batches.append(list(events))
        self.store.add(events)

    def undo(self, above):
        self.undone.append(above)
        self.store.undo(above)


def head(node):
    return int(ask(node, "eth_blockNumber"), 16)


def reader_of(node, folder, first=None, events=None, **fields):
    settings = changed(node, **fields)
    return EventReader(
        connect_node(settings),
        settings,
        ADDRESS,
        ABI,
        {"Ping": {}} if events is None else events,
        folder / "checkpoint.json",
        head(node) + 1 if first is None else first,
    )


def notes(events):
    return [int.from_bytes(event.arguments["note"]) for event in events]


def checkpoints(folder):
    return [
        one["number"] for one in json.loads((folder / "checkpoint.json").read_text())["checkpoints"]
    ]


@real
def test_events_come_once_in_order_and_decoded(node, tmp_path):
    reader, sink = reader_of(node, tmp_path), Calls(tmp_path)
    transactions = [emit(node, 3, 1), emit(node, 2, 2)]
    assert reader.apply(sink) == 5
    assert reader.apply(sink) == 0
    events = sink.store.events
    assert [(event.arguments["number"], *notes([event])) for event in events] == [
        *((0, 1), (1, 1), (2, 1)),
        *((0, 2), (1, 2)),
    ]
    assert [event.log_index for event in events] == [0, 1, 2, 0, 1]
    assert {"0x" + event.transaction_hash.hex() for event in events} == set(transactions)
    assert {event.name for event in events} == {"Ping"}
    block = ask(node, "eth_getBlockByNumber", hex(events[0].block_number), False)
    assert "0x" + events[0].block_hash.hex() == block["hash"]
    assert len({event.identity for event in events}) == 5


@real
def test_a_long_chain_is_read_in_bounded_ranges(node, tmp_path, monkeypatch):
    first = head(node) + 1
    for note in range(4):
        emit(node, 1, note)
        ask(node, "hardhat_mine", hex(9))
    asked = []
    once = EventReader._range

    def spied(reader, start, first, last):
        asked.append((first, last))
        return once(reader, start, first, last)

    monkeypatch.setattr(EventReader, "_range", spied)
    sink = Calls(tmp_path)
    reader_of(node, tmp_path, first, event_range_blocks=7).apply(sink)
    assert asked == [(first + i, min(first + i + 6, first + 39)) for i in range(0, 40, 7)]
    assert notes(sink.store.events) == [0, 1, 2, 3]
    assert checkpoints(tmp_path) == [first - 1, *(last for _, last in asked)]


@real
def test_only_the_newest_checkpoints_are_kept(node, tmp_path):
    first = head(node) + 1
    ask(node, "hardhat_mine", hex(100))
    reader_of(node, tmp_path, first, event_range_blocks=1).apply(Calls(tmp_path))
    assert checkpoints(tmp_path) == list(range(first + 100 - event_reader.KEPT, first + 100))


@real
def test_a_block_is_read_only_with_its_confirmations(node, tmp_path):
    reader, sink = reader_of(node, tmp_path, confirmations=3), Calls(tmp_path)
    emit(node, 1, 1)
    assert reader.apply(sink) == 0
    ask(node, "evm_mine")
    assert reader.apply(sink) == 0
    ask(node, "evm_mine")
    assert reader.apply(sink) == 1


@real
@pytest.mark.parametrize("confirmations", [1, 5])
def test_an_empty_chain_has_no_events(empty_node, tmp_path, confirmations):
    reader = reader_of(empty_node, tmp_path, 0, confirmations=confirmations)
    sink = Calls(tmp_path)
    assert reader.apply(sink) == 0
    assert reader.apply(sink) == 0
    emit(empty_node, 1, 1)
    ask(empty_node, "hardhat_mine", "0x5")
    assert reader.apply(sink) == 1
    assert not sink.undone


@real
def test_a_contract_not_yet_there_is_read_from_its_block_on(node, tmp_path):
    reader, sink = reader_of(node, tmp_path, head(node) + 20), Calls(tmp_path)
    emit(node, 1, 1)
    assert reader.apply(sink) == 0
    ask(node, "hardhat_mine", hex(30))
    emit(node, 1, 2)
    assert reader.apply(sink) == 1


@real
def test_thousands_of_events_are_read(node, tmp_path):
    reader, sink = reader_of(node, tmp_path), Calls(tmp_path)
    for note in range(3):
        emit(node, 1500, note)
    assert reader.apply(sink) == 4500
    again = EventStore(tmp_path / "events.jsonl").events
    assert again == sink.store.events
    assert [event.arguments["number"] for event in again] == list(range(1500)) * 3


@real
def test_a_filter_on_an_indexed_argument_lets_only_its_events_through(node, tmp_path):
    reader = reader_of(node, tmp_path, events={"Ping": {"number": 2}})
    sink = Calls(tmp_path)
    for note in range(3):
        emit(node, 4, note)
    assert reader.apply(sink) == 3
    assert {event.arguments["number"] for event in sink.store.events} == {2}


@real
def test_events_of_several_names_come_in_the_order_of_the_chain(node, tmp_path):
    account = funded_account(node)
    founding = founding_of(account.address)
    deployment = deploy(node, account, tmp_path, lambda: founding)
    chain = connect_deployed(node, tmp_path, account)
    task = chain.open_task(digest("events"), GENESIS, DISPUTES).task
    chain.open_task(digest("another"), GENESIS, DISPUTES)
    for round in (1, 2):
        chain.open_round(task, round, GENESIS)
        chain.void_round(task, round)
    reader = EventReader(
        connect_node(node),
        node,
        deployment.addresses["Rounds"],
        load("Rounds").abi,
        {name: {"task": task} for name in ("RoundVoided", "RoundOpened", "TaskOpened")},
        tmp_path / "checkpoint.json",
        deployment.first_block + 1,
    )
    sink = Calls(tmp_path)
    assert reader.apply(sink) == 5
    assert [event.name for event in sink.store.events] == [
        *("TaskOpened", "RoundOpened", "RoundVoided", "RoundOpened", "RoundVoided"),
    ]
    assert {event.arguments["task"] for event in sink.store.events} == {task}
    assert EventStore(tmp_path / "events.jsonl").events == sink.store.events


@real
@pytest.mark.parametrize("mined", [0, 1, 10])
def test_a_reorganization_is_undone_and_read_again(node, tmp_path, caplog, mined):
    reader, sink = reader_of(node, tmp_path), Calls(tmp_path)
    emit(node, 1, 1)
    reader.apply(sink)
    standing = head(node)
    snapshot = ask(node, "evm_snapshot")
    for note in (2, 3):
        emit(node, 1, note)
        reader.apply(sink)
    ask(node, "evm_revert", snapshot)
    if mined:
        ask(node, "evm_increaseTime", 100)
        emit(node, 1, 4)
        ask(node, "hardhat_mine", hex(mined))
    with caplog.at_level(logging.WARNING):
        reader.apply(sink)
    assert sink.undone == [standing]
    assert f"blocks {standing + 1} to {standing + 2} were taken back" in caplog.text
    assert notes(sink.store.events) == ([1, 4] if mined else [1])
    assert EventStore(tmp_path / "events.jsonl").events == sink.store.events


@real
def test_a_reorganization_below_a_checkpoint_goes_back_to_the_one_before(node, tmp_path):
    reader, sink = reader_of(node, tmp_path), Calls(tmp_path)
    first = head(node)
    emit(node, 1, 1)
    snapshot = ask(node, "evm_snapshot")
    emit(node, 1, 2)
    reader.apply(sink)
    ask(node, "evm_revert", snapshot)
    ask(node, "evm_increaseTime", 100)
    emit(node, 1, 3)
    assert reader.apply(sink) == 2
    assert sink.undone == [first]
    # The block that stood was taken back and came again.
    assert notes(sink.store.events) == [1, 3]


@real
def test_a_reorganization_while_a_range_is_read_leaves_no_event_of_either_history(
    node, tmp_path, monkeypatch
):
    reader, sink = reader_of(node, tmp_path), Calls(tmp_path)
    emit(node, 1, 1)
    snapshot = ask(node, "evm_snapshot")
    emit(node, 1, 2)
    pending = [True]
    ours = event_reader.block_hash

    def meddling(web3, number):
        answer = ours(web3, number)
        if pending and number == head(node):
            pending.clear()
            ask(node, "evm_revert", snapshot)
            ask(node, "evm_increaseTime", 100)
            emit(node, 1, 3)
        return answer

    monkeypatch.setattr(event_reader, "block_hash", meddling)
    reader.apply(sink)
    assert not pending
    assert [notes(batch) for batch in sink.batches] == [[1, 3]]


@real
@pytest.mark.parametrize("deliveries", [1, 2, 3])
def test_a_reader_killed_between_delivery_and_checkpoint_delivers_nothing_twice(
    empty_node, tmp_path, deliveries
):
    # From block 1 on: the process begins there.
    everything = Calls(tmp_path / "whole")
    for note in range(3):
        emit(empty_node, 2, note)
        ask(empty_node, "hardhat_mine", "0x3")
    reader_of(empty_node, tmp_path / "whole", 1).apply(everything)
    assert len(everything.store.events) == 6
    command = [sys.executable, "-m", "tests.killed_reader", str(empty_node.rpc_url), str(tmp_path)]
    done = subprocess.run(
        [*command, str(deliveries)], cwd=Path(__file__).parents[1], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    sink = Calls(tmp_path)
    before = sink.store.events
    assert before
    reader_of(empty_node, tmp_path, 1).apply(sink)
    # The range whose checkpoint was not written came again...
    assert sink.batches[0][0].identity in {event.identity for event in before}
    # ... and every event is there once.
    assert sink.store.events == everything.store.events
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) == len(everything.store.events)


@real
def test_a_reset_chain_is_told_and_nothing_is_undone(tmp_path):
    port = free_port()
    sink = Calls(tmp_path)
    with bare_node(tmp_path / "first.log", port) as node:
        install(node)
        emit(node, 1, 1)
        reader = reader_of(node, tmp_path, 1)
        reader.apply(sink)
    time.sleep(1)
    before = (tmp_path / "checkpoint.json").read_bytes()
    with bare_node(tmp_path / "second.log", port) as node:
        for blocks in (1, 10):
            ask(node, "hardhat_mine", hex(blocks))
            with pytest.raises(ChainWasResetError, match="none of the last 2 blocks read up to"):
                reader.apply(sink)
    assert not sink.undone
    assert (tmp_path / "checkpoint.json").read_bytes() == before
    with pytest.raises(NodeUnreachableError):
        reader.apply(sink)


@real
def test_a_node_that_refuses_wide_ranges_is_asked_for_narrower_ones(node, tmp_path):
    first = head(node) + 1
    for note in range(5):
        emit(node, 1, note)
        ask(node, "hardhat_mine", hex(8))

    def wide(request):
        if request["method"] != "eth_getLogs":
            return False
        [asked] = request["params"]
        return int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) >= 6

    with refusing(node, wide) as strict:
        sink = Calls(tmp_path)
        assert reader_of(strict, tmp_path, first).apply(sink) == 5
    with refusing(node, lambda request: request["method"] == "eth_getLogs") as broken:
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(ChainError, match="refused by the test"):
            reader_of(broken, other, first).apply(Calls(other))


@real
@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[" * 100_000,
        '{"version": 9}',
        '{"version": 1, "chain_id": 31337, "address": "0x", "events": [], "checkpoints": '
        '[{"number": 2, "hash": "0xzz"}]}',
        "x" * (2 << 20),
    ],
)
def test_a_checkpoint_file_with_anything_else_is_one_clear_error(node, tmp_path, content):
    path = tmp_path / "checkpoint.json"
    path.write_text(content)
    with pytest.raises(ChainFileError) as caught:
        reader_of(node, tmp_path).apply(Calls(tmp_path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == content


@real
def test_a_checkpoint_of_other_events_is_refused(node, tmp_path):
    first = head(node) + 1
    emit(node, 1, 1)
    reader_of(node, tmp_path, first).apply(Calls(tmp_path))
    with pytest.raises(ChainFileError, match=r"is of Ping\(\) of 0x7777"):
        reader_of(node, tmp_path, first, events={"Ping": {"number": 1}}).apply(Calls(tmp_path))


@given(first=st.integers(0, 10_000), newest=st.integers(-50, 12_000), size=st.integers(1, 3_000))
@example(first=5, newest=4, size=10)
@example(first=5, newest=5, size=1)
def test_ranges_cover_every_block_once_and_are_bounded(first, newest, size):
    covered, start = [], first
    while (blocks := next_range(start, newest, size)) is not None:
        assert blocks[0] == start
        assert 1 <= blocks[1] - blocks[0] + 1 <= size
        covered.extend(range(blocks[0], blocks[1] + 1))
        start = blocks[1] + 1
    assert covered == list(range(first, newest + 1))


def event(block, index, **arguments):
    return ChainEvent("Ping", arguments, block, digest(f"block {block}"), index, digest("sent"))


def test_a_store_keeps_each_event_once_and_every_kind_of_value(tmp_path):
    path = tmp_path / "new" / "events.jsonl"
    store = EventStore(path)
    assert store.events == []
    values = {
        **{"hash": b"\x00\xff", "big": 2**256 - 1, "low": -(2**255), "yes": True, "text": "é\n"},
        **{"list": (1, b"\x01", ()), "struct": {"bytes": b"\x02", "struct": ({"a": 1},)}},
    }
    one, two = event(1, 0, **values), event(2, 0)
    store.add([one, two])
    store.add([two, one])
    assert store.events == EventStore(path).events == [one, two]
    store.undo(1)
    store.undo(1)
    assert store.events == EventStore(path).events == [one]
    # A block that was taken back may come again as it was.
    store.add([two])
    assert store.events == EventStore(path).events == [one, two]


event_line = (
    '{"name": "Ping", "arguments": ARGUMENTS, "block_number": 1, "log_index": 0, '
    f'"block_hash": "{"1" * 64}", "transaction_hash": "{"2" * 64}"}}'
)


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_cut_by_a_kill_is_dropped_and_what_follows_is_whole(tmp_path, cut):
    path = tmp_path / "events.jsonl"
    EventStore(path).add([event(1, 0), event(2, 0)])
    path.write_bytes(path.read_bytes()[:-cut])
    store = EventStore(path)
    assert store.events == [event(1, 0)]
    store.add([event(2, 0)])
    assert EventStore(path).events == [event(1, 0), event(2, 0)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "7",
        "\udcff",
        "[" * 100_000,
        '{"undone_above": -1}',
        event_line.replace("ARGUMENTS", '{"a": {"bytes": "zz"}}'),
        event_line.replace("ARGUMENTS", '{"a": {}}'),
        event_line.replace("ARGUMENTS", '{"a": {"other": 1}}'),
    ],
)
def test_a_store_with_anything_else_in_it_is_one_clear_error(tmp_path, line):
    path = tmp_path / "events.jsonl"
    EventStore(path).add([event(1, 0)])
    with path.open("a", errors="surrogateescape") as file:
        file.write(line + "\n")
    with pytest.raises(ChainFileError, match=r"events\.jsonl:2 is no event") as caught:
        EventStore(path)
    assert "\n" not in str(caught.value)
