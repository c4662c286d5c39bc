"""An account that runs out of money is told of in time, once."""

import logging

import pytest

from blockchain.errors import TransactionFailedError
from tests.bare_node import bare_node
from tests.chain_samples import ask
from tests.ping_contract import funded_account, install
from tests.test_sender import send, sender_of, sent

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with bare_node(tmp_path_factory.mktemp("node") / "log") as settings:
        install(settings)
        yield settings


def leave_about(node, account, sender, transactions):
    """Let an account send once, and then have the price of so many more."""
    before = int(ask(node, "eth_getBalance", account.address, "latest"), 16)
    send(sender, 1)
    cost = before - int(ask(node, "eth_getBalance", account.address, "latest"), 16)
    ask(node, "hardhat_setBalance", account.address, hex(cost * transactions))
    return cost


def test_an_account_that_can_pay_few_more_transactions_is_warned_of_once(node, tmp_path, caplog):
    account = funded_account(node)
    with caplog.at_level(logging.WARNING):
        sender = sender_of(node, account, tmp_path)
        leave_about(node, account, sender, 40)
        assert caplog.records == []
        send(sender, 2)
        send(sender, 3)
        # Nor does a new connection repeat it.
        send(sender_of(node, account, tmp_path), 4)
    [record] = caplog.records
    message = record.getMessage()
    assert message.startswith(f"{account.address} has ")
    assert "ether left on chain 31337; a transaction costs up to " in message
    assert "about 39 more" in message or "about 40 more" in message


@pytest.mark.parametrize(("transactions", "threshold"), [(60, 50), (5, 3), (2, 0)])
def test_an_account_with_enough_is_not_warned_of(node, tmp_path, caplog, transactions, threshold):
    account = funded_account(node)
    with caplog.at_level(logging.WARNING):
        sender = sender_of(node, account, tmp_path, low_balance_transactions=threshold)
        # The next one is sent only if twice its base fee can be paid.
        leave_about(node, account, sender, transactions + 1)
        send(sender, 2)
    assert caplog.records == []


def test_too_little_for_a_transaction_is_one_clear_line_and_nothing_is_in_flight(node, tmp_path):
    account = funded_account(node, ether=1e-9)
    sender = sender_of(node, account, tmp_path)
    for _ in range(2):
        with pytest.raises(TransactionFailedError) as caught:
            send(sender, 1)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(
            f"ping: the node refused the transaction of {account.address}, whose balance is 1e-09 "
            "ether: "
        )
        assert "funds" in message
    assert sent(node, account) == 0
