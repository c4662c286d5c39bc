"""What an organization has earned in one task, and what of it has arrived.

Kept in ``<home>/organizations/<name>/tasks/<task>/earnings.json``: each sealed round's statement,
once it was held against the public chain. An amount has arrived when the contract has paid it,
which it does once the round that states it is final.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blockchain.chain_records import Phase
from blockchain.errors import ChainError
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from strategies.payouts import finalize_ready
from strategies.reward_statement import RewardStatement
from strategies.run_archive import ArchiveError, read_json, write_json


@dataclass(frozen=True)
class RoundEarning:
    """What one round earned an organization.

    Parameters
    ----------
    wei : int
        The amount.
    arrived : bool
        Whether it was paid, or is nothing and final.
    """

    wei: int
    arrived: bool


class OwnEarnings:
    """One organization's rewards of one task.

    Parameters
    ----------
    folder : Path
        The organization's folder.
    task : bytes
        Id of the task, 32 bytes.
    organization : str
        Whose.
    chain : PublicChain
        A connection that can read.
    """

    def __init__(self, folder: Path, task: bytes, organization: str, chain: PublicChain) -> None:
        self._path = folder / "tasks" / task.hex() / "earnings.json"
        self._task = task
        self._organization = organization
        self._chain = chain

    def take(self, statements: Iterable[RewardStatement]) -> list[str]:
        """Keep what is new and stands on the chain; return what is wrong with the rest."""
        kept, problems = {one.round: one for one in self._kept()}, []
        before = len(kept)
        for statement in statements:
            if statement.round in kept:
                continue
            on_chain = self._chain.round(self._task, statement.round)
            problem = statement.problem(self._task, self._organization, on_chain)
            if problem:
                problems.append(problem)
            else:
                kept[statement.round] = statement
        if len(kept) > before:
            ordered = [kept[number].to_json() for number in sorted(kept)]
            write_json(self._path, {"statements": ordered})
        return problems

    def collect(self, payer: Callable[[], PublicChain]) -> int:
        """Make final what can be, and claim what a final round says has been earned.

        Rounds that earned nothing are made final as well: only then has it come to nothing.

        Parameters
        ----------
        payer : callable
            Returns the chain, with the account that pays for the transactions.

        Returns
        -------
        int
            Wei that arrived now.

        Raises
        ------
        ChainError
            If a transaction fails.
        """
        statements = self._kept()
        claimed = self._claimed()
        if not statements or (
            self._phase(statements[-1].round) is Phase.FINAL and statements[-1].amount <= claimed
        ):
            return 0
        paying = payer()
        finalize_ready(paying, self._task)
        final = [one for one in statements if self._phase(one.round) is Phase.FINAL]
        if not final or final[-1].amount <= claimed:
            return 0
        newest = final[-1]
        try:
            paying.rewards.claim(
                self._task,
                newest.round,
                (newest.manifest, newest.root, newest.total),
                organization_id(self._organization),
                newest.amount,
                newest.proof,
            )
        except ChainError:
            # Anyone may have claimed it for us in between.
            if self._claimed() < newest.amount:
                raise
        return newest.amount - claimed

    def by_round(self, since: int = 1) -> Mapping[int, RoundEarning]:
        """Return what each round earned, as far as it is known, from a round on.

        Read along the newest statement's branch: what a dispute left behind counts for nothing. A
        sealed round counts one more round than the one it builds on. Where the statement of one in
        between is missing, what the rounds since earned cannot be told apart, and none of them is
        known, unless all earned nothing.
        """
        found: dict[int, RoundEarning] = {}
        claimed, kept = self._claimed(), {one.round: one for one in self._kept()}
        number, later, final, gap = max(kept, default=0), None, False, False
        while number:
            record, here = self._chain.round(self._task, number), kept.get(number)
            gap = gap or here is None
            if here is not None:
                if later is not None:
                    found |= _between(here, later, gap=gap, arrived=final)
                arrived_by = claimed >= here.amount
                later, gap = here, False
                final = record.phase is Phase.FINAL and arrived_by
                if here.counted < since:
                    return found
            number = record.parent_round
        if later is not None:
            start = RewardStatement(0, 0, 0, bytes(32), bytes(32), 0, ())
            found |= _between(start, later, gap=gap, arrived=final)
        return found

    def _claimed(self) -> int:
        return self._chain.rewards.claimed(self._task, organization_id(self._organization))

    def _phase(self, number: int) -> Phase:
        return self._chain.round(self._task, number).phase

    def _kept(self) -> list[RewardStatement]:
        if not self._path.exists():
            return []
        try:
            documents = read_json(self._path)["statements"]
            return [RewardStatement.from_json(document) for document in documents]
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{self._path} was altered: {error}") from error


def _between(
    before: RewardStatement, after: RewardStatement, *, gap: bool, arrived: bool
) -> dict[int, RoundEarning]:
    """Return what the rounds earned that one statement counts and the one before it does not."""
    earned = after.amount - before.amount
    if after.counted <= before.counted or earned < 0 or (gap and earned):
        return {}
    found = {
        number: RoundEarning(0, arrived) for number in range(before.counted + 1, after.counted)
    }
    return {**found, after.counted: RoundEarning(earned, arrived)}
