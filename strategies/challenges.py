"""Challenges of rounds: filed by organizations, answered by the coordinator, settled by anyone.

A challenge says: this update, which the coordinator acknowledged or which stands on the chain, is
not among the round's leaves. `blockchain.disputes` is the contract; here is who does what when.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blockchain import merkle
from blockchain.chain_records import Phase, RoundRecord, TaskRecord
from blockchain.disputes import ChallengeState, FiledChallenge
from blockchain.merkle import Leaf
from blockchain.model_update import ModelUpdate, receipt_digest
from blockchain.public_chain import PublicChain
from blockchain.sender import TransactionReceipt
from blockchain.typed_data import SignatureError, check_signer
from strategies.protocol import RoundReceipt
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import ArchiveError, RunArchive


class ChallengeError(RuntimeError):
    """There is nothing to challenge with, or nothing to challenge."""


@dataclass(frozen=True)
class ListedChallenge:
    """One challenge, for who looks at a run.

    Parameters
    ----------
    filed : FiledChallenge
        The challenge on the chain.
    phase : Phase
        Phase of its round.
    answers_end : int
        Last second, since the epoch, at which it can be answered.
    """

    filed: FiledChallenge
    phase: Phase
    answers_end: int

    def to_json(self, names: Mapping[bytes, str]) -> dict[str, Any]:
        """Lay it out for ``--json``.

        Parameters
        ----------
        names : mapping of bytes to str
            Names of organizations by id, as far as they are known.
        """
        filed = self.filed
        return {
            "round": filed.round,
            "phase": self.phase.name,
            "organization": names.get(filed.organization, f"0x{filed.organization.hex()}"),
            "digest": f"0x{filed.digest.hex()}",
            "state": filed.challenge.state.name,
            "ground": "receipt" if filed.challenge.by_receipt else "submission",
            "challenger": filed.challenge.challenger,
            "block": filed.block,
            "answers_end": self.answers_end,
        }


@dataclass
class Answers:
    """What the coordinator answered.

    Parameters
    ----------
    included : list of FiledChallenge
        Answered by an inclusion proof.
    unavailable : list of FiledChallenge
        Answered by saying that the payload never came.
    unanswered : list of (FiledChallenge, str)
        Those that cannot be answered, and why.
    """

    included: list[FiledChallenge] = field(default_factory=list)
    unavailable: list[FiledChallenge] = field(default_factory=list)
    unanswered: list[tuple[FiledChallenge, str]] = field(default_factory=list)


@dataclass
class Settlement:
    """What was settled.

    Parameters
    ----------
    disputed : list of int
        Rounds that were declared disputed.
    refunded : list of FiledChallenge
        Unanswered challenges whose bond was given back.
    waiting : dict of int to int
        Rounds with open challenges, and the second since which they can be disputed.
    """

    disputed: list[int] = field(default_factory=list)
    refunded: list[FiledChallenge] = field(default_factory=list)
    waiting: dict[int, int] = field(default_factory=dict)


def list_challenges(chain: PublicChain, task: bytes) -> list[ListedChallenge]:
    """Return every challenge of a task, open and settled, by round."""
    on_chain = chain.task(task)
    records = {record.round: record for record in chain.rounds(task)}
    return [
        ListedChallenge(
            filed, records[filed.round].phase, _answers_end(on_chain, records[filed.round])
        )
        for filed in chain.disputes.filed(task, on_chain.opened_block)
    ]


def open_challenge(
    chain: PublicChain, update: ModelUpdate, receipt: RoundReceipt | None
) -> TransactionReceipt:
    """Challenge a round that left out an organization's update, by the best ground there is.

    Parameters
    ----------
    chain : PublicChain
        With the account that pays the bond.
    update : ModelUpdate
        What the organization signed.
    receipt : RoundReceipt or None
        The coordinator's word that it had it, as the organization kept it.

    Raises
    ------
    ChallengeError
        If the update is included, there is no ground, or the round cannot be challenged any more.
    ChainError
        If the chain refuses.
    """
    task, number = update.task, update.round
    digest = update.digest(chain.domain)
    on_chain, record = chain.task(task), chain.round(task, number)
    if receipt is not None:
        leaf = Leaf(digest=digest, index=receipt.index, verdict=receipt.verdict)
        if chain.is_included(task, number, leaf, receipt.proof):
            raise ChallengeError(
                f"round {number}: the update is included, as leaf {receipt.index} with verdict "
                f"{receipt.verdict}: there is nothing to challenge"
            )
    _require_challengeable(on_chain, record, chain.now())
    word = b"" if receipt is None else receipt.signature
    if word:
        try:
            check_signer(receipt_digest(digest, chain.domain), word, on_chain.coordinator)
        except SignatureError:
            word = b""
    submitted = chain.disputes.submission_of(task, number, update.organization) == digest
    if not word and not submitted:
        raise ChallengeError(
            f"round {number}: there is neither the coordinator's receipt for the update nor a "
            "submission of it on the chain: it cannot be challenged"
        )
    stands = chain.disputes.challenge_of(task, number, digest)
    if stands.state is ChallengeState.OPEN and (stands.by_receipt or not word):
        raise ChallengeError(f"round {number}: the update is challenged already, and open")
    return chain.disputes.challenge(update, word, on_chain.bond)


def answer_challenges(
    chain: PublicChain, archive: RunArchive, task: bytes, *, unavailable: bool = False
) -> Answers:
    """Answer every open challenge of a task, as far as what lies on disk allows.

    Parameters
    ----------
    chain : PublicChain
        With the coordinator's account.
    archive : RunArchive
        The run on disk.
    task : bytes
        Id of the task, 32 bytes.
    unavailable : bool
        Whether to say of submissions that are not among the leaves that their payload never came.
    """
    answers = Answers()
    now = chain.now()
    for listed in list_challenges(chain, task):
        filed = listed.filed
        if filed.challenge.state is not ChallengeState.OPEN:
            continue
        if listed.phase is not Phase.SEALED or now > listed.answers_end:
            answers.unanswered.append((filed, "the time to answer is over"))
            continue
        reason = _answered_by_proof(chain, archive, task, filed)
        if not reason:
            answers.included.append(filed)
        elif unavailable and not filed.challenge.by_receipt:
            chain.disputes.answer_unavailable(task, filed.round, filed.organization)
            answers.unavailable.append(filed)
        else:
            answers.unanswered.append((filed, reason))
    return answers


def settle_challenges(chain: PublicChain, task: bytes) -> Settlement:
    """Dispute the rounds that were not answered in time, and give back the bonds of the unanswered.

    Parameters
    ----------
    chain : PublicChain
        With any account: it only pays for the transactions.
    task : bytes
        Id of the task, 32 bytes.
    """
    settlement = Settlement()
    now = chain.now()
    for listed in list_challenges(chain, task):
        filed, number = listed.filed, listed.filed.round
        if filed.challenge.state is not ChallengeState.OPEN:
            continue
        if listed.phase is Phase.SEALED and number not in settlement.disputed:
            if now <= listed.answers_end:
                settlement.waiting[number] = listed.answers_end + 1
                continue
            chain.disputes.dispute(task, number)
            settlement.disputed.append(number)
        chain.disputes.refund_bond(task, number, filed.digest)
        settlement.refunded.append(filed)
    return settlement


def withdraw_credits(chains: Sequence[tuple[str, PublicChain]]) -> dict[str, int]:
    """Pay out what accounts are owed.

    Parameters
    ----------
    chains : sequence of (str, PublicChain)
        Names, and the chain as each of them sends to it.

    Returns
    -------
    dict of str to int
        Wei by name, of those who were owed something.
    """
    paid = {}
    for name, chain in chains:
        owed = chain.disputes.credit_of(chain.sender_address)
        if owed:
            chain.disputes.withdraw()
            paid[name] = owed
    return paid


def _require_challengeable(task: TaskRecord, record: RoundRecord, now: int) -> None:
    if record.phase is not Phase.SEALED:
        raise ChallengeError(
            f"round {record.round} is {record.phase.name.lower()}: only a sealed round can be "
            "challenged"
        )
    end = record.closed_at + task.challenge_window
    if now > end:
        raise ChallengeError(
            f"round {record.round} can no longer be challenged: its time ended {now - end} s ago"
        )


def _answers_end(task: TaskRecord, record: RoundRecord) -> int:
    return record.closed_at + task.challenge_window + task.response_window


def _answered_by_proof(
    chain: PublicChain, archive: RunArchive, task: bytes, filed: FiledChallenge
) -> str:
    """Answer a challenge by the proof of its leaf; say why not where there is none."""
    try:
        leaves = RoundOutcome.from_manifest(archive.manifest(filed.round)).leaves()
    except (ArchiveError, ValueError) as error:
        return str(error)
    leaf = next((leaf for leaf in leaves if leaf.digest == filed.digest), None)
    if leaf is None:
        return "the update is not among the round's leaves"
    proof = merkle.proof(leaves, leaf.index)
    if not chain.is_included(task, filed.round, leaf, proof):
        return "the manifest on disk is not the one that was sealed"
    chain.disputes.answer(task, filed.round, leaf, proof)
    return ""
