"""Puts rounds on the public chain, and proves to each organization that its reply is under one."""

import time
from collections.abc import Mapping
from typing import Any

from blockchain import merkle
from blockchain.errors import ChainWasResetError, RecordMismatchError
from blockchain.public_chain import Phase, PublicChain
from strategies.protocol import RoundReceipt
from strategies.round_outcome import RoundOutcome


class RoundNotary:
    """One task's rounds on chain.

    Parameters
    ----------
    chain : PublicChain
        The connection, with the coordinator's key.
    task : bytes
        The task's id, 32 bytes.
    """

    def __init__(self, chain: PublicChain, task: bytes) -> None:
        self._chain = chain
        self.task = task
        self._opening_seconds = 0.0

    def open_round(self, round_number: int, parent: bytes) -> None:
        """Open a round; one that is open already with the same parent is taken up."""
        started = time.monotonic()
        self._chain.open_round(self.task, round_number, parent)
        self._opening_seconds = time.monotonic() - started

    def seal(self, outcome: RoundOutcome) -> dict[str, Any]:
        """Seal a round in one transaction; a seal that landed before a crash is taken up.

        Returns
        -------
        dict
            ``transaction``, ``block``, ``block_hash``, ``gas_used`` and ``updates_root``; beside
            them ``opening_gas_used`` and ``seconds``, which were spent waiting for the chain.

        Raises
        ------
        ChainError
            If the round is sealed with anything else, or the transaction fails.
        """
        started = time.monotonic()
        leaves = outcome.leaves(self.task)
        root = merkle.root(leaves)
        receipt = self._chain.seal(
            self.task,
            outcome.round,
            root,
            len(leaves),
            outcome.manifest_hash(self.task),
            outcome.adapter,
        )
        opening = self._chain.opening(self.task, outcome.round)
        seconds = self._opening_seconds + time.monotonic() - started
        self._opening_seconds = 0.0
        return {
            "transaction": receipt.hash.hex(),
            "block": receipt.block_number,
            "block_hash": receipt.block_hash.hex(),
            "gas_used": receipt.gas_used,
            "opening_gas_used": opening.gas_used,
            "seconds": seconds,
            "updates_root": root.hex(),
        }

    def confirm(self, outcome: RoundOutcome) -> None:
        """Make sure that a round sealed earlier still stands on the chain as it did.

        Raises
        ------
        ChainWasResetError
            If it is gone from the chain.
        RecordMismatchError
            If the chain holds another result of it.
        """
        record = self._chain.round(self.task, outcome.round)
        if record.phase is not Phase.SEALED:
            raise ChainWasResetError(
                f"round {outcome.round} was sealed, but the chain at {self._chain.address} does "
                "not know it: the chain was reset, and a run cannot go on without its rounds; "
                "start a new one"
            )
        if record.manifest_hash != outcome.manifest_hash(self.task):
            raise RecordMismatchError(
                f"round {outcome.round} is sealed with manifest 0x{record.manifest_hash.hex()}, "
                f"on disk lies 0x{outcome.manifest_hash(self.task).hex()}"
            )

    def receipts(self, outcome: RoundOutcome, seal: Mapping[str, Any]) -> dict[str, RoundReceipt]:
        """Return what each organization that replied is owed: its leaf's inclusion proof."""
        leaves = outcome.leaves(self.task)
        return {
            entry.organization: RoundReceipt(
                round=outcome.round,
                index=index,
                verdict=entry.verdict,
                update_hash=entry.update_hash,
                proof=tuple(merkle.proof(leaves, index)),
                transaction=str(seal["transaction"]),
            )
            for index, entry in enumerate(outcome.entries)
        }
