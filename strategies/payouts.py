"""What each organization of a run has earned, has been paid, and can claim; and the claims.

A round's scores become wei in the round that follows: its seal holds what everyone has earned up
to the round before. A claim needs such a seal in a final round.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blockchain.chain_records import Phase, RoundRecord
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.sender import TransactionReceipt
from strategies.finality import Finality, finality
from strategies.rewards import RewardTable, RewardTerms, round_rewards
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import RunArchive


@dataclass(frozen=True)
class Earned:
    """What one round was worth to an organization.

    Parameters
    ----------
    round : int
        The attested round.
    score : int
        Micro-nats.
    wei : int
        What that score earns.
    """

    round: int
    score: int
    wei: int


@dataclass(frozen=True)
class Later:
    """What can be claimed once a round is final.

    Parameters
    ----------
    round : int
        The round.
    wei : int
        What comes to what can be claimed before.
    earliest : int
        Second since the epoch from which it may be final.
    hindrances : tuple of str
        What stands in the way now.
    """

    round: int
    wei: int
    earliest: int
    hindrances: tuple[str, ...]


@dataclass(frozen=True)
class Payout:
    """One organization's rewards in a run.

    Parameters
    ----------
    organization : str
        Its name.
    rounds : tuple of Earned
        By attested round.
    cumulative : int
        Wei that the last sealed round of the branch says it has earned.
    claimed : int
        Wei that it was paid.
    claimable : int
        Wei that it can claim now, under the newest final round.
    later : tuple of Later
        What it can claim once other rounds are final.
    unsealed : int
        Wei earned by attested rounds that no seal holds yet.
    """

    organization: str
    rounds: tuple[Earned, ...]
    cumulative: int
    claimed: int
    claimable: int
    later: tuple[Later, ...]
    unsealed: int

    def to_json(self) -> dict[str, Any]:
        """Lay it out for ``--json``; wei outgrow JSON's integers and are text."""
        return {
            "organization": self.organization,
            "rounds": [
                {"round": e.round, "score_micro_nats": e.score, "earned_wei": str(e.wei)}
                for e in self.rounds
            ],
            "cumulative_wei": str(self.cumulative),
            "claimed_wei": str(self.claimed),
            "claimable_wei": str(self.claimable),
            "later": [
                {
                    "round": later.round,
                    "wei": str(later.wei),
                    "final_from": later.earliest,
                    "hindrances": list(later.hindrances),
                }
                for later in self.later
            ],
            "unsealed_wei": str(self.unsealed),
        }


@dataclass(frozen=True)
class Finalized:
    """What became of a run's rounds when they were to be made final.

    Parameters
    ----------
    rounds : tuple of int
        Those made final now.
    waiting : tuple of Finality
        Those that are not ready.
    """

    rounds: tuple[int, ...]
    waiting: tuple[Finality, ...]


@dataclass(frozen=True)
class Claim:
    """One claim that was paid.

    Parameters
    ----------
    organization : str
        Who was paid.
    round : int
        The final round that proves it.
    wei : int
        What was paid now.
    receipt : TransactionReceipt
        Of the claim.
    """

    organization: str
    round: int
    wei: int
    receipt: TransactionReceipt


def payouts(
    archive: RunArchive,
    chain: PublicChain,
    task: bytes,
    terms: RewardTerms,
    organizations: Iterable[str],
) -> list[Payout]:
    """Return the rewards of a run's organizations.

    Parameters
    ----------
    archive : RunArchive
        The run on disk.
    chain : PublicChain
        A connection that can read.
    task : bytes
        Id of the task, 32 bytes.
    terms : RewardTerms
        What the parties agreed to pay.
    organizations : iterable of str
        Whose rewards.
    """
    on_chain, records = chain.task(task), chain.rounds(task)
    standing = finality(on_chain, records, chain.now())
    # What a dispute left behind pays nothing, and was never counted in what came after.
    counting = [
        r for r in records if r.round in standing and standing[r.round].earliest is not None
    ]
    scored = _scored(archive, counting, terms)
    tables = {record.round: _table(archive, record.round) for record in counting}
    last_final = on_chain.last_final_round
    found = []
    for name in organizations:
        amounts = {number: table.amounts.get(name, 0) for number, table in tables.items()}
        final = amounts.get(last_final, 0)
        claimed = chain.rewards.claimed(task, organization_id(name))
        later, before = [], max(final, claimed)
        for number, amount in amounts.items():
            stands = standing[number]
            if number > last_final and amount > before and stands.earliest is not None:
                later.append(Later(number, amount - before, stands.earliest, stands.hindrances))
                before = amount
        rounds = tuple(
            Earned(number, score, wei)
            for number, by in scored.items()
            for score, wei in [by[name]]
            if name in by
        )
        counted = tables[max(tables)].round if tables else 0
        found.append(
            Payout(
                organization=name,
                rounds=rounds,
                cumulative=amounts.get(max(amounts), 0) if amounts else 0,
                claimed=claimed,
                claimable=max(0, final - claimed),
                later=tuple(later),
                unsealed=sum(earned.wei for earned in rounds if earned.round > counted),
            )
        )
    return found


def finalize_ready(chain: PublicChain, task: bytes) -> Finalized:
    """Make every round final that can be, in order.

    Parameters
    ----------
    chain : PublicChain
        With any account: it only pays for the transactions.
    task : bytes
        Id of the task, 32 bytes.
    """
    standing = finality(chain.task(task), chain.rounds(task), chain.now())
    made, waiting = [], []
    for number, stands in standing.items():
        if stands.phase is not Phase.SEALED or stands.orphaned:
            continue
        if stands.ready:
            chain.finalize(task, number)
            made.append(number)
        else:
            waiting.append(stands)
    return Finalized(tuple(made), tuple(waiting))


def claim(chain: PublicChain, archive: RunArchive, task: bytes, organization: str) -> Claim | None:
    """Pay an organization what the newest final round says that it has earned.

    Parameters
    ----------
    chain : PublicChain
        With the account that pays for the transaction; the reward goes to the organization's key.
    archive : RunArchive
        The run on disk.
    task : bytes
        Id of the task, 32 bytes.
    organization : str
        Who is paid.

    Returns
    -------
    Claim or None
        ``None`` where there is nothing to claim.
    """
    number = chain.task(task).last_final_round
    if number == 0:
        return None
    outcome = RoundOutcome.from_manifest(archive.manifest(number))
    amount = outcome.rewards.amounts.get(organization, 0)
    who = organization_id(organization)
    due = amount - chain.rewards.claimed(task, who)
    if due <= 0:
        return None
    seal = outcome.seal(task)
    receipt = chain.rewards.claim(
        task,
        number,
        (seal.manifest_hash, seal.rewards_root, seal.rewards_total),
        who,
        amount,
        outcome.rewards.proof(organization),
    )
    return Claim(organization, number, due, receipt)


def _table(archive: RunArchive, number: int) -> RewardTable:
    return RoundOutcome.from_manifest(archive.manifest(number)).rewards


def _scored(
    archive: RunArchive, records: Iterable[RoundRecord], terms: RewardTerms
) -> dict[int, Mapping[str, tuple[int, int]]]:
    """Return score and wei by organization of each attested round, as the chain knows it."""
    found: dict[int, Mapping[str, tuple[int, int]]] = {}
    for record in records:
        attestation = archive.attestation(record.round)
        if attestation is None or attestation.scores.hash() != record.scores:
            continue
        scores = attestation.scores.scores
        earned = round_rewards(scores, pool=terms.pool, constant=terms.constant)
        found[record.round] = {name: (scores[name], earned[name]) for name in scores}
    return found
