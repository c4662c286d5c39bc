"""Ways around a coordinator that leaves an organization out: submissions and challenges.

An organization puts what it signed on the chain itself while the round is open (`Disputes.submit`).
If it then is not among the round's leaves, or if the coordinator acknowledged it and dropped it,
anyone who can show so challenges the round (`challenge`), with a bond. The coordinator answers with
an inclusion proof (`answer`), or says that the payload never came (`answer_unavailable`); otherwise
the round becomes disputed (`dispute`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from blockchain.contract import Contract
from blockchain.merkle import Leaf, check_hash
from blockchain.model_update import ModelUpdate
from blockchain.sender import TransactionReceipt


class ChallengeState(IntEnum):
    """What became of a challenge. Numbered as in the contract."""

    NONE = 0
    OPEN = 1
    ANSWERED = 2
    UNAVAILABLE = 3
    UPHELD = 4


@dataclass(frozen=True)
class Challenge:
    """A challenge as it stands on the chain.

    Parameters
    ----------
    challenger : str
        Account that paid the bond.
    state : ChallengeState
        What became of it.
    by_receipt : bool
        Whether it rests on the coordinator's receipt, and not on a submission.
    """

    challenger: str
    state: ChallengeState
    by_receipt: bool


@dataclass(frozen=True)
class FiledChallenge:
    """A challenge as it was filed, and what became of it.

    Parameters
    ----------
    round : int
        The challenged round.
    digest : bytes
        Digest of the update that is said to be missing, 32 bytes.
    organization : bytes
        Whose update it is, 32 bytes.
    challenge : Challenge
        The challenge now.
    block : int
        Block in which it was filed, the last time where it was filed anew.
    """

    round: int
    digest: bytes
    organization: bytes
    challenge: Challenge
    block: int


class Disputes:
    """The contract ``Rounds``, where organizations and coordinator disagree.

    Parameters
    ----------
    contract : Contract
        The contract, with an account where something is to be sent.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    def filed(self, task: bytes, first_block: int) -> list[FiledChallenge]:
        """Return every challenge of a task, by round and digest.

        Parameters
        ----------
        task : bytes
            Id of the task, 32 bytes.
        first_block : int
            Where to begin looking: the block in which the task was opened.
        """
        check_hash(task, "task")
        logs = self._contract.events(
            "OmissionChallenged", first_block, self._contract.height(), task=task
        )
        # A challenge by receipt takes the place of one by submission: the last one counts.
        last = {(int(log["args"]["round"]), bytes(log["args"]["digest"])): log for log in logs}
        return [
            FiledChallenge(
                round=number,
                digest=digest,
                organization=bytes(log["args"]["organization"]),
                challenge=self.challenge_of(task, number, digest),
                block=int(log["blockNumber"]),
            )
            for (number, digest), log in sorted(last.items(), key=lambda item: item[0])
        ]

    def submission_of(self, task: bytes, round: int, organization: bytes) -> bytes | None:
        """Return the digest that an organization put on the chain in a round, if it did."""
        digest = bytes(self._contract.read("submissionOf", task, round, organization))
        return digest if any(digest) else None

    def submit(self, update: ModelUpdate, signature: bytes) -> TransactionReceipt:
        """Put a signed update on the chain, whoever pays for it.

        Raises
        ------
        TransactionRevertedError
            The round is not open, the organization has submitted already, or did not sign this.
        """
        return self._contract.send("submitBySig", _struct(update), signature)

    def challenge(self, update: ModelUpdate, receipt: bytes, bond: int) -> TransactionReceipt:
        """Say that a signed update is not among a sealed round's leaves.

        Parameters
        ----------
        update : ModelUpdate
            What the organization signed.
        receipt : bytes
            The coordinator's signature that it had it, 65 bytes; empty where the update was
            submitted on the chain.
        bond : int
            Wei, as the task says.
        """
        return self._contract.send("challengeOmission", _struct(update), receipt, value=bond)

    def answer(
        self, task: bytes, round: int, leaf: Leaf, proof: Sequence[bytes]
    ) -> TransactionReceipt:
        """Answer a challenge by the inclusion proof of the update's leaf."""
        check_hash(task, "task")
        return self._contract.send(
            "answerChallenge", task, round, leaf.digest, leaf.index, leaf.verdict, list(proof)
        )

    def answer_unavailable(
        self, task: bytes, round: int, organization: bytes
    ) -> TransactionReceipt:
        """Answer a challenge that rests on a submission: the payload behind it never came."""
        return self._contract.send("answerUnavailable", task, round, organization)

    def dispute(self, task: bytes, round: int) -> TransactionReceipt:
        """Declare a round disputed whose challenges were not answered in time."""
        return self._contract.send("dispute", task, round)

    def refund_bond(self, task: bytes, round: int, digest: bytes) -> TransactionReceipt:
        """Credit the bond of an unanswered challenge to its challenger."""
        return self._contract.send("refundBond", task, round, check_hash(digest, "digest"))

    def withdraw(self) -> TransactionReceipt:
        """Pay out what is credited to the sending account."""
        return self._contract.send("withdraw")

    def credit_of(self, account: str) -> int:
        """Return what is credited to an account, wei."""
        return int(self._contract.read("creditOf", account))

    def challenge_of(self, task: bytes, round: int, digest: bytes) -> Challenge:
        """Return a challenge; its state is ``NONE`` if there is none."""
        fields = self._contract.read_struct(
            "challengeOf", task, round, check_hash(digest, "digest")
        )
        return Challenge(
            challenger=str(fields["challenger"]),
            state=ChallengeState(fields["state"]),
            by_receipt=bool(fields["by_receipt"]),
        )


def _struct(update: ModelUpdate) -> tuple[Any, ...]:
    return tuple(update.values().values())
