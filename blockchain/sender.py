"""Sends transactions of one account: in order, each once, and never believed without a receipt."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import requests
from eth_account.signers.local import LocalAccount
from filelock import FileLock, Timeout
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3Exception, Web3RPCError
from web3.types import Nonce, TxParams, TxReceipt, Wei

from blockchain.balance_watch import WATCH
from blockchain.block_hashes import block_hash
from blockchain.chain_settings import ChainSettings
from blockchain.connection import unreachable
from blockchain.delivery import Delivery
from blockchain.errors import ChainError, TransactionFailedError
from blockchain.in_flight import (
    AccountRecord,
    InFlight,
    InFlightFile,
    WaitingProcess,
    request_hash,
    warn_dropped,
)
from blockchain.reverts import is_revert, nodes_words, reverted

# State may change between the estimate and the block, by the price of a fresh word or two.
_GAS_HEADROOM: Final = 1.25
_POLL_SECONDS: Final = 0.05
#: How long a node may be behind what is known to have landed.
_CATCH_UP_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)


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
    number of them may send from the account at once. A transaction is on this machine's disk
    before it is sent (:mod:`blockchain.in_flight`). What a process that was killed, or that waited
    in vain, left there is looked up by whoever sends next: it is found, or sent again as the very
    same bytes, and waited for. If it is what was to be sent now (the same receiver, value and
    data), its receipt is the answer, and nothing is sent twice.

    Parameters
    ----------
    node : Web3
        Connection of this process.
    settings : ChainSettings
        Chain, time limits and gas cap.
    account : LocalAccount
        Account that signs.
    lock_folder : Path
        Folder for the lock file and the record of what is in flight, the same for every process
        that uses the account.
    """

    def __init__(
        self, node: Web3, settings: ChainSettings, account: LocalAccount, lock_folder: Path
    ) -> None:
        self._node = node
        self._settings = settings
        self._account = account
        self._delivery = Delivery(node, settings, account.address)
        self._thread_turn = threading.Lock()
        self._settling = threading.Lock()
        self._counting = threading.Lock()
        self._active = 0
        self._changes: deque[Callable[[AccountRecord], AccountRecord]] = deque()
        self._found: dict[str, tuple[float, TxReceipt]] = {}
        self._lock_file = lock_folder / f"{account.address}.lock"
        self._file = InFlightFile(lock_folder, account.address, settings.chain_id)

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
        ChainFileError
            The record of what is in flight is not readable. Nothing was sent.
        """
        request = request_hash(transaction)
        started = time.monotonic()
        with self._sending(call):
            while True:
                genesis = self._genesis()
                self._settle(genesis)
                found = self._found.get(request)
                # Only what was found meanwhile: the same may be wanted once more later.
                if found is not None and found[0] >= started:
                    return TransactionReceipt.of(found[1])
                # Only now: what was in flight may change what the call costs, or that it passes.
                prepared = self._prepared(call, transaction)
                entry = self._placed(call, prepared, request, genesis)
                if entry is not None:
                    break
            [receipt] = self._awaited([entry])
            if receipt["status"] != 1:
                self._delivery.raise_reason(call, prepared, receipt)
        WATCH.sent(self._node, self._settings, self.address, receipt)
        landed = TransactionReceipt.of(receipt)
        _log.debug(
            "%s landed: 0x%s, block %d, %d gas",
            call,
            landed.hash.hex(),
            landed.block_number,
            landed.gas_used,
        )
        return landed

    def settle(self) -> None:
        """Find or complete what earlier processes left in flight.

        Sending does this too. Call it before reading a state that what is in flight may change.

        Raises
        ------
        TransactionFailedError, NodeUnreachableError, ChainFileError
            As for `send`.
        """
        with self._sending("what was in flight"):
            self._settle(self._genesis())

    def _settle(self, genesis: str) -> None:
        """Complete what nobody waits for, and keep the receipts of what succeeded, by request."""
        # Other threads wait meanwhile: what they are about to send may be just what is found.
        with self._settling:
            record = self._file.read()
            if record is None or not record.needs_care(genesis):
                return
            with self._turn():
                adopted = self._adopted(genesis)
            for entry, receipt in zip(adopted, self._awaited(adopted), strict=True):
                if receipt["status"] == 1:
                    self._found[entry.request_hash] = (time.monotonic(), receipt)
                    _log.info("%s was left in flight, and landed", entry.call)
                else:
                    _log.warning("%s was left in flight, and the contract refused it", entry.call)

    def _adopted(self, genesis: str) -> list[InFlight]:
        """Take over what nobody waits for, sent again where need be. In turn."""
        record = self._file.read()
        if record is None:
            return []
        if record.genesis_hash != genesis:
            self._written(AccountRecord(chain_id=record.chain_id, genesis_hash=genesis))
            for entry in record.transactions:
                warn_dropped(entry, f"the chain was reset, its first block is {genesis[:18]}...")
            return []
        # Asked first: what lands after this has no nonce below it.
        used = self._node.eth.get_transaction_count(self._account.address, "latest")
        dropped, adopted = [], []
        for entry in record.transactions:
            if not entry.abandoned:
                continue
            reason = self._sent_again(entry, used)
            if reason:
                dropped.append(entry)
                warn_dropped(entry, reason)
            else:
                adopted.append(entry.model_copy(update={"waiting": WaitingProcess.this()}))
        self._written(record.without(dropped).put(adopted))
        return adopted

    def _sent_again(self, entry: InFlight, used: int) -> str:
        """Make sure that the node has a transaction; say why it cannot, or nothing."""
        if self._delivery.landed(entry):
            return ""
        if entry.nonce < used:
            return "another transaction of the account has its nonce"
        try:
            self._delivery.submit(entry)
        except TransactionFailedError as error:
            return str(error)
        return ""

    def _placed(self, call: str, prepared: TxParams, request: str, genesis: str) -> InFlight | None:
        """Note a transaction and hand it to the node; None where something is to settle first."""
        with self._turn():
            record = self._file.read()
            if record is None:
                record = AccountRecord(chain_id=self._settings.chain_id, genesis_hash=genesis)
            if record.needs_care(genesis):
                return None
            nonce, record = self._next_nonce(record)
            prepared["nonce"] = Nonce(nonce)
            signed = self._account.sign_transaction(cast(dict[str, Any], prepared))
            entry = InFlight(
                nonce=nonce,
                transaction_hash="0x" + bytes(signed.hash).hex(),
                raw="0x" + bytes(signed.raw_transaction).hex(),
                call=call,
                request_hash=request,
                waiting=WaitingProcess.this(),
            )
            record = self._written(record.put([entry]))
            try:
                self._delivery.submit(entry)
            except TransactionFailedError:
                # The node said no, and does not have it: the nonce is free again.
                self._written(record.without([entry]))
                raise
            except BaseException:
                # What became of it is not known: whoever sends next looks.
                self._written(record.given_up([entry]))
                raise
            return entry

    def _next_nonce(self, record: AccountRecord) -> tuple[int, AccountRecord]:
        """Choose the nonce; the record comes back changed where the chain took blocks back."""
        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while True:
            pending = self._node.eth.get_transaction_count(self._account.address, "pending")
            # A node behind a load balancer may not know yet what another has accepted.
            if pending >= record.next_nonce:
                break
            if time.monotonic() > deadline:
                _log.warning(
                    "%s had nonce %d on the chain, and now the node's next is %d: blocks were "
                    "taken back",
                    self.address,
                    record.next_nonce - 1,
                    pending,
                )
                record = record.model_copy(update={"next_nonce": pending})
                break
            time.sleep(_POLL_SECONDS)
        taken = {entry.nonce for entry in record.transactions}
        nonce = int(pending)
        while nonce in taken:
            nonce += 1
        return nonce, record

    def _awaited(self, entries: list[InFlight]) -> list[TxReceipt]:
        """Wait for each in turn; with its receipt, it is no longer in flight."""
        receipts: list[TxReceipt] = []
        try:
            for entry in entries:
                receipts.append(self._delivery.receipt(entry))
                self._changes.append(partial(AccountRecord.landed, entry=entry))
        except BaseException:
            left = entries[len(receipts) :]
            self._changes.append(partial(AccountRecord.given_up, entries=left))
            self._write_changes()
            raise
        return receipts

    def _write_changes(self) -> None:
        """Write what is to change, if that can be: what stays is looked up again anyway."""
        try:
            with self._turn():
                record = self._file.read()
                # Another thread may have written it along with its own.
                if record is not None and self._changes:
                    self._written(record)
        except (ChainError, OSError) as error:
            _log.warning("what %s has in flight could not be noted: %s", self.address, error)

    def _written(self, record: AccountRecord) -> AccountRecord:
        """Write the record with all that waits to be changed in it, and return it so. In turn."""
        changes = list(self._changes)
        for change in changes:
            record = change(record)
        try:
            self._file.write(record)
        except OSError as error:
            raise TransactionFailedError(
                f"{self._file.path} could not be written ({error.strerror}): not sent"
            ) from error
        for _ in changes:
            self._changes.popleft()
        return record

    def _genesis(self) -> str:
        genesis = block_hash(self._node, 0)
        if genesis is None:
            raise TransactionFailedError("the node has no first block yet: not sent")
        return genesis

    @contextmanager
    def _sending(self, call: str) -> Iterator[None]:
        """Name the node's errors; who is last to finish writes what no other write took along."""
        with self._counting:
            self._active += 1
        try:
            yield
        except requests.RequestException as error:
            raise unreachable(self._settings, error) from error
        except Web3Exception as error:
            raise TransactionFailedError(
                f"{call}: the node answered with an error: {nodes_words(error)}"
            ) from error
        finally:
            with self._counting:
                self._active -= 1
                last = not self._active
            if last and self._changes:
                self._write_changes()

    def _prepared(self, call: str, transaction: TxParams) -> TxParams:
        prepared: TxParams = {
            **transaction,
            "from": self._account.address,
            "chainId": self._settings.chain_id,
            "value": transaction.get("value", Wei(0)),
        }
        try:
            # As the next block would have it: the last one may be old, and its time with it.
            estimate = self._node.eth.estimate_gas(prepared, "pending")
        except ContractLogicError as error:
            raise reverted(call, error) from error
        except Web3RPCError as error:
            if is_revert(error):
                raise reverted(call, error) from error
            raise self._delivery.refused(call, error) from error
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
