"""Hands signed transactions to a node, and waits for what becomes of them."""

import time
from typing import Final, Literal, NoReturn, cast

import requests
from eth_typing import BlockNumber, HexStr
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception
from web3.types import TxParams, TxReceipt

from blockchain.chain_settings import ChainSettings
from blockchain.errors import TransactionFailedError, TransactionRevertedError
from blockchain.in_flight import InFlight
from blockchain.reverts import nodes_words, reverted

_SUBMIT_ATTEMPTS: Final = 4
_POLL_SECONDS: Final = 0.05
#: How long a node may not know of a transaction before it is handed the same bytes again.
_LOOK_SECONDS: Final = 2.0
# With the value, or a payable call would be refused again for the lack of it.
_REPEATED: Final[tuple[Literal["from", "to", "data", "gas", "value"], ...]] = (
    "from",
    "to",
    "data",
    "gas",
    "value",
)


class Delivery:
    """The way of one account's transactions to one node.

    What the connection and the node raise passes as it is; `Sender` turns it into errors of ours.

    Parameters
    ----------
    node : Web3
        Connection of this process.
    settings : ChainSettings
        Confirmations and time limits.
    address : str
        Account, for messages.
    """

    def __init__(self, node: Web3, settings: ChainSettings, address: str) -> None:
        self._node = node
        self._settings = settings
        self._address = address

    def submit(self, entry: InFlight) -> None:
        """Hand the transaction to the node, again if need be: the same bytes count only once."""
        for attempt in range(_SUBMIT_ATTEMPTS):
            try:
                self._node.eth.send_raw_transaction(HexStr(entry.raw))
            except requests.RequestException:
                if attempt + 1 == _SUBMIT_ATTEMPTS:
                    raise
                time.sleep(_POLL_SECONDS * 4**attempt)
            except Web3Exception as error:
                # "Already known" and "nonce too low" are what a second try hears when the first
                # one landed; Hardhat also answers with an error to what it mines as reverted.
                if self.knows(entry):
                    return
                raise self.refused(entry.call, error) from error
            else:
                return

    def knows(self, entry: InFlight) -> bool:
        """Whether the node has the transaction, on the chain or waiting for a block."""
        try:
            self._node.eth.get_transaction(HexStr(entry.transaction_hash))
        except TransactionNotFound:
            return False
        return True

    def landed(self, entry: InFlight) -> bool:
        """Whether the transaction is on the chain, however recently."""
        try:
            self._node.eth.get_transaction_receipt(HexStr(entry.transaction_hash))
        except TransactionNotFound:
            return False
        return True

    def receipt(self, entry: InFlight) -> TxReceipt:
        """Wait until the receipt's block has its confirmations and is still the same block."""
        seconds = self._settings.receipt_timeout_seconds
        started = looked = time.monotonic()
        while True:
            try:
                receipt = self._node.eth.get_transaction_receipt(HexStr(entry.transaction_hash))
            except TransactionNotFound:
                if time.monotonic() > looked + _LOOK_SECONDS:
                    looked = time.monotonic()
                    # A node may forget what waits, and what a reorganization took back.
                    if not self.knows(entry):
                        self.submit(entry)
            else:
                height = receipt["blockNumber"] + self._settings.confirmations - 1
                if self._node.eth.block_number >= height:
                    again = self._node.eth.get_transaction_receipt(receipt["transactionHash"])
                    if again["blockHash"] == receipt["blockHash"]:
                        return again
            if time.monotonic() > started + seconds:
                raise TransactionFailedError(
                    f"{entry.call}: transaction {entry.transaction_hash} is not confirmed after "
                    f"{seconds:g} s; it may still land"
                )
            time.sleep(_POLL_SECONDS)

    def raise_reason(self, call: str, sent: TxParams, receipt: TxReceipt) -> NoReturn:
        """Ask again why it was reverted.

        On the state before its block, and if it passes there, on the one after: what refused it
        may be an earlier transaction of the same block.
        """
        asked = cast(TxParams, {key: sent[key] for key in _REPEATED if key in sent})
        for block in (receipt["blockNumber"] - 1, receipt["blockNumber"]):
            try:
                self._node.eth.call(asked, BlockNumber(block))
            except ContractLogicError as error:
                raise reverted(call, error) from error
        raise TransactionRevertedError(call, "reverted in its block, not when asked again", {})

    def refused(self, call: str, error: Web3Exception) -> TransactionFailedError:
        """Say that the node refused a transaction, with the balance: most often it is too low."""
        balance = self._node.eth.get_balance(to_checksum_address(self._address))
        return TransactionFailedError(
            f"{call}: the node refused the transaction of {self._address}, whose balance is "
            f"{balance / 1e18:g} ether: {nodes_words(error)}"
        )
