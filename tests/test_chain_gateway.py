"""The managed chain: what passes its only door, and that it comes back as it was."""

import json
import os
import signal
import time

import psutil
import pytest
import requests

from blockchain.artifacts import load
from blockchain.chain_gateway import ALLOWED, ManagedChain
from blockchain.chain_journal import ChainJournal, Head
from blockchain.chain_records import Seal
from blockchain.deployment import connect_deployed, deploy
from blockchain.errors import NodeError, TransactionRevertedError
from blockchain.keys import fund_from_development_account
from blockchain.managed_node import ManagedNode
from blockchain.private_node import PrivateNode
from tests.chain_samples import GENESIS, ask, digest, founding_of, free_port, fresh_task
from tests.signing_cases import account_of

FORBIDDEN = (
    *("hardhat_setStorageAt", "hardhat_setCode", "hardhat_setBalance", "hardhat_reset"),
    *("hardhat_impersonateAccount", "hardhat_mine", "hardhat_dropTransaction"),
    *("evm_revert", "evm_snapshot", "evm_mine", "evm_setNextBlockTimestamp", "evm_increaseTime"),
    *("evm_setAutomine", "evm_setIntervalMining", "eth_sendTransaction", "eth_accounts"),
    *("eth_sign", "eth_signTypedData_v4", "personal_sign", "debug_traceTransaction"),
    *("eth_newFilter", "eth_subscribe", "ETH_CALL", "", "x" * 10_000),
)


COORDINATOR = account_of("coordinator")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A node with the contracts: what is stopped or killed comes back, which is what it is for."""
    node = ManagedNode(tmp_path_factory.mktemp("home"), free_port())
    node.start()
    try:
        fund_from_development_account(node.settings, COORDINATOR.address, node.folder)
        founding = founding_of(COORDINATOR.address)
        deploy(node.settings, COORDINATOR, node.folder, lambda: founding)
        yield node
    finally:
        node.stop()


@pytest.fixture
def node(deployed):
    """The node, running."""
    deployed.start()
    return deployed


@pytest.fixture
def chain(node):
    """The deployed contracts, connected for writing."""
    return connect_deployed(node.settings, node.folder, COORDINATOR)


def newest_block(node):
    block = ask(node.settings, "eth_getBlockByNumber", "latest", False)
    return int(block["number"], 16), block["hash"]


def post(node, **request):
    url = str(node.settings.rpc_url)
    return requests.post(url, **request, timeout=10)


@pytest.mark.real
def test_a_stopped_chain_comes_back_at_the_same_block_and_goes_on(node, chain):
    task = fresh_task(chain)
    chain.open_round(task, 1, GENESIS)
    before = newest_block(node)
    node.stop()
    node.start()
    assert newest_block(node) == before
    assert chain.task(task).last_round == 1
    chain.void_round(task, 1)
    after = newest_block(node)
    assert after[0] == before[0] + 1
    node.stop()
    node.start()
    assert newest_block(node) == after


@pytest.mark.real
def test_a_killed_chain_comes_back_with_all_that_was_confirmed(node, chain):
    tasks = [fresh_task(chain) for _ in range(5)]
    before = newest_block(node)
    pid = node.status().pid
    [child] = psutil.Process(pid).children()
    os.kill(pid, signal.SIGKILL)
    # Without its gateway the chain behind it ends too: nothing goes on unseen.
    assert child.wait(10) is not None or not child.is_running()
    node.start()
    assert newest_block(node) == before
    for task in tasks:
        assert chain.task(task).task == task


@pytest.mark.real
def test_a_gateway_whose_chain_ended_ends_too_and_is_started_again(node, chain):
    task = fresh_task(chain)
    before = newest_block(node)
    gateway = psutil.Process(node.status().pid)
    [child] = gateway.children()
    child.kill()
    assert "the private node" in post(node, json=request("eth_chainId")).json()["error"]["message"]
    gateway.wait(10)
    assert not node.status().running
    node.start()
    assert newest_block(node) == before
    assert chain.task(task).task == task


@pytest.mark.real
def test_a_transaction_noted_before_a_kill_is_mined_at_the_next_start(node, chain):
    task = fresh_task(chain)
    before = newest_block(node)
    node.stop()
    # As a kill leaves it between noting a transaction and noting its block.
    journal = node.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    node.start()
    assert newest_block(node) == before
    assert journal.read_bytes() == b"".join(lines)
    assert chain.task(task).task == task


@pytest.mark.real
def test_a_reverting_transaction_is_mined_and_comes_back(node, chain):
    task = fresh_task(chain)
    chain.open_round(task, 1, GENESIS)
    signed = signed_by_coordinator(node, chain, encoded(chain, "voidRound", (task, 1)))
    again = signed_by_coordinator(
        node, chain, encoded(chain, "voidRound", (task, 1)), nonce_after=1
    )
    ask(node.settings, "eth_sendRawTransaction", signed)
    answer = post(node, json=request("eth_sendRawTransaction", again)).json()
    assert "RoundsUnexpectedPhase" in answer["error"]["message"] or "revert" in str(answer["error"])
    before = newest_block(node)
    node.stop()
    node.start()
    assert newest_block(node) == before
    with pytest.raises(TransactionRevertedError, match="RoundsUnexpectedPhase"):
        chain.seal(task, 1, Seal(digest("root"), 1, digest("adapter"), digest("manifest")))


def encoded(chain, call, arguments):
    contract = chain.contracts["Rounds"]
    return contract.node.eth.contract(abi=load("Rounds").abi).encode_abi(call, arguments)


def request(method, *params):
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}


def signed_by_coordinator(node, chain, data, nonce_after=0):
    count = int(ask(node.settings, "eth_getTransactionCount", COORDINATOR.address, "latest"), 16)
    signed = COORDINATOR.sign_transaction(
        {
            "to": chain.address,
            "data": data,
            "gas": 300_000,
            "nonce": count + nonce_after,
            "chainId": 31337,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
            "value": 0,
        }
    )
    return "0x" + bytes(signed.raw_transaction).hex()


@pytest.mark.real
def test_blocks_have_the_time_of_the_wall_clock_after_a_start_too(node, chain):
    for restarted in (False, True):
        if restarted:
            node.stop()
            node.start()
        fresh_task(chain)
        block = ask(node.settings, "eth_getBlockByNumber", "latest", False)
        assert abs(int(block["timestamp"], 16) - time.time()) < 60


@pytest.mark.real
def test_what_a_development_node_offers_beyond_a_usual_one_does_not_pass(node, chain):
    before = newest_block(node)
    for method in FORBIDDEN:
        assert method not in ALLOWED
        answer = post(node, json=request(method, "0x1")).json()
        assert answer["error"]["code"] == -32601, method
    assert newest_block(node) == before


@pytest.mark.real
def test_an_answer_does_not_wait_for_an_acknowledgement(node):
    took = []
    with requests.Session() as session:
        for _ in range(21):
            started = time.perf_counter()
            session.post(str(node.settings.rpc_url), json=request("eth_chainId"), timeout=10)
            took.append(time.perf_counter() - started)
    # TCP's delayed acknowledgement takes 40 ms.
    assert sorted(took)[10] < 0.03


@pytest.mark.real
def test_the_chain_itself_listens_nowhere_and_its_gateway_on_this_machine_alone(node, chain):
    gateway = psutil.Process(node.status().pid)
    [child] = gateway.children()
    assert child.net_connections() == []
    assert {c.laddr for c in gateway.net_connections() if c.status == "LISTEN"} == {
        ("127.0.0.1", node.port)
    }


@pytest.mark.real
def test_a_malformed_request_is_answered_and_harms_nothing(node, chain):
    before = newest_block(node)
    bodies = [
        *(b"", b"{", b"[]", b"[" * 100_000, b"null", b"7", b'"eth_chainId"', b"\xff\xfe"),
        *(b'{"method": 7}', b'{"method": "eth_chainId", "params": {"a": 1}}'),
        json.dumps([request("eth_chainId")]).encode(),
        json.dumps(request("eth_sendRawTransaction")).encode(),
        *(
            json.dumps(request("eth_sendRawTransaction", raw)).encode()
            for raw in (7, "", "0x", "0xzz", "abcd", "0x0", "0x12 34", "0x02f8", ["0x12"])
        ),
        json.dumps(request("eth_getBlockByNumber", "latest\n{}", {"deep": [[[]]]})).encode(),
    ]
    for body in bodies:
        answer = post(node, data=body)
        assert "error" in answer.json(), body[:50]
    assert post(node, data=b" " * (1 << 20 | 1)).status_code == 413
    assert newest_block(node) == before
    node.stop()
    node.start()
    assert newest_block(node) == before


@pytest.mark.real
@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example:8545"}, {"Origin": "https://evil.example"}]
)
def test_a_web_page_in_this_machines_browser_gets_nothing(node, headers):
    answer = post(node, json=request("eth_chainId"), headers=headers)
    assert answer.status_code == 403
    assert "result" not in answer.json()


@pytest.mark.real
def test_a_journal_changed_anywhere_is_not_served(node, chain, tmp_path):
    fresh_task(chain)
    fresh_task(chain)
    node.stop()
    journal = node.folder / "journal.jsonl"
    valid = journal.read_bytes()
    lines = valid.splitlines(keepends=True)
    digit = b"1" if lines[-1][-4:-3] == b"0" else b"0"
    altered = {
        "another first block": valid.replace(b'initial_date": "2026', b'initial_date": "2025'),
        "a transaction left out": b"".join(lines[:-4] + lines[-2:]),
        "two exchanged": b"".join([*lines[:-4], *lines[-2:], *lines[-4:-2]]),
        "another hash": b"".join(lines[:-1]) + lines[-1][:-4] + digit + lines[-1][-3:],
        "another time": b"".join(lines[:-2])
        + lines[-2].replace(b'"time": 1', b'"time": 2', 1)
        + lines[-1],
        "a block twice": valid + lines[-1],
        "no header": b"".join(lines[1:]),
    }
    copy = tmp_path / "journal.jsonl"
    for name, content in altered.items():
        assert content != valid, name
        copy.write_bytes(content)
        with pytest.raises(NodeError, match=r"journal\.jsonl"):
            replay(copy)
        assert copy.read_bytes() == content, name
    copy.write_bytes(valid)
    assert replay(copy) == json.loads(lines[-1])["block"]
    # And so says the process that would serve it.
    journal.write_bytes(altered["another hash"])
    try:
        with pytest.raises(NodeError, match=r"journal\.jsonl") as caught:
            node.start()
        assert "stopped while starting" in str(caught.value)
        assert journal.read_bytes() == altered["another hash"]
    finally:
        journal.write_bytes(valid)
    node.start()


def replay(journal):
    """Bring a chain back as the gateway does before it serves it; returns its height."""
    kept = ChainJournal(journal, "2027-01-01T00:00:00Z")
    with (
        (journal.parent / "node.log").open("wb") as log,
        PrivateNode(kept.initial_date, log) as node,
    ):
        return ManagedChain(node, kept).replay()


ENTRIES = [("0x02aa", 1000, Head(1, "0x" + "a1" * 32)), ("0x02bb", 1001, Head(2, "0x" + "b2" * 32))]


@pytest.fixture
def journal(tmp_path):
    journal = ChainJournal(tmp_path / "journal.jsonl", "2026-01-01T00:00:00Z")
    for raw, moment, head in ENTRIES:
        journal.sending(raw, moment)
        journal.mined(head)
    return journal


def read_again(journal):
    again = ChainJournal(journal.path, "2027-01-01T00:00:00Z")
    return [(entry.raw, entry.time, entry.head) for entry in again.entries()]


def test_a_journal_gives_back_what_was_noted_and_keeps_its_first_date(journal):
    assert read_again(journal) == ENTRIES
    assert ChainJournal(journal.path, "2027-01-01T00:00:00Z").initial_date == "2026-01-01T00:00:00Z"


def test_a_journal_cut_anywhere_gives_back_every_whole_line(journal):
    valid = journal.path.read_bytes()
    header = valid.index(b"\n") + 1
    for length in range(header, len(valid)):
        journal.path.write_bytes(valid[:length])
        noted = valid[:length].count(b"\n") - 1
        expected = [*ENTRIES[: noted // 2]]
        if noted % 2:
            raw, moment, _ = ENTRIES[noted // 2]
            expected.append((raw, moment, None))
        assert read_again(journal) == expected


@pytest.mark.parametrize(
    "line",
    [
        {"raw": "02aa", "time": 1},
        {"raw": "0x0", "time": 1},
        {"raw": "0x02", "time": "1"},
        {"raw": "0x02", "time": True},
        {"raw": "0x02", "time": -1},
        {"raw": "0x02"},
        {"raw": "0x02", "time": 1, "more": 1},
        {"block": 3, "hash": "0x" + "c3" * 32},
        [],
        7,
        "not JSON",
    ],
)
def test_a_malformed_line_is_named(journal, line):
    text = line if line == "not JSON" else json.dumps(line)
    journal.path.write_bytes(journal.path.read_bytes() + text.encode() + b"\n")
    with pytest.raises(NodeError, match=r"journal\.jsonl:6: .*altered"):
        read_again(journal)
