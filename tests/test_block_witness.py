"""What an organization noted of the chain is held against the chain."""

import json

import pytest

from blockchain import block_witness
from blockchain.block_witness import SeenBlock, missing, note
from blockchain.connection import connect_node
from blockchain.errors import ChainFileError, NodeUnreachableError
from blockchain.keys import fund_from_development_account
from blockchain.managed_node import ManagedNode
from tests.bare_node import bare_node
from tests.chain_samples import ask, changed, free_port
from tests.ping_contract import ADDRESS, emit, install

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with bare_node(tmp_path_factory.mktemp("node") / "log") as settings:
        install(settings)
        yield settings


@pytest.fixture
def path(tmp_path):
    return tmp_path / "organization" / "seen.jsonl"


def mine(node):
    emit(node, 1, 1)
    return ask(node, "eth_getBlockByNumber", "latest", False)


def test_blocks_are_noted_once_and_stand(node, path):
    web3 = connect_node(node)
    first = mine(node)
    seen = note(web3, path)
    assert (seen.height, seen.hash) == (int(first["number"], 16), first["hash"])
    assert note(web3, path) == seen
    mine(node)
    mine(node)
    note(web3, path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["height"] for line in lines] == [seen.height, seen.height + 2]
    assert {line["chain_id"] for line in lines} == {31337}
    assert missing(web3, path) == []


def test_nothing_noted_misses_nothing(node, path):
    assert missing(connect_node(node), path) == []


def test_blocks_taken_back_are_missing(node, path):
    web3 = connect_node(node)
    mine(node)
    standing = note(web3, path)
    snapshot = ask(node, "evm_snapshot")
    mine(node)
    one = note(web3, path)
    mine(node)
    two = note(web3, path)
    ask(node, "evm_revert", snapshot)
    assert missing(web3, path) == [one, two]
    ask(node, "evm_increaseTime", 100)
    for _ in range(3):
        mine(node)
    again = note(web3, path)
    assert missing(web3, path) == [one, two]
    assert again.height == two.height + 1
    assert standing.height == one.height - 1


def test_storage_set_behind_the_chains_back_is_not_seen_though_later_blocks_differ(node, path):
    web3 = connect_node(node)
    mine(node)
    note(web3, path)
    moment = int(ask(node, "eth_getBlockByNumber", "latest", False)["timestamp"], 16) + 500
    snapshot = ask(node, "evm_snapshot")
    ask(node, "evm_setNextBlockTimestamp", hex(moment))
    honest = mine(node)
    ask(node, "evm_revert", snapshot)
    # The same block, but for a word of storage set with no transaction.
    snapshot = ask(node, "evm_snapshot")
    ask(node, "hardhat_setStorageAt", ADDRESS, "0x0", "0x" + "11" * 32)
    ask(node, "evm_setNextBlockTimestamp", hex(moment))
    altered = mine(node)
    assert altered["number"] == honest["number"]
    assert altered["stateRoot"] != honest["stateRoot"]
    assert altered["hash"] != honest["hash"]
    # No noted block tells of it, before or after.
    assert missing(web3, path) == []
    note(web3, path)
    assert missing(web3, path) == []
    # Whoever noted the altered block, and is shown the honest chain afterwards, sees it.
    ask(node, "evm_revert", snapshot)
    ask(node, "evm_setNextBlockTimestamp", hex(moment))
    assert mine(node)["hash"] == honest["hash"]
    assert [block.hash for block in missing(web3, path)] == [altered["hash"]]


def test_a_history_replayed_from_an_altered_journal_is_missing(tmp_path, path):
    home = ManagedNode(tmp_path, free_port())
    home.start()
    try:
        web3 = connect_node(home.settings)
        fund_from_development_account(home.settings, "0x" + "55" * 20, home.folder)
        seen = note(web3, path)
        home.stop()
        home.start()
        assert missing(web3, path) == []
        home.stop()
        journal = home.folder / "journal.jsonl"
        header, sent, _ = (json.loads(line) for line in journal.read_text().splitlines())
        sent["time"] -= 5
        journal.write_text(f"{json.dumps(header)}\n{json.dumps(sent)}\n")
        home.start()
        assert missing(web3, path) == [seen]
    finally:
        home.stop()


def test_where_a_chain_may_take_back_its_newest_blocks_an_older_one_is_noted(node, path):
    web3 = connect_node(node)
    newest = int(mine(node)["number"], 16)
    assert note(web3, path, confirmations=2).height == newest - 1
    assert note(web3, path, confirmations=newest + 2) is None


def test_blocks_of_another_chain_are_not_judged(node, path):
    web3 = connect_node(node)
    mine(node)
    note(web3, path)
    other = SeenBlock(chain_id=5, height=1, hash="0x" + "11" * 32)
    with path.open("a") as file:
        file.write(block_witness._line(other))
    assert missing(web3, path) == []


def test_the_file_stays_small_and_keeps_what_is_missing(node, path, monkeypatch):
    monkeypatch.setattr(block_witness, "MOST", 20)
    monkeypatch.setattr(block_witness, "NEWEST", 5)
    web3 = connect_node(node)
    path.parent.mkdir()
    gone = SeenBlock(chain_id=31337, height=1, hash="0x" + "11" * 32)
    path.write_text(block_witness._line(gone))
    for _ in range(50):
        ask(node, "evm_mine")
        newest = note(web3, path)
        assert len(path.read_text().splitlines()) <= 20
    assert missing(web3, path) == [gone]
    heights = [json.loads(line)["height"] for line in path.read_text().splitlines()]
    assert heights[0] == 1
    assert heights[-5:] == list(range(newest.height - 4, newest.height + 1))


def test_a_line_cut_by_a_kill_does_not_count_and_spoils_nothing(node, path):
    web3 = connect_node(node)
    mine(node)
    first = note(web3, path)
    mine(node)
    cut = note(web3, path)
    path.write_bytes(path.read_bytes()[:-10])
    assert missing(web3, path) == []
    assert note(web3, path) == cut
    assert block_witness._read(path) == [first, cut]


@pytest.mark.parametrize(
    "content",
    [
        b"\n",
        b"{}\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"chain_id": 31337, "height": -1, "hash": "0x%s"}\n' % (b"1" * 64),
        b'{"chain_id": 31337, "height": 1e400, "hash": "0x%s"}\n' % (b"1" * 64),
        b'{"chain_id": 31337, "height": 1, "hash": "%s"}\n' % (b"1" * 66),
        b'{"chain_id": 31337, "height": 1, "hash": "0x%s", "more": 1}\n' % (b"1" * 64),
        b"0" * (2 << 20),
    ],
)
def test_anything_else_in_the_file_is_one_clear_error_and_is_left_as_it_is(node, path, content):
    web3 = connect_node(node)
    path.parent.mkdir()
    path.write_bytes(content)
    for call in (note, missing):
        with pytest.raises(ChainFileError) as caught:
            call(web3, path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_dead_node_is_named_without_what_is_secret_in_its_address(node, path):
    web3 = connect_node(node)
    secret = f"http://user:secret@127.0.0.1:{free_port()}/key?token=secret"
    web3.provider.endpoint_uri = str(changed(node, rpc_url=secret).rpc_url)
    with pytest.raises(NodeUnreachableError, match=r"http://127\.0\.0\.1:\d+ ") as caught:
        note(web3, path)
    assert "secret" not in str(caught.value)
