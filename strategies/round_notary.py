"""Puts rounds on the public chain, and proves to each organization that its reply is under one."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from eth_account.signers.local import LocalAccount

from blockchain import merkle
from blockchain.chain_records import Phase
from blockchain.errors import ChainWasResetError, RecordMismatchError
from blockchain.merkle import organization_id
from blockchain.model_update import receipt_digest
from blockchain.public_chain import PublicChain
from blockchain.typed_data import sign_digest
from strategies.protocol import RoundReceipt
from strategies.round_outcome import RoundOutcome
from strategies.scores import ScoreTable
from strategies.signed_update import TaskContext


class RoundNotary:
    """One task's rounds on chain.

    Parameters
    ----------
    chain : PublicChain
        The connection, with the coordinator's account.
    context : TaskContext
        The task, and what its signatures are bound to.
    account : LocalAccount
        The coordinator's, which signs receipts.
    """

    def __init__(self, chain: PublicChain, context: TaskContext, account: LocalAccount) -> None:
        self._chain = chain
        self._account = account
        self.context = context
        self._opening_seconds = 0.0

    @property
    def task(self) -> bytes:
        """The task's id, 32 bytes."""
        return self.context.task

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
        seal = outcome.seal(self.task)
        receipt = self._chain.seal(self.task, outcome.round, seal)
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
            "updates_root": seal.updates_root.hex(),
        }

    def void(self, round_number: int) -> None:
        """End an open round with nothing, or find it void."""
        self._chain.void_round(self.task, round_number)

    def is_void(self, round_number: int) -> bool:
        """Whether a round was ended with nothing."""
        return self._chain.round(self.task, round_number).phase is Phase.VOID

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
        if not record.phase.has_result:
            raise ChainWasResetError(
                f"round {outcome.round} was sealed, but the chain at {self._chain.address} does "
                "not know it: the chain was reset, and a run cannot go on without its rounds; "
                "start a new one"
            )
        expected = outcome.seal(self.task).record
        if record.record != expected:
            raise RecordMismatchError(
                f"round {outcome.round} is sealed with the record 0x{record.record.hex()}, what "
                f"lies on disk makes 0x{expected.hex()}"
            )

    def head_round(self) -> int:
        """Return the round that the next one builds on; 0 for the genesis adapter."""
        return self._chain.task(self.task).head_round

    def attest(
        self, outcome: RoundOutcome, scores: ScoreTable, signatures: Mapping[str, bytes]
    ) -> dict[str, Any]:
        """Put what attestors signed on the chain; what landed before a crash is taken up.

        Parameters
        ----------
        outcome : RoundOutcome
            The sealed round.
        scores : ScoreTable
            What they agree on.
        signatures : mapping of str to bytes
            By name of the attestor.

        Returns
        -------
        dict
            ``transaction``, ``block``, ``gas_used``, and the ``seconds`` it took.
        """
        started = time.monotonic()
        approvals = {organization_id(name): word for name, word in signatures.items()}
        receipt = self._chain.attest(self.task, outcome.round, scores.hash(), approvals)
        return {
            "transaction": receipt.hash.hex(),
            "block": receipt.block_number,
            "gas_used": receipt.gas_used,
            "seconds": time.monotonic() - started,
        }

    def attestors_needed(self) -> int:
        """Return how many attestors an attestation needs."""
        return self._chain.members.attestor_threshold()

    def key_of(self, organization: str) -> str:
        """Return the address of an organization's key now."""
        return self._chain.members.key_of(organization_id(organization))

    def keys(self, organization: str, round_number: int) -> list[str]:
        """Return the keys that were an organization's since a round was opened."""
        opened = self._chain.round(self.task, round_number).opened_block
        return self._chain.members.keys_between(organization_id(organization), opened, 2**62)

    def submissions(self, round_number: int, organizations: Iterable[str]) -> dict[str, bytes]:
        """Return what organizations put on the chain themselves in a round.

        Parameters
        ----------
        round_number : int
            The round.
        organizations : iterable of str
            Names of those that take part. Any member can write to the chain.

        Returns
        -------
        dict of str to bytes
            Digest of what they signed, 32 bytes, by name, or by id where the name is not known.
        """
        names = {organization_id(name): name for name in organizations}
        submitted = self._chain.submissions(self.task, round_number)
        return {names.get(who, f"0x{who.hex()}"): digest for who, digest in submitted.items()}

    def receipts(self, outcome: RoundOutcome, seal: Mapping[str, Any]) -> dict[str, RoundReceipt]:
        """Return what each organization that replied is owed.

        That is its leaf's inclusion proof, and the coordinator's word that it had the update.
        """
        tree = merkle.tree(outcome.leaves())
        return {
            entry.organization: RoundReceipt(
                round=outcome.round,
                index=index,
                verdict=entry.verdict,
                digest=entry.digest,
                proof=tuple(tree.proof(index)),
                transaction=str(seal["transaction"]),
                signature=sign_digest(
                    receipt_digest(entry.digest, self.context.domain), self._account
                ),
            )
            for index, entry in enumerate(outcome.entries)
            # Of two, the one that came as a reply.
            if entry.signature
        }
