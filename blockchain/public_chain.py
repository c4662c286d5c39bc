"""The public chain as the coordinator writes it and everyone reads it.

Start here: `PublicChain.connect`, then `open_task`, and for each round `open_round` and `seal`
(or `void_round`). Every sending call can be repeated: what already stands on the chain with the
same values is found there, and its first receipt returned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

import requests
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.hexadecimal import decode_hex
from web3 import Web3
from web3.exceptions import BadFunctionCallOutput, ContractLogicError, Web3Exception

from blockchain.artifacts import load
from blockchain.chain_settings import ChainSettings
from blockchain.connection import connect_node, unreachable
from blockchain.errors import (
    ChainError,
    ContractMissingError,
    RecordMismatchError,
    TransactionRevertedError,
)
from blockchain.merkle import Leaf, check_hash
from blockchain.reverts import nodes_words, reverted
from blockchain.sender import Sender, TransactionReceipt


class Phase(IntEnum):
    """Phase of a round; it only ever moves forward. Numbered as in the contract."""

    NONE = 0
    OPEN = 1
    SEALED = 2
    VOID = 3


@dataclass(frozen=True)
class TaskRecord:
    """A task as it stands on the chain; every hash has 32 bytes."""

    task: bytes
    coordinator: str
    terms: bytes
    genesis_adapter: bytes
    last_round: int
    last_sealed_round: int
    head_adapter: bytes
    opened_block: int


@dataclass(frozen=True)
class RoundRecord:
    """A round as it stands on the chain; every hash has 32 bytes, zero where not yet set."""

    task: bytes
    round: int
    phase: Phase
    parent_adapter: bytes
    leaf_count: int
    updates_root: bytes
    manifest_hash: bytes
    adapter_hash: bytes
    opened_block: int
    closed_block: int


@dataclass(frozen=True)
class OpenedTask:
    """Id of a task (32 bytes), and the receipt of the transaction that opened it."""

    task: bytes
    receipt: TransactionReceipt


class PublicChain:
    """The contract ``Rounds`` on one chain, for one process.

    Hold one object a process: the connection is not shared between processes or Ray actors.
    Threads may share it.
    """

    def __init__(
        self, node: Web3, settings: ChainSettings, address: str, sender: Sender | None
    ) -> None:
        self._node = node
        self._settings = settings
        self._contract = node.eth.contract(
            address=to_checksum_address(address), abi=load("Rounds").abi
        )
        self._sender = sender

    @classmethod
    def connect(
        cls,
        settings: ChainSettings,
        address: str,
        account: LocalAccount | None = None,
        lock_folder: Path | None = None,
    ) -> Self:
        """Connect to the contract at `address`, and make sure that it is ours.

        Parameters
        ----------
        settings : ChainSettings
            Node and chain.
        address : str
            Address of the contract ``Rounds``.
        account : LocalAccount, optional
            Account that signs; without one, the chain can only be read.
        lock_folder : Path, optional
            Folder of the account's lock file (see `Sender`); needed with an account.

        Raises
        ------
        NodeUnreachableError, WrongChainError
            See `connect_node`.
        ContractMissingError
            There is no code at the address, or another contract's.
        """
        node = connect_node(settings)
        check_code(node, settings, address)
        if account is None:
            return cls(node, settings, address, None)
        if lock_folder is None:
            raise ValueError("an account needs a lock_folder, shared by all that send from it")
        return cls(node, settings, address, Sender(node, settings, account, lock_folder))

    @property
    def address(self) -> str:
        """Address of the contract, checksummed."""
        return str(self._contract.address)

    def open_task(self, terms_hash: bytes, genesis_adapter: bytes) -> OpenedTask:
        """Open a task, or find the one that this account opened with the same two hashes.

        Two runs are two tasks only if their terms differ: let the terms name the run.

        Parameters
        ----------
        terms_hash, genesis_adapter : bytes
            Hash of the terms, and of the adapter that round 1 starts from; 32 bytes each.
        """
        check_hash(terms_hash, "terms_hash")
        check_hash(genesis_adapter, "genesis_adapter")
        task: bytes = self._read("taskId", self._writer().address, terms_hash, genesis_adapter)
        try:
            opened_block = self.task(task).opened_block
        except TransactionRevertedError as error:
            if error.error != "RoundsUnknownTask":
                raise
            return OpenedTask(task, self._send("openTask", terms_hash, genesis_adapter))
        return OpenedTask(task, self._receipt_of("TaskOpened", opened_block, task=task))

    def open_round(self, task: bytes, round: int, parent_adapter: bytes) -> TransactionReceipt:
        """Open the next round of a task, or find it already open on the same parent.

        Raises
        ------
        TransactionRevertedError
            It is not the next round, the one before is still open, or the parent is not the last
            sealed adapter.
        RecordMismatchError
            The round is open on another parent.
        """
        check_hash(parent_adapter, "parent_adapter")
        record = self.round(task, round)
        if record.phase is not Phase.OPEN:
            return self._send("openRound", task, round, parent_adapter)
        if record.parent_adapter != parent_adapter:
            raise RecordMismatchError(
                f"round {round} is already open on adapter 0x{record.parent_adapter.hex()}, not "
                f"on 0x{parent_adapter.hex()}: void it, or resume from that adapter"
            )
        return self._receipt_of("RoundOpened", record.opened_block, task=task, round=round)

    def opening(self, task: bytes, round: int) -> TransactionReceipt:
        """Return the receipt of the transaction that opened a round."""
        opened_block = self.round(task, round).opened_block
        return self._receipt_of("RoundOpened", opened_block, task=task, round=round)

    def seal(
        self,
        task: bytes,
        round: int,
        updates_root: bytes,
        leaf_count: int,
        manifest_hash: bytes,
        adapter_hash: bytes,
    ) -> TransactionReceipt:
        """End an open round with its result, or find it already sealed with the same one.

        Parameters
        ----------
        task : bytes
            Id of the task, 32 bytes.
        round : int
            Number of the round.
        updates_root : bytes
            Root over the round's leaves, as `merkle.root` computes it, 32 bytes.
        leaf_count : int
            Number of leaves; 0 exactly when the root is zero.
        manifest_hash, adapter_hash : bytes
            Hash of the round's manifest, and of the new global adapter; 32 bytes each.

        Raises
        ------
        TransactionRevertedError
            The round is not open, or a hash is zero.
        RecordMismatchError
            The round is sealed with another result.
        """
        check_hash(updates_root, "updates_root")
        check_hash(manifest_hash, "manifest_hash")
        check_hash(adapter_hash, "adapter_hash")
        record = self.round(task, round)
        if record.phase is not Phase.SEALED:
            result = (updates_root, leaf_count, manifest_hash, adapter_hash)
            return self._send("seal", task, round, *result)
        given = {
            "updates_root": updates_root,
            "leaf_count": leaf_count,
            "manifest_hash": manifest_hash,
            "adapter_hash": adapter_hash,
        }
        differing = [name for name, value in given.items() if getattr(record, name) != value]
        if differing:
            raise RecordMismatchError(
                f"round {round} is already sealed with another {', '.join(differing)}"
            )
        return self._receipt_of("RoundSealed", record.closed_block, task=task, round=round)

    def void_round(self, task: bytes, round: int) -> TransactionReceipt:
        """End an open round with nothing, or find it already void; the parent stays as it was."""
        record = self.round(task, round)
        if record.phase is not Phase.VOID:
            return self._send("voidRound", task, round)
        return self._receipt_of("RoundVoided", record.closed_block, task=task, round=round)

    def task(self, task: bytes) -> TaskRecord:
        """Read a task; `TransactionRevertedError` with ``RoundsUnknownTask`` if unknown."""
        check_hash(task, "task")
        return TaskRecord(task, *self._read("getTask", task))

    def round(self, task: bytes, round: int) -> RoundRecord:
        """Read a round; one never opened has the phase ``NONE``."""
        check_hash(task, "task")
        phase, *fields = self._read("getRound", task, round)
        return RoundRecord(task, round, Phase(phase), *fields)

    def rounds(self, task: bytes) -> list[RoundRecord]:
        """Read every round opened so far, in order."""
        return [self.round(task, number + 1) for number in range(self.task(task).last_round)]

    def is_included(self, leaf: Leaf, proof: Sequence[bytes]) -> bool:
        """Ask the contract whether `leaf` stands under the sealed root of its round."""
        for position, sibling in enumerate(proof):
            check_hash(sibling, f"proof[{position}]")
        included: bool = self._read(
            "isIncluded",
            leaf.task,
            leaf.round,
            leaf.index,
            leaf.organization,
            leaf.verdict,
            leaf.update_hash,
            list(proof),
        )
        return included

    def _writer(self) -> Sender:
        if self._sender is None:
            raise ChainError("this connection can only read: connect with an account to send")
        return self._sender

    def _send(self, call: str, *arguments: object) -> TransactionReceipt:
        data: Any = self._contract.encode_abi(call, args=arguments)
        return self._writer().send(call, {"to": self._contract.address, "data": data})

    def _read(self, call: str, *arguments: object) -> Any:
        try:
            return self._contract.functions[call](*arguments).call()
        except ContractLogicError as error:
            raise reverted(call, error) from error
        except BadFunctionCallOutput as error:
            raise _missing(self._settings, self.address) from error
        except requests.RequestException as error:
            raise unreachable(self._settings, error) from error
        except Web3Exception as error:
            raise ChainError(
                f"{call}: the node answered with an error: {nodes_words(error)}"
            ) from error

    def _receipt_of(self, event: str, block: int, **topics: object) -> TransactionReceipt:
        """Receipt of the transaction that emitted `event` in `block`."""
        try:
            logs = self._contract.events[event].get_logs(
                argument_filters=topics, from_block=block, to_block=block
            )
            if len(logs) != 1:
                raise RecordMismatchError(
                    f"block {block} holds {len(logs)} events {event}, expected 1"
                )
            receipt = self._node.eth.get_transaction_receipt(logs[0]["transactionHash"])
        except requests.RequestException as error:
            raise unreachable(self._settings, error) from error
        return TransactionReceipt.of(receipt)


def check_code(node: Web3, settings: ChainSettings, address: str) -> bytes:
    """Return the hash of the code at `address`, which must be the shipped contract's.

    Raises
    ------
    ContractMissingError
        There is no code, or another contract's.
    """
    place = to_checksum_address(address)
    try:
        code = bytes(node.eth.get_code(place))
    except requests.RequestException as error:
        raise unreachable(settings, error) from error
    if not code:
        raise _missing(settings, address)
    if code != decode_hex(load("Rounds").deployed_bytecode):
        raise ContractMissingError(
            f"the code at {address} on {settings.shown_url} is not that of this version's "
            "contract Rounds: check the address, or deploy anew with `foedus deploy`"
        )
    return keccak(code)


def _missing(settings: ChainSettings, address: str) -> ContractMissingError:
    return ContractMissingError(
        f"no contract at {address} on {settings.shown_url}: the chain was reset, or the address "
        "is another chain's; `foedus deploy` deploys anew"
    )
