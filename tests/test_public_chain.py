"""The public chain's client against a real node."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account import Account
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockchain import merkle
from blockchain.chain_records import Phase, Seal, record_digest
from blockchain.chain_settings import ChainSettings
from blockchain.connection import connect_node
from blockchain.contract import Contract
from blockchain.deployment import connect_deployed, deploy
from blockchain.errors import (
    ChainError,
    ContractMissingError,
    NodeUnreachableError,
    RecordMismatchError,
    TransactionFailedError,
    TransactionRevertedError,
    WrongChainError,
)
from blockchain.keys import fund_from_development_account
from blockchain.public_chain import PublicChain
from blockchain.sender import Sender
from tests.bare_node import bare_node
from tests.chain_samples import (
    DISPUTES,
    GENESIS,
    ask,
    changed,
    digest,
    founding_of,
    free_port,
    fresh_task,
    losing_answers,
    make_leaves,
    mined_every,
    refusing,
)
from tests.signing_cases import account_of
from tests.test_merkle import corruptions

pytestmark = pytest.mark.real

MANIFEST = digest("manifest")
ADAPTER = digest("adapter")
ROOT = digest("root")
SEAL = Seal(ROOT, 1, ADAPTER, MANIFEST)


@dataclass(frozen=True)
class BareChain:
    """A node that does whatever it is told, and the folder for its keys."""

    settings: ChainSettings
    folder: Path


@pytest.fixture(scope="module")
def chain_node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    with bare_node(folder / "node.log") as settings:
        yield BareChain(settings, folder)


@pytest.fixture(scope="module")
def chain_folder(chain_node):
    return chain_node.folder


@pytest.fixture(scope="module")
def chain_account(chain_node):
    account = account_of("coordinator")
    fund_from_development_account(chain_node.settings, account.address, chain_node.folder)
    return account


@pytest.fixture(scope="module")
def chain(chain_node, chain_account):
    founding = founding_of(chain_account.address)
    deploy(chain_node.settings, chain_account, chain_node.folder, lambda: founding)
    return connect_deployed(chain_node.settings, chain_node.folder, chain_account)


def test_a_sealed_round_is_read_back_as_it_was_written(chain):
    task = fresh_task(chain)
    opened = chain.open_round(task, 1, GENESIS)
    sealed = chain.seal(task, 1, Seal(ROOT, 7, ADAPTER, MANIFEST, digest("rewards"), 5))
    record = chain.round(task, 1)
    assert (record.task, record.round, record.phase) == (task, 1, Phase.SEALED)
    assert record.parent_adapter == GENESIS
    assert (record.updates_root, record.leaf_count) == (ROOT, 7)
    assert record.adapter_hash == ADAPTER
    assert record.record == record_digest(MANIFEST, digest("rewards"), 5)
    assert (record.scores, record.open_challenges) == (bytes(32), 0)
    assert record.closed_at > 1_700_000_000
    assert record.opened_block == opened.block_number
    assert record.closed_block == sealed.block_number
    assert chain.task(task).head_adapter == ADAPTER


def test_rounds_are_chained_by_their_adapters_and_void_ones_change_nothing(chain):
    task = fresh_task(chain)
    chain.open_round(task, 1, GENESIS)
    chain.seal(task, 1, SEAL)
    chain.open_round(task, 2, ADAPTER)
    chain.void_round(task, 2)
    chain.open_round(task, 3, ADAPTER)
    records = chain.rounds(task)
    assert [record.phase for record in records] == [Phase.SEALED, Phase.VOID, Phase.OPEN]
    assert [record.parent_adapter for record in records] == [GENESIS, ADAPTER, ADAPTER]
    assert chain.round(task, 4).phase is Phase.NONE


def test_a_refused_call_raises_the_contracts_own_error_with_its_values(chain):
    task = fresh_task(chain)
    with pytest.raises(TransactionRevertedError, match="RoundsParentMismatch") as caught:
        chain.open_round(task, 1, ADAPTER)
    assert caught.value.call == "openRound"
    assert caught.value.arguments == {
        "task": task,
        "round": 1,
        "parent": ADAPTER,
        "expected": GENESIS,
    }


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c, t: c.open_round(t, 2, GENESIS), "RoundsUnexpectedRound"),
        (lambda c, t: c.seal(t, 1, SEAL), "RoundsUnexpectedPhase"),
        (lambda c, t: c.void_round(t, 1), "RoundsUnexpectedPhase"),
        (lambda c, t: c.open_round(digest("no task"), 1, GENESIS), "RoundsUnknownTask"),
        (lambda c, t: c.round(digest("no task"), 1), "RoundsUnknownTask"),
        (lambda c, t: c.open_task(bytes(32), GENESIS, DISPUTES), "RoundsZeroValue"),
    ],
)
def test_each_refusal_has_its_name(chain, call, error):
    with pytest.raises(TransactionRevertedError) as caught:
        call(chain, fresh_task(chain))
    assert caught.value.error == error


@pytest.mark.parametrize(("root", "count"), [(ROOT, 0), (bytes(32), 1)])
def test_a_root_without_leaves_and_leaves_without_a_root_are_refused(chain, root, count):
    task = fresh_task(chain)
    chain.open_round(task, 1, GENESIS)
    with pytest.raises(TransactionRevertedError, match="RoundsLeafCountMismatch"):
        chain.seal(task, 1, Seal(root, count, ADAPTER, MANIFEST))
    assert chain.round(task, 1).phase is Phase.OPEN


def test_a_transaction_that_is_mined_as_reverted_raises_the_same_error(chain, chain_node):
    task = fresh_task(chain)
    chain.open_round(task, 1, GENESIS)
    errors: list[TransactionRevertedError] = []

    def void() -> None:
        try:
            chain.void_round(task, 1)
        except TransactionRevertedError as error:
            errors.append(error)

    # Both estimates pass before either transaction is mined, so that one reverts in its block.
    with mined_every(chain_node.settings, 300):
        threads = [threading.Thread(target=void) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [error.error for error in errors] == ["RoundsUnexpectedPhase"]
    assert chain.round(task, 1).phase is Phase.VOID


@pytest.mark.parametrize("size", [31, 33, 0])
def test_a_hash_of_another_size_is_refused_before_anything_is_sent(chain, size):
    with pytest.raises(ValueError, match="expected 32 bytes"):
        Seal(ROOT, 1, bytes(size), MANIFEST)


def test_every_call_repeated_finds_its_first_transaction(chain):
    first = chain.open_task(digest("repeated"), GENESIS, DISPUTES)
    assert chain.open_task(digest("repeated"), GENESIS, DISPUTES) == first
    task = first.task
    opened = chain.open_round(task, 1, GENESIS)
    assert chain.open_round(task, 1, GENESIS) == opened
    assert chain.opening(task, 1) == opened
    sealed = chain.seal(task, 1, SEAL)
    assert chain.seal(task, 1, SEAL) == sealed
    chain.open_round(task, 2, ADAPTER)
    voided = chain.void_round(task, 2)
    assert chain.void_round(task, 2) == voided
    assert len({first.receipt.hash, opened.hash, sealed.hash, voided.hash}) == 4


def test_a_repeated_call_that_says_something_else_is_refused(chain):
    task = fresh_task(chain)
    chain.open_round(task, 1, GENESIS)
    with pytest.raises(RecordMismatchError, match="already open on adapter"):
        chain.open_round(task, 1, ADAPTER)
    chain.seal(task, 1, SEAL)
    with pytest.raises(RecordMismatchError, match="another leaf_count, record"):
        chain.seal(task, 1, Seal(ROOT, 2, ADAPTER, ROOT))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(count=st.integers(1, 40), data=st.data())
def test_contract_and_python_agree_on_every_proof_and_every_corruption(chain, count, data):
    task = fresh_task(chain)
    leaves = make_leaves(task, 1, count)
    root = merkle.root(leaves)
    chain.open_round(task, 1, GENESIS)
    chain.seal(task, 1, Seal(root, count, ADAPTER, MANIFEST))
    leaf = leaves[data.draw(st.integers(0, count - 1))]
    proof = merkle.proof(leaves, leaf.index)
    assert chain.is_included(task, 1, leaf, proof)
    for name, corrupt, siblings in corruptions(leaf, proof):
        assert not merkle.verify(root, corrupt, siblings), name
        assert not chain.is_included(task, 1, corrupt, siblings), name


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_a_seal_with_rewards_costs_at_most_107000_gas_whatever_the_number_of_leaves(chain, count):
    task = fresh_task(chain)
    chain.open_round(task, 1, GENESIS)
    receipt = chain.seal(
        task, 1, Seal(digest(f"root {count}"), count, ADAPTER, MANIFEST, ROOT, 10**18)
    )
    assert 106_000 <= receipt.gas_used <= 107_000


def test_ten_threads_sending_at_once_lose_nothing(chain):
    def open_and_seal(number: int) -> bytes:
        task = chain.open_task(digest(f"thread {number}"), GENESIS, DISPUTES).task
        chain.open_round(task, 1, GENESIS)
        return chain.seal(task, 1, SEAL).hash

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(open_and_seal, range(10)))) == 10


def test_threads_and_connections_of_one_account_share_its_nonces_between_blocks(
    chain, chain_node, chain_account
):
    other = PublicChain.connect(
        chain_node.settings, chain.addresses, chain_account, chain_node.folder
    )

    def open_task(number: int) -> bytes:
        return (
            (chain, other)[number % 2].open_task(digest(f"queued {number}"), GENESIS, DISPUTES).task
        )

    with mined_every(chain_node.settings, 100), ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(open_task, range(10)))) == 10


def test_a_receipt_counts_only_with_its_confirmations(chain, chain_node, chain_account):
    patient = changed(chain_node.settings, confirmations=3)
    slow = PublicChain.connect(patient, chain.addresses, chain_account, chain_node.folder)
    with mined_every(chain_node.settings, 50):
        receipt = slow.open_task(digest("confirmed"), GENESIS, DISPUTES).receipt
        assert int(ask(patient, "eth_blockNumber"), 16) >= receipt.block_number + 2


def test_a_transaction_that_never_lands_is_said_to_be_open(chain, chain_node, chain_account):
    hasty = changed(chain_node.settings, receipt_timeout_seconds=0.3)
    client = PublicChain.connect(hasty, chain.addresses, chain_account, chain_node.folder)
    ask(hasty, "evm_setAutomine", False)
    try:
        with pytest.raises(TransactionFailedError, match="may still land"):
            client.open_task(digest("never mined"), GENESIS, DISPUTES)
    finally:
        ask(hasty, "evm_mine")
        ask(hasty, "evm_setAutomine", True)
    # It has landed after all: the repeated call finds it.
    assert client.open_task(digest("never mined"), GENESIS, DISPUTES).receipt.gas_used > 0


@pytest.mark.parametrize("lost", [1, 2])
def test_a_transaction_whose_answer_is_lost_lands_once(chain, chain_node, chain_account, lost):
    with losing_answers(chain_node.settings, "eth_sendRawTransaction", lost) as lossy:
        client = PublicChain.connect(lossy, chain.addresses, chain_account, chain_node.folder)
        before = int(ask(lossy, "eth_getTransactionCount", chain_account.address, "latest"), 16)
        receipt = client.open_task(digest(f"lost {lost}"), GENESIS, DISPUTES).receipt
        after = int(ask(lossy, "eth_getTransactionCount", chain_account.address, "latest"), 16)
    assert after == before + 1
    assert chain.open_task(digest(f"lost {lost}"), GENESIS, DISPUTES).receipt == receipt


def test_a_transaction_that_got_no_answer_at_all_is_found_by_the_next_call(
    chain, chain_node, chain_account
):
    task = fresh_task(chain)
    with losing_answers(chain_node.settings, "eth_sendRawTransaction", 99) as lossy:
        client = PublicChain.connect(lossy, chain.addresses, chain_account, chain_node.folder)
        with pytest.raises(NodeUnreachableError):
            client.open_round(task, 1, GENESIS)
    opened = chain.open_round(task, 1, GENESIS)
    assert opened.block_number == chain.round(task, 1).opened_block


def test_another_account_cannot_touch_the_coordinators_task(chain, chain_node):
    stranger = Account.create()
    client = PublicChain.connect(chain_node.settings, chain.addresses, stranger, chain_node.folder)
    task = fresh_task(chain)
    with pytest.raises(TransactionRevertedError, match="RoundsNotCoordinator") as caught:
        client.open_round(task, 1, GENESIS)
    assert caught.value.arguments["caller"].lower() == stranger.address.lower()


def test_an_account_without_funds_is_told_so(chain_node):
    poor = Account.create()
    sender = Sender(connect_node(chain_node.settings), chain_node.settings, poor, chain_node.folder)
    with pytest.raises(TransactionFailedError, match=rf"{poor.address}, whose balance is 0 ether"):
        sender.send("a gift", {"to": poor.address, "value": 1})


def test_a_call_above_the_gas_cap_is_not_sent(chain, chain_node, chain_account):
    capped = changed(chain_node.settings, gas_limit_cap=50_000)
    client = PublicChain.connect(capped, chain.addresses, chain_account, chain_node.folder)
    height = connect_node(capped).eth.block_number
    with pytest.raises(TransactionFailedError, match="more than the cap of 50,000"):
        client.open_task(digest("capped"), GENESIS, DISPUTES)
    assert connect_node(capped).eth.block_number == height


def test_a_connection_without_an_account_reads_but_does_not_send(chain, chain_node):
    reader = PublicChain.connect(chain_node.settings, chain.addresses)
    task = fresh_task(chain)
    assert reader.task(task) == chain.task(task)
    with pytest.raises(ChainError, match="can only read"):
        reader.open_round(task, 1, GENESIS)


def test_a_dead_node_is_named_without_what_is_secret_in_its_address(chain):
    url = f"http://user:secret@127.0.0.1:{free_port()}/key?token=secret"
    with pytest.raises(NodeUnreachableError, match=r"http://127\.0\.0\.1:\d+ ") as caught:
        PublicChain.connect(ChainSettings.model_validate({"rpc_url": url}), chain.addresses)
    assert "secret" not in str(caught.value)


def test_another_chain_than_the_configured_one_is_refused(chain, chain_node):
    with pytest.raises(WrongChainError, match="serves chain 31337, expected 1:"):
        PublicChain.connect(changed(chain_node.settings, chain_id=1), chain.addresses)


def test_an_address_without_code_is_refused(chain_node):
    with pytest.raises(ContractMissingError, match="the chain was reset, or"):
        PublicChain.connect(chain_node.settings, {"Rounds": "0x" + "11" * 20})


def test_an_address_with_another_contract_is_refused(chain, chain_node):
    other = "0x" + "22" * 20
    ask(chain_node.settings, "hardhat_setCode", other, "0x6001600101")
    with pytest.raises(ContractMissingError, match="not that of this version's"):
        PublicChain.connect(chain_node.settings, {"Rounds": other})


def test_events_are_asked_for_in_bounded_ranges_and_narrower_ones_where_a_node_refuses(
    chain, chain_node
):
    task = fresh_task(chain)
    first = chain.task(task).opened_block
    for number in (1, 2, 3):
        chain.open_round(task, number, GENESIS)
        chain.void_round(task, number)
        ask(chain_node.settings, "hardhat_mine", hex(30))
    asked = []

    def too_wide(request):
        if request["method"] != "eth_getLogs":
            return False
        [blocks] = request["params"]
        asked.append(int(blocks["toBlock"], 16) - int(blocks["fromBlock"], 16) + 1)
        return asked[-1] > 7

    with refusing(changed(chain_node.settings, event_range_blocks=20), too_wide) as strict:
        rounds = Contract(connect_node(strict), strict, "Rounds", chain.addresses["Rounds"], None)
        logs = rounds.events("RoundOpened", first, rounds.height(), task=task)
    assert [log["args"]["round"] for log in logs] == [1, 2, 3]
    assert max(asked) == 20
    with refusing(chain_node.settings, lambda request: request["method"] == "eth_getLogs") as mute:
        rounds = Contract(connect_node(mute), mute, "Rounds", chain.addresses["Rounds"], None)
        with pytest.raises(ChainError, match=r"events of Rounds: .*refused by the test"):
            rounds.events("RoundOpened", first, rounds.height(), task=task)


def test_connecting_takes_less_than_a_second(chain, chain_node):
    seconds = []
    # The fastest of three: what else the machine does is no part of it.
    for _ in range(3):
        started = time.perf_counter()
        PublicChain.connect(chain_node.settings, chain.addresses)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.0
