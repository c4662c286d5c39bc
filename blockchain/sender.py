"""Sends transactions of one account: in order, each once, and never believed without a receipt."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, cast

import requests
from eth_account.datastructures import SignedTransaction
from eth_account.signers.local import LocalAccount
from eth_typing import BlockNumber
from filelock import FileLock, Timeout
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import Nonce, TxParams, TxReceipt, Wei

from blockchain.chain_settings import ChainSettings
from blockchain.connection import unreachable
from blockchain.errors import TransactionFailedError, TransactionRevertedError
from blockchain.reverts import is_revert, nodes_words, reverted

# State may change between the estimate and the block, by the price of a fresh word or two.
_GAS_HEADROOM: Final = 1.25
_SUBMIT_ATTEMPTS: Final = 4
_POLL_SECONDS: Final = 0.05
_REPEATED: Final[tuple[Literal["from", "to", "data", "gas"], ...]] = ("from", "to", "data", "gas")


@dataclass(frozen=True)
class TransactionReceipt:
    """Where a transaction landed, and what it cost.

    Parameters
    ----------
    hash : bytes
        Hash of the transaction, 32 bytes.
    block_number : int
        Height of its block.
    block_hash : bytes
        Hash of its block, 32 bytes.
    gas_used : int
        Gas it used, in units of gas.
    contract_address : str, optional
        Address of the contract it created, if it created one.
    """

    hash: bytes
    block_number: int
    block_hash: bytes
    gas_used: int
    contract_address: str | None = None

    @classmethod
    def of(cls, receipt: TxReceipt) -> "TransactionReceipt":
        """Take from the node's receipt what is kept."""
        return cls(
            hash=bytes(receipt["transactionHash"]),
            block_number=int(receipt["blockNumber"]),
            block_hash=bytes(receipt["blockHash"]),
            gas_used=receipt["gasUsed"],
            contract_address=receipt["contractAddress"],
        )


class Sender:
    """One account on one connection; its transactions take their nonces in turn.

    Threads of a process take turns by a lock in memory, processes by one on a file, so that any
    number of them may send from the account at once.

    Parameters
    ----------
    node : Web3
        Connection of this process.
    settings : ChainSettings
        Chain, time limits and gas cap.
    account : LocalAccount
        Account that signs.
    lock_folder : Path
        Folder for the lock file, the same for every process that uses the account.
    """

    def __init__(
        self, node: Web3, settings: ChainSettings, account: LocalAccount, lock_folder: Path
    ) -> None:
        self._node = node
        self._settings = settings
        self._account = account
        self._thread_turn = threading.Lock()
        self._lock_file = lock_folder / f"{account.address}.lock"
        self._next_nonce = 0

    @property
    def address(self) -> str:
        """Address of the account, checksummed."""
        return str(self._account.address)

    def send(self, call: str, transaction: TxParams) -> TransactionReceipt:
        """Sign and send a transaction, and wait until it counts.

        Parameters
        ----------
        call : str
            What it does, for messages: the contract function's name.
        transaction : dict
            ``data`` and, unless it creates a contract, ``to``; ``value`` in wei, where it gives.

        Raises
        ------
        TransactionRevertedError
            The contract refused it, before or after it was sent.
        TransactionFailedError
            It was refused by the node, or did not land in time.
        NodeUnreachableError
            The node is gone. Whether the transaction landed is not known: ask again later.
        """
        try:
            prepared = self._prepared(call, transaction)
            with self._turn():
                pending = self._node.eth.get_transaction_count(self._account.address, "pending")
                # A node behind a load balancer may not know yet what another has accepted.
                nonce = max(pending, self._next_nonce)
                prepared["nonce"] = Nonce(nonce)
                signed = self._account.sign_transaction(cast(dict[str, Any], prepared))
                self._submit(call, signed)
                self._next_nonce = nonce + 1
            receipt = self._receipt(call, signed.hash)
            if receipt["status"] != 1:
                self._raise_reason(call, prepared, receipt)
        except requests.RequestException as error:
            raise unreachable(self._settings, error) from error
        except Web3Exception as error:
            raise TransactionFailedError(
                f"{call}: the node answered with an error: {nodes_words(error)}"
            ) from error
        return TransactionReceipt.of(receipt)

    def _prepared(self, call: str, transaction: TxParams) -> TxParams:
        prepared: TxParams = {
            **transaction,
            "from": self._account.address,
            "chainId": self._settings.chain_id,
            "value": transaction.get("value", Wei(0)),
        }
        try:
            estimate = self._node.eth.estimate_gas(prepared)
        except ContractLogicError as error:
            raise reverted(call, error) from error
        except Web3RPCError as error:
            if is_revert(error):
                raise reverted(call, error) from error
            raise self._refused(call, error) from error
        cap = self._settings.gas_limit_cap
        if estimate > cap:
            raise TransactionFailedError(
                f"{call} would use {estimate:,} gas, more than the cap of {cap:,}: not sent"
            )
        prepared["gas"] = min(int(estimate * _GAS_HEADROOM), cap)
        base_fee = self._node.eth.get_block("latest").get("baseFeePerGas")
        if base_fee is None:
            prepared["gasPrice"] = self._node.eth.gas_price
        else:
            tip = self._node.eth.max_priority_fee
            prepared["maxPriorityFeePerGas"] = tip
            # Twice the base fee stays enough through five full blocks.
            prepared["maxFeePerGas"] = Wei(2 * base_fee + tip)
        return prepared

    @contextmanager
    def _turn(self) -> Iterator[None]:
        seconds = self._settings.receipt_timeout_seconds
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._thread_turn, FileLock(self._lock_file, timeout=seconds, poll_interval=0.01):
                yield
        except Timeout as error:
            raise TransactionFailedError(
                f"{self._lock_file} was held for {seconds:g} s by another process that sends "
                "from the same account: not sent"
            ) from error

    def _submit(self, call: str, signed: SignedTransaction) -> None:
        """Hand the transaction to the node, again if need be: the same bytes count only once."""
        for attempt in range(_SUBMIT_ATTEMPTS):
            try:
                self._node.eth.send_raw_transaction(signed.raw_transaction)
            except requests.RequestException:
                if attempt + 1 == _SUBMIT_ATTEMPTS:
                    raise
                time.sleep(_POLL_SECONDS * 4**attempt)
            except Web3Exception as error:
                # "Already known" and "nonce too low" are what a second try hears when the first
                # one landed; Hardhat also answers with an error to what it mines as reverted.
                if self._knows(signed.hash):
                    return
                raise self._refused(call, error) from error
            else:
                return

    def _knows(self, transaction_hash: HexBytes) -> bool:
        try:
            self._node.eth.get_transaction(transaction_hash)
        except TransactionNotFound:
            return False
        return True

    def _receipt(self, call: str, transaction_hash: HexBytes) -> TxReceipt:
        """Wait until the receipt's block has its confirmations and is still the same block."""
        deadline = time.monotonic() + self._settings.receipt_timeout_seconds
        while True:
            try:
                receipt = self._node.eth.get_transaction_receipt(transaction_hash)
            except TransactionNotFound:
                pass
            else:
                height = receipt["blockNumber"] + self._settings.confirmations - 1
                if self._node.eth.block_number >= height:
                    again = self._node.eth.get_transaction_receipt(transaction_hash)
                    if again["blockHash"] == receipt["blockHash"]:
                        return again
            if time.monotonic() > deadline:
                raise TransactionFailedError(
                    f"{call}: transaction 0x{bytes(transaction_hash).hex()} is not confirmed after "
                    f"{self._settings.receipt_timeout_seconds:g} s; it may still land"
                )
            time.sleep(_POLL_SECONDS)

    def _raise_reason(self, call: str, sent: TxParams, receipt: TxReceipt) -> NoReturn:
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

    def _refused(self, call: str, error: Web3Exception) -> TransactionFailedError:
        balance = self._node.eth.get_balance(self._account.address)
        return TransactionFailedError(
            f"{call}: the node refused the transaction of {self.address}, whose balance is "
            f"{balance / 1e18:g} ether: {nodes_words(error)}"
        )
