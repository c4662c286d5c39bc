"""Says in time that an account runs out of money: once a process and account."""

import logging
import threading
from typing import Final

import requests
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.exceptions import Web3Exception
from web3.types import TxReceipt

from blockchain.chain_settings import ChainSettings
from blockchain.reverts import nodes_words

_log = logging.getLogger(__name__)


class BalanceWatch:
    """What this process paid for transactions, by chain id and address.

    Senders come and go with their connections; what was paid and what was said stays.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._costliest: dict[tuple[int, str], int] = {}
        self._told: set[tuple[int, str]] = set()

    def sent(self, node: Web3, settings: ChainSettings, address: str, receipt: TxReceipt) -> None:
        """Take note of a transaction's fee, and warn if few more of its kind can be paid.

        The measure is the highest fee seen so far, without what a transaction gives away. Nothing
        is raised: the transaction has landed, whatever the node answers afterwards.

        Parameters
        ----------
        node : Web3
            Connection.
        settings : ChainSettings
            Holds the number of transactions below which the warning comes.
        address : str
            Account that paid.
        receipt : TxReceipt
            The node's receipt.
        """
        account = (settings.chain_id, address)
        fee = int(receipt["gasUsed"]) * int(receipt.get("effectiveGasPrice", 0))
        with self._turn:
            cost = max(fee, self._costliest.get(account, 0))
            self._costliest[account] = cost
            if account in self._told or not cost or not settings.low_balance_transactions:
                return
        try:
            balance = node.eth.get_balance(to_checksum_address(address))
        except (requests.RequestException, Web3Exception) as error:
            _log.debug("the balance of %s is not known: %s", address, nodes_words(error))
            return
        if balance >= settings.low_balance_transactions * cost:
            return
        with self._turn:
            if account in self._told:
                return
            self._told.add(account)
        _log.warning(
            "%s has %g ether left on chain %d; a transaction costs up to %g ether: about %d more "
            "can be paid; send it some",
            address,
            balance / 1e18,
            settings.chain_id,
            cost / 1e18,
            balance // cost,
        )


#: Of this process.
WATCH: Final = BalanceWatch()
