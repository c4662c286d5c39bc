"""The public chain as the coordinator writes it and everyone reads it.

Start here: `PublicChain.connect`, then `open_task`, and for each round `open_round` and `seal`
(or `void_round`). Every sending call can be repeated: what already stands on the chain with the
same values is found there, and its first receipt returned.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from eth_account.signers.local import LocalAccount
from web3 import Web3

from blockchain.anchors import Anchors
from blockchain.chain_records import (
    DisputeTerms,
    OpenedTask,
    Phase,
    RoundRecord,
    Seal,
    TaskRecord,
)
from blockchain.chain_settings import ChainSettings
from blockchain.connection import connect_node, genesis_hash
from blockchain.contract import Contract
from blockchain.disputes import Disputes
from blockchain.errors import RecordMismatchError, TransactionRevertedError
from blockchain.membership import Membership, approvals_argument
from blockchain.merkle import Leaf, check_hash
from blockchain.reward_pool import RewardPool
from blockchain.sender import Sender, TransactionReceipt
from blockchain.typed_data import Domain
from blockchain.unlearning_requests import UnlearningRequests


class PublicChain:
    """The contracts of one deployment on one chain, for one process.

    Hold one object a process: the connection is not shared between processes or Ray actors.
    Threads may share it.

    Parameters
    ----------
    contracts : mapping of str to Contract
        The deployed contracts by name.
    """

    def __init__(self, contracts: Mapping[str, Contract]) -> None:
        self.contracts = dict(contracts)
        self._rounds = self.contracts["Rounds"]

    @classmethod
    def connect(
        cls,
        settings: ChainSettings,
        addresses: Mapping[str, str],
        account: LocalAccount | None = None,
        lock_folder: Path | None = None,
    ) -> Self:
        """Connect to deployed contracts, and make sure that they are ours.

        Parameters
        ----------
        settings : ChainSettings
            Node and chain.
        addresses : mapping of str to str
            Address of each contract by name, ``Rounds`` at least.
        account : LocalAccount, optional
            Account that signs; without one, the chain can only be read.
        lock_folder : Path, optional
            Folder of the account's lock file (see `Sender`); needed with an account.

        Raises
        ------
        NodeUnreachableError, WrongChainError
            See `connect_node`.
        ContractMissingError
            There is no code at an address, or another contract's.
        """
        node = connect_node(settings)
        if account is not None and lock_folder is None:
            raise ValueError("an account needs a lock_folder, shared by all that send from it")
        sender = Sender(node, settings, account, lock_folder) if account and lock_folder else None
        contracts = {
            name: Contract(node, settings, name, address, sender)
            for name, address in addresses.items()
        }
        for contract in contracts.values():
            contract.check_code()
        return cls(contracts)

    @property
    def address(self) -> str:
        """Address of the contract ``Rounds``, checksummed."""
        return self._rounds.address

    @property
    def addresses(self) -> dict[str, str]:
        """Address of every contract by name, checksummed."""
        return {name: contract.address for name, contract in self.contracts.items()}

    @property
    def node(self) -> Web3:
        """The connection of this process."""
        return self._rounds.node

    @property
    def confirmations(self) -> int:
        """Blocks after which a block counts, itself included."""
        return self._rounds.settings.confirmations

    def genesis_hash(self) -> str:
        """Return the hash of the chain's first block: it names one life of a chain."""
        return genesis_hash(self.node, self._rounds.settings)

    @property
    def sender_address(self) -> str:
        """Address of the account that signs; `ChainError` where there is none."""
        return self._rounds.sender.address

    @property
    def domain(self) -> Domain:
        """Where signatures about rounds count."""
        return Domain(self._rounds.settings.chain_id, self.address)

    @property
    def members(self) -> Membership:
        """The organizations and their keys."""
        return Membership(self.contracts["Registry"])

    @property
    def rewards(self) -> RewardPool:
        """What tasks pay."""
        return RewardPool(self.contracts["Rewards"])

    @property
    def anchors(self) -> Anchors:
        """How far organizations' private ledgers are anchored."""
        return Anchors(self.contracts["Anchors"])

    @property
    def disputes(self) -> Disputes:
        """Where organizations and coordinator disagree."""
        return Disputes(self._rounds)

    @property
    def unlearning(self) -> UnlearningRequests:
        """Requests to forget."""
        return UnlearningRequests(self.contracts["Unlearning"])

    @property
    def unlearning_domain(self) -> Domain:
        """Where signatures about requests to forget count."""
        return self.unlearning.domain

    def sent_by(self, account: LocalAccount, lock_folder: Path) -> Self:
        """Return the same contracts for another account that signs."""
        return type(self)(
            {n: contract.sent_by(account, lock_folder) for n, contract in self.contracts.items()}
        )

    def open_task(
        self, terms_hash: bytes, genesis_adapter: bytes, disputes: DisputeTerms
    ) -> OpenedTask:
        """Open a task, or find the one that this account opened with the same two hashes.

        Two runs are two tasks only if their terms differ: let the terms name the run.

        Parameters
        ----------
        terms_hash, genesis_adapter : bytes
            Hash of the terms, and of the adapter that round 1 starts from; 32 bytes each.
        disputes : DisputeTerms
            Windows and bond of the task's challenges.
        """
        check_hash(terms_hash, "terms_hash")
        check_hash(genesis_adapter, "genesis_adapter")
        coordinator = self._rounds.sender.address
        task: bytes = self._rounds.read("taskId", coordinator, terms_hash, genesis_adapter)
        try:
            record = self.task(task)
        except TransactionRevertedError as error:
            if error.error != "RoundsUnknownTask":
                raise
            windows = (disputes.challenge_window, disputes.response_window, disputes.bond)
            receipt = self._rounds.send("openTask", terms_hash, genesis_adapter, *windows)
            return OpenedTask(task, receipt)
        stands = DisputeTerms(record.challenge_window, record.response_window, record.bond)
        if stands != disputes:
            raise RecordMismatchError(f"the task is open with {stands}, not with {disputes}")
        return OpenedTask(
            task, self._rounds.receipt_of("TaskOpened", record.opened_block, task=task)
        )

    def open_round(self, task: bytes, round: int, parent_adapter: bytes) -> TransactionReceipt:
        """Open the next round of a task, or find it already open on the same parent.

        Raises
        ------
        TransactionRevertedError
            It is not the next round, the one before is still open, or the parent is not the last
            valid adapter.
        RecordMismatchError
            The round is open on another parent.
        """
        check_hash(parent_adapter, "parent_adapter")
        record = self.round(task, round)
        if record.phase is not Phase.OPEN:
            return self._rounds.send("openRound", task, round, parent_adapter)
        if record.parent_adapter != parent_adapter:
            raise RecordMismatchError(
                f"round {round} is already open on adapter 0x{record.parent_adapter.hex()}, not "
                f"on 0x{parent_adapter.hex()}: void it, or resume from that adapter"
            )
        return self.opening(task, round)

    def opening(self, task: bytes, round: int) -> TransactionReceipt:
        """Return the receipt of the transaction that opened a round."""
        opened_block = self.round(task, round).opened_block
        return self._rounds.receipt_of("RoundOpened", opened_block, task=task, round=round)

    def seal(self, task: bytes, round: int, seal: Seal) -> TransactionReceipt:
        """End an open round with its result, or find it already sealed with the same one.

        Raises
        ------
        TransactionRevertedError
            The round is not open, or a hash is zero.
        RecordMismatchError
            The round is sealed with another result.
        """
        record = self.round(task, round)
        if not record.phase.has_result:
            return self._rounds.send(
                "seal",
                task,
                round,
                seal.updates_root,
                seal.leaf_count,
                seal.adapter_hash,
                seal.manifest_hash,
                seal.rewards_root,
                seal.rewards_total,
            )
        fields = ("updates_root", "leaf_count", "adapter_hash", "record")
        differing = [name for name in fields if getattr(record, name) != getattr(seal, name)]
        if differing:
            raise RecordMismatchError(
                f"round {round} is already sealed with another {', '.join(differing)}"
            )
        return self._rounds.receipt_of("RoundSealed", record.closed_block, task=task, round=round)

    def void_round(self, task: bytes, round: int) -> TransactionReceipt:
        """End an open round with nothing, or find it already void; the parent stays as it was."""
        record = self.round(task, round)
        if record.phase is not Phase.VOID:
            return self._rounds.send("voidRound", task, round)
        return self._rounds.receipt_of("RoundVoided", record.closed_block, task=task, round=round)

    def attest(
        self, task: bytes, round: int, scores: bytes, approvals: Mapping[bytes, bytes]
    ) -> TransactionReceipt:
        """Put on record what attestors signed of a sealed round, or find it there.

        Parameters
        ----------
        task : bytes
            Id of the task, 32 bytes.
        round : int
            The sealed round.
        scores : bytes
            Hash of the scores that they agree on, 32 bytes.
        approvals : mapping of bytes to bytes
            Signature (65 bytes) by id of the attestor.

        Raises
        ------
        TransactionRevertedError
            The round is not sealed, too few signed, or one of them is no attestor or did not sign.
        RecordMismatchError
            Attestors have signed other scores.
        """
        check_hash(scores, "scores")
        stands = self.round(task, round).scores
        if not any(stands):
            arguments = approvals_argument(approvals)
            return self._rounds.send("attest", task, round, scores, arguments)
        if stands != scores:
            raise RecordMismatchError(
                f"round {round} is attested with scores 0x{stands.hex()}, not 0x{scores.hex()}"
            )
        closed = self.round(task, round).closed_block
        (receipt,) = self._rounds.receipts_of("RoundAttested", closed, task=task, round=round)
        return receipt

    def attested_block(self, task: bytes, round: int) -> int | None:
        """Return the block in which a round was attested; ``None`` if it was not."""
        record = self.round(task, round)
        if not any(record.scores):
            return None
        last = self._rounds.height()
        (log,) = self._rounds.events(
            "RoundAttested", record.closed_block, last, task=task, round=round
        )
        return int(log["blockNumber"])

    def finalize(self, task: bytes, round: int) -> TransactionReceipt:
        """Make an attested round count for good once its windows are over."""
        return self._rounds.send("finalize", task, round)

    def task(self, task: bytes) -> TaskRecord:
        """Read a task; `TransactionRevertedError` with ``RoundsUnknownTask`` if unknown."""
        check_hash(task, "task")
        return TaskRecord(task=task, **self._rounds.read_struct("getTask", task))

    def round(self, task: bytes, round: int) -> RoundRecord:
        """Read a round; one never opened has the phase ``NONE``."""
        check_hash(task, "task")
        fields = self._rounds.read_struct("getRound", task, round)
        fields["phase"] = Phase(fields["phase"])
        return RoundRecord(task=task, round=round, **fields)

    def rounds(self, task: bytes) -> list[RoundRecord]:
        """Read every round opened so far, in order."""
        return [self.round(task, number + 1) for number in range(self.task(task).last_round)]

    def paused(self) -> bool:
        """Whether opening rounds is paused."""
        return bool(self._rounds.read("paused"))

    def height(self) -> int:
        """Return the height of the newest block."""
        return self._rounds.height()

    def block_hash(self, height: int) -> bytes | None:
        """Return the hash of the block at a height, 32 bytes; ``None`` above the head."""
        return self._rounds.block_hash(height)

    def now(self) -> int:
        """Return the time that a transaction sent now is judged by, seconds since the epoch.

        Of a chain that mines on demand, the last block may be old; of one whose clock runs ahead,
        this machine's is.
        """
        return max(int(time.time()), self._rounds.time())

    def balance(self, account: str) -> int:
        """Return what an account has, wei."""
        return self._rounds.balance(account)

    def is_included(self, task: bytes, round: int, leaf: Leaf, proof: Sequence[bytes]) -> bool:
        """Ask the contract whether `leaf` stands under the sealed root of a round."""
        check_hash(task, "task")
        for position, sibling in enumerate(proof):
            check_hash(sibling, f"proof[{position}]")
        included: bool = self._rounds.read(
            "isIncluded", task, round, leaf.index, leaf.verdict, leaf.digest, list(proof)
        )
        return included

    def submissions(self, task: bytes, round: int) -> dict[bytes, bytes]:
        """Return what organizations put on the chain themselves in a round.

        Returns
        -------
        dict of bytes to bytes
            Digest of what was signed, by id of the organization; 32 bytes each.
        """
        record = self.round(task, round)
        if record.phase is Phase.NONE:
            return {}
        last = record.closed_block or self._rounds.height()
        logs = self._rounds.events(
            "UpdateSubmitted", record.opened_block, last, task=task, round=round
        )
        return {bytes(log["args"]["organization"]): bytes(log["args"]["digest"]) for log in logs}
