"""One of our contracts on a chain: its code checked, its calls read and sent, its events found."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import requests
from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.hexadecimal import decode_hex
from web3 import Web3
from web3.exceptions import (
    ContractLogicError,
    Web3Exception,
    Web3RPCError,
)
from web3.types import Wei

from blockchain.artifacts import load
from blockchain.block_hashes import block_hash
from blockchain.block_ranges import next_range
from blockchain.call_codec import codec_of
from blockchain.chain_settings import ChainSettings
from blockchain.connection import answers_of, unreachable
from blockchain.errors import ChainError, ContractMissingError, RecordMismatchError
from blockchain.reverts import nodes_words, reverted
from blockchain.sender import Sender, TransactionReceipt


class Contract:
    """One contract, for one process: read by anyone, sent to with an account.

    Parameters
    ----------
    node : Web3
        A connection of this process.
    settings : ChainSettings
        Node and chain.
    name : str
        The contract's, as its artifact is named.
    address : str
        Where it lies.
    sender : Sender, optional
        Account that signs transactions; without one, the contract can only be read.
    """

    def __init__(
        self, node: Web3, settings: ChainSettings, name: str, address: str, sender: Sender | None
    ) -> None:
        self.name = name
        self.address = str(to_checksum_address(address))
        self.node = node
        self.settings = settings
        self._sender = sender

    @cached_property
    def _events(self) -> Any:
        """web3's contract, for its events; building it takes 10 milliseconds."""
        return self.node.eth.contract(
            address=to_checksum_address(self.address), abi=load(self.name).abi
        ).events

    def sent_by(self, account: LocalAccount, lock_folder: Path) -> Self:
        """Return the same contract for another account that signs."""
        sender = Sender(self.node, self.settings, account, lock_folder)
        return type(self)(self.node, self.settings, self.name, self.address, sender)

    @property
    def sender(self) -> Sender:
        """The account that signs.

        Raises
        ------
        ChainError
            If there is none.
        """
        if self._sender is None:
            raise ChainError("this connection can only read: connect with an account to send")
        return self._sender

    def check_code(self) -> bytes:
        """Return the hash of the code at the address, which must be the shipped contract's.

        Raises
        ------
        ContractMissingError
            There is no code, or another contract's.
        """
        try:
            code = bytes(self.node.eth.get_code(to_checksum_address(self.address)))
        except requests.RequestException as error:
            raise unreachable(self.settings, error) from error
        if not code:
            raise self._missing()
        if not load(self.name).is_code(code):
            raise ContractMissingError(
                f"the code at {self.address} on {self.settings.shown_url} is not that of this "
                f"version's contract {self.name}: check the address, or deploy anew with "
                "`foedus deploy`"
            )
        return keccak(code)

    def read(self, call: str, *arguments: object) -> Any:
        """Ask the contract; what it answers to calls that change nothing.

        Raises
        ------
        TransactionRevertedError
            The contract refuses the question.
        ContractMissingError
            There is no contract any more.
        NodeUnreachableError
            The node is gone.
        """
        codec = codec_of(self.name, call)
        question: Any = {
            "to": to_checksum_address(self.address),
            "data": codec.encoded(arguments),
        }
        try:
            return codec.decoded(bytes(self.node.eth.call(question, ccip_read_enabled=False)))
        except ContractLogicError as error:
            raise reverted(call, error) from error
        except DecodingError as error:
            raise self._missing() from error
        except requests.RequestException as error:
            raise unreachable(self.settings, error) from error
        except Web3Exception as error:
            raise ChainError(
                f"{call}: the node answered with an error: {nodes_words(error)}"
            ) from error

    def read_struct(self, call: str, *arguments: object) -> dict[str, Any]:
        """Ask for a struct; its fields by name, in Python's spelling (``snake_case``)."""
        names = map(_snake, codec_of(self.name, call).fields)
        return dict(zip(names, self.read(call, *arguments), strict=True))

    def send(self, call: str, *arguments: object, value: int = 0) -> TransactionReceipt:
        """Send a transaction and wait until it counts; see :meth:`Sender.send`.

        Parameters
        ----------
        call : str
            Name of the function.
        *arguments : object
            As web3 encodes them.
        value : int
            Wei that go with it.
        """
        data = codec_of(self.name, call).encoded(arguments)
        return self.sender.send(
            call, {"to": to_checksum_address(self.address), "data": data, "value": Wei(value)}
        )

    def receipt_of(self, event: str, block: int, **topics: object) -> TransactionReceipt:
        """Return the receipt of the one transaction that emitted `event` in `block`."""
        logs = self.events(event, block, block, **topics)
        if len(logs) != 1:
            raise RecordMismatchError(f"block {block} holds {len(logs)} events {event}, expected 1")
        try:
            receipt = self.node.eth.get_transaction_receipt(logs[0]["transactionHash"])
        except requests.RequestException as error:
            raise unreachable(self.settings, error) from error
        return TransactionReceipt.of(receipt)

    def receipts_of(
        self, event: str, first_block: int, **topics: object
    ) -> list[TransactionReceipt]:
        """Return the receipts of all transactions since a block that emitted `event`, in order."""
        hashes = [
            log["transactionHash"]
            for log in self.events(event, first_block, self.height(), **topics)
        ]
        try:
            return [
                TransactionReceipt.of(self.node.eth.get_transaction_receipt(hashed))
                for hashed in dict.fromkeys(hashes)
            ]
        except requests.RequestException as error:
            raise unreachable(self.settings, error) from error

    def events(
        self, event: str, first_block: int, last_block: int, **topics: object
    ) -> list[Mapping[str, Any]]:
        """Return the events of one name in a range of blocks, both ends included, in order.

        The node is asked for `ChainSettings.event_range_blocks` at a time, and for fewer where it
        refuses.
        """
        found: list[Mapping[str, Any]] = []
        size = self.settings.event_range_blocks
        with answers_of(self.node, f"{event} events of {self.name}"):
            while (blocks := next_range(first_block, last_block, size)) is not None:
                first, last = blocks
                try:
                    logs = self._events[event].get_logs(
                        argument_filters=topics, from_block=first, to_block=last
                    )
                except Web3RPCError:
                    # Nodes refuse a range with too many events, each in words of its own.
                    size = (last - first + 1) // 2
                    if not size:
                        raise
                    continue
                found += logs
                first_block = last + 1
        return found

    def height(self) -> int:
        """Return the number of the chain's last block."""
        try:
            return int(self.node.eth.block_number)
        except requests.RequestException as error:
            raise unreachable(self.settings, error) from error

    def block_hash(self, height: int) -> bytes | None:
        """Return the hash of the block at a height, 32 bytes; ``None`` above the head."""
        with answers_of(self.node, f"the block at height {height}"):
            found = block_hash(self.node, height)
        return None if found is None else decode_hex(found)

    def time(self) -> int:
        """Return the time of the chain's last block, seconds since the epoch."""
        with answers_of(self.node, "the last block"):
            return int(self.node.eth.get_block("latest")["timestamp"])

    def balance(self, account: str) -> int:
        """Return what an account has, wei."""
        with answers_of(self.node, f"the balance of {account}"):
            return int(self.node.eth.get_balance(to_checksum_address(account)))

    def _missing(self) -> ContractMissingError:
        return ContractMissingError(
            f"no contract {self.name} at {self.address} on {self.settings.shown_url}: the chain "
            "was reset, or the address is another chain's; `foedus deploy` deploys anew"
        )


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
