"""What an account has in flight, when processes are killed, nodes forget and chains are reset."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from eth_utils import keccak

from blockchain import in_flight
from blockchain.connection import connect_node
from blockchain.delivery import Delivery
from blockchain.errors import ChainFileError, TransactionFailedError
from blockchain.in_flight import AccountRecord, InFlight, WaitingProcess
from blockchain.sender import Sender
from tests.bare_node import bare_node
from tests.chain_samples import ask, changed, free_port, mined_every
from tests.ping_contract import ADDRESS, TOPIC, funded_account, install, pings

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with bare_node(tmp_path_factory.mktemp("node") / "log") as settings:
        install(settings)
        yield settings


@pytest.fixture
def account(node):
    return funded_account(node)


def sender_of(node, account, folder, **fields):
    settings = changed(node, **fields)
    return Sender(connect_node(settings), settings, account, folder)


def send(sender, note, call="ping"):
    return sender.send(call, {"to": ADDRESS, "data": pings(1, note)})


def killed(node, account, folder, note, when):
    """Let another process send, and be killed before or after the node has the transaction."""
    command = [sys.executable, "-m", "tests.killed_sender", str(node.rpc_url), str(folder)]
    command += [account.key.hex(), str(note), when]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    [entry] = in_flight_of(node, account, folder)
    return entry


def file_of(node, account, folder):
    return folder / f"{account.address}.{node.chain_id}.in-flight.json"


def in_flight_of(node, account, folder):
    return json.loads(file_of(node, account, folder).read_text())["transactions"]


def sent(node, account):
    return int(ask(node, "eth_getTransactionCount", account.address, "latest"), 16)


def times_on_the_chain(node, note):
    logs = ask(node, "eth_getLogs", {"address": ADDRESS, "fromBlock": "0x0", "toBlock": "latest"})
    return sum(int(log["data"], 16) == note and log["topics"][0][2:] == TOPIC.hex() for log in logs)


def signed(account, nonce, note):
    transaction = {
        **{"to": ADDRESS, "data": pings(1, note), "nonce": nonce, "chainId": 31337},
        **{"gas": 100_000, "gasPrice": 10**10},
    }
    return "0x" + bytes(account.sign_transaction(transaction).raw_transaction).hex()


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_killed_process_was_sending_lands_once_and_answers_the_repeated_call(
    node, account, tmp_path, when
):
    note = 1000 + len(when)
    entry = killed(node, account, tmp_path, note, when)
    assert sent(node, account) == (when == "after")
    receipt = send(sender_of(node, account, tmp_path), note)
    assert "0x" + receipt.hash.hex() == entry["transaction_hash"]
    assert (sent(node, account), times_on_the_chain(node, note)) == (1, 1)
    assert in_flight_of(node, account, tmp_path) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_another_call_completes_first_what_a_killed_process_was_sending(
    node, account, tmp_path, when
):
    note = 1100 + len(when)
    killed(node, account, tmp_path, note, when)
    sender = sender_of(node, account, tmp_path)
    send(sender, note + 50)
    assert [times_on_the_chain(node, n) for n in (note, note + 50)] == [1, 1]
    assert sent(node, account) == 2
    # The same asked for once more, later, is a transaction of its own.
    send(sender, note)
    assert times_on_the_chain(node, note) == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_process_transaction_that_waits_for_its_block_is_waited_for(
    node, account, tmp_path, when
):
    note = 1200 + len(when)
    with mined_every(node, 700):
        entry = killed(node, account, tmp_path, note, when)
        receipt = send(sender_of(node, account, tmp_path), note)
    assert "0x" + receipt.hash.hex() == entry["transaction_hash"]
    assert (sent(node, account), times_on_the_chain(node, note)) == (1, 1)


def test_threads_that_ask_for_what_a_killed_process_was_sending_send_it_not_again(
    node, account, tmp_path
):
    killed(node, account, tmp_path, 1300, "before")
    sender = sender_of(node, account, tmp_path)
    with mined_every(node, 300), ThreadPoolExecutor(5) as pool:
        hashes = {receipt.hash for receipt in pool.map(lambda _: send(sender, 1300), range(5))}
    assert len(hashes) == 1
    assert (sent(node, account), times_on_the_chain(node, 1300)) == (1, 1)


def test_settling_completes_what_was_in_flight_and_sends_nothing_else(node, account, tmp_path):
    killed(node, account, tmp_path, 1400, "before")
    sender = sender_of(node, account, tmp_path)
    sender.settle()
    sender.settle()
    assert (sent(node, account), times_on_the_chain(node, 1400)) == (1, 1)


def test_a_gap_before_a_waiting_transaction_is_filled_with_the_same_bytes(node, account, tmp_path):
    entry = killed(node, account, tmp_path, 1500, "before")
    with mined_every(node, 200):
        ask(node, "eth_sendRawTransaction", signed(account, 1, 1501))
        time.sleep(0.5)
        assert sent(node, account) == 0
        send(sender_of(node, account, tmp_path), 1502)
    assert sent(node, account) == 3
    assert ask(node, "eth_getTransactionReceipt", entry["transaction_hash"])["status"] == "0x1"


def test_a_transaction_whose_nonce_was_used_otherwise_is_dropped_with_a_warning(
    node, account, tmp_path, caplog
):
    killed(node, account, tmp_path, 1600, "before")
    ask(node, "eth_sendRawTransaction", signed(account, 0, 1601))
    with caplog.at_level(logging.WARNING):
        send(sender_of(node, account, tmp_path), 1602)
    assert "another transaction of the account has its nonce" in caplog.text
    assert [times_on_the_chain(node, note) for note in (1600, 1601, 1602)] == [0, 1, 1]
    assert in_flight_of(node, account, tmp_path) == []


def test_a_transaction_that_the_node_now_refuses_is_dropped_with_its_words(
    node, account, tmp_path, caplog
):
    killed(node, account, tmp_path, 1650, "before")
    ask(node, "hardhat_setBalance", account.address, "0x1")
    with caplog.at_level(logging.WARNING):
        sender_of(node, account, tmp_path).settle()
    assert "is dropped: ping: the node refused the transaction" in caplog.text
    assert in_flight_of(node, account, tmp_path) == []


def test_what_was_in_flight_on_a_chain_that_was_reset_is_dropped_with_a_warning(tmp_path, caplog):
    with bare_node(tmp_path / "first.log") as first:
        install(first)
        account = funded_account(first)
        killed(first, account, tmp_path, 1700, "before")
    # Blocks have a time in whole seconds.
    time.sleep(1)
    with bare_node(tmp_path / "second.log") as second, caplog.at_level(logging.WARNING):
        install(second)
        ask(second, "hardhat_setBalance", account.address, hex(10**18))
        send(sender_of(second, account, tmp_path), 1701)
        assert [times_on_the_chain(second, note) for note in (1700, 1701)] == [0, 1]
    assert "is dropped: the chain was reset" in caplog.text


def test_a_chain_reset_under_a_living_sender_starts_again_at_nonce_0(tmp_path):
    port = free_port()
    with bare_node(tmp_path / "first.log", port) as node:
        account = funded_account(node)
        sender = sender_of(node, account, tmp_path)
        for note in range(3):
            send(sender, note)
    time.sleep(1)
    with bare_node(tmp_path / "second.log", port) as node:
        ask(node, "hardhat_setBalance", account.address, hex(10**18))
        send(sender, 3)
        assert sent(node, account) == 1


def test_blocks_taken_back_leave_no_gap(node, account, tmp_path, caplog):
    sender = sender_of(node, account, tmp_path)
    send(sender, 1750)
    snapshot = ask(node, "evm_snapshot")
    send(sender, 1751)
    ask(node, "evm_revert", snapshot)
    with caplog.at_level(logging.WARNING):
        send(sender, 1752)
    assert sent(node, account) == 2
    assert "blocks were taken back" in caplog.text


def test_a_transaction_that_the_node_forgets_is_handed_to_it_again(node, account, tmp_path):
    sender = sender_of(node, account, tmp_path)
    ask(node, "evm_setAutomine", False)
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(send, sender, 1760)
            while not (entries := file_of(node, account, tmp_path)).exists() or not ask(
                node,
                "eth_getTransactionByHash",
                json.loads(entries.read_text())["transactions"][0]["transaction_hash"],
            ):
                time.sleep(0.05)
            [entry] = in_flight_of(node, account, tmp_path)
            assert ask(node, "hardhat_dropTransaction", entry["transaction_hash"])
            while not ask(node, "eth_getTransactionByHash", entry["transaction_hash"]):
                time.sleep(0.05)
            ask(node, "evm_mine")
            assert "0x" + waiting.result(10).hash.hex() == entry["transaction_hash"]
    finally:
        ask(node, "evm_setAutomine", True)


def test_a_wait_given_up_is_taken_up_by_the_same_call(node, account, tmp_path):
    ask(node, "evm_setAutomine", False)
    try:
        hasty = sender_of(node, account, tmp_path, receipt_timeout_seconds=0.2)
        with pytest.raises(TransactionFailedError, match="may still land"):
            send(hasty, 1770)
    finally:
        ask(node, "evm_setAutomine", True)
    [entry] = in_flight_of(node, account, tmp_path)
    assert entry["waiting"] is None
    ask(node, "evm_mine")
    receipt = send(hasty, 1770)
    assert "0x" + receipt.hash.hex() == entry["transaction_hash"]
    assert (sent(node, account), times_on_the_chain(node, 1770)) == (1, 1)


def test_twenty_threads_between_blocks_take_twenty_nonces_and_leave_nothing(
    node, account, tmp_path
):
    senders = [sender_of(node, account, tmp_path) for _ in range(2)]
    most = 0
    over = threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.02):
            if file_of(node, account, tmp_path).exists():
                most = max(most, len(in_flight_of(node, account, tmp_path)))

    with mined_every(node, 1000), ThreadPoolExecutor(21) as pool:
        watching = pool.submit(look)
        list(pool.map(lambda i: send(senders[i % 2], 1800 + i), range(20)))
        over.set()
        watching.result(5)
    assert sent(node, account) == 20
    assert in_flight_of(node, account, tmp_path) == []
    # They waited together, not one after another.
    assert most > 2


def test_transactions_that_the_node_refuses_among_others_leave_no_gap_and_no_entry(
    node, account, tmp_path, monkeypatch
):
    submit = Delivery.submit

    def choosy(delivery, entry):
        if entry.call == "refused":
            raise TransactionFailedError("no")
        submit(delivery, entry)

    monkeypatch.setattr(Delivery, "submit", choosy)
    sender = sender_of(node, account, tmp_path)

    def one(number):
        if number % 2:
            return send(sender, 1850 + number).hash
        with pytest.raises(TransactionFailedError, match=r"^no$"):
            send(sender, 1850 + number, call="refused")
        return None

    with mined_every(node, 100), ThreadPoolExecutor(8) as pool:
        hashes = [found for found in pool.map(one, range(24)) if found]
    assert len(set(hashes)) == sent(node, account) == 12
    assert in_flight_of(node, account, tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": 2, "chain_id": 31337}',
        b'{"version": 1, "chain_id": 1, "genesis_hash": "0x%s"}' % (b"11" * 32),
        b'{"version": 1, "chain_id": 31337, "genesis_hash": "0x11"}',
        b'{"version": 1, "chain_id": 31337, "genesis_hash": "0x%s", "transactions": [{"nonce": 0, '
        b'"transaction_hash": "0x%s", "raw": "0x00", "call": "ping", "request_hash": "0x%s", '
        b'"waiting": null}]}' % (b"11" * 32, b"22" * 32, b"33" * 32),
    ],
)
def test_a_corrupt_record_is_one_clear_error_and_is_left_as_it_is(node, account, tmp_path, content):
    path = file_of(node, account, tmp_path)
    path.write_bytes(content)
    with pytest.raises(ChainFileError, match="nothing was sent") as caught:
        send(sender_of(node, account, tmp_path), 1900)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content
    assert sent(node, account) == 0


def test_nothing_is_sent_where_the_record_cannot_be_written(node, account, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(in_flight, "write_durably", full)
    with pytest.raises(TransactionFailedError, match=r"No space left on device\): not sent"):
        send(sender_of(node, account, tmp_path), 1950)
    assert sent(node, account) == 0


def entry(nonce, waiting):
    raw = f"0x{nonce:04x}"
    digest = "0x" + keccak(hexstr=raw).hex()
    return InFlight(
        nonce=nonce,
        transaction_hash=digest,
        raw=raw,
        call="ping",
        request_hash=digest,
        waiting=waiting,
    )


def test_only_what_nobody_waits_for_needs_care():
    genesis = "0x" + "11" * 32
    this = WaitingProcess.this()
    parent = WaitingProcess(pid=os.getppid(), started=in_flight._started(os.getppid()))
    record = AccountRecord(chain_id=1, genesis_hash=genesis)
    assert not record.put([entry(0, this), entry(1, parent)]).needs_care(genesis)
    assert record.needs_care("0x" + "22" * 32)
    # The id of the process is in use, by a later one.
    later = this.model_copy(update={"started": this.started - 100})
    for gone in (None, later, parent.model_copy(update={"started": 5.0})):
        assert record.put([entry(0, this), entry(1, gone)]).needs_care(genesis)


def test_a_record_keeps_its_transactions_by_nonce_and_remembers_the_highest_that_landed():
    record = AccountRecord(chain_id=1, genesis_hash="0x" + "11" * 32)
    this = WaitingProcess.this()
    full = record.put([entry(7, this), entry(5, this)]).put([entry(6, this), entry(5, None)])
    assert [(one.nonce, one.waiting) for one in full.transactions] == [
        (5, None),
        (6, this),
        (7, this),
    ]
    after = full.landed(entry(6, this)).landed(entry(5, this))
    assert (after.next_nonce, [one.nonce for one in after.transactions]) == (7, [7])
    # What another one has taken out stays out.
    assert after.given_up([entry(5, this), entry(7, this)]).transactions == (entry(7, None),)
