"""Where a run stands: its last round, the state, what was earned, what everybody is owed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from blockchain.canonical import hash_arrays
from blockchain.chain_records import Seal
from blockchain.errors import TransactionRevertedError
from llm.factors import Arrays, arrays_from_adapter
from strategies.aggregation import AggregationRule, AggregationState
from strategies.attesting import Attesting
from strategies.protocol import RoundReceipt
from strategies.reward_statement import MOST_STATEMENTS, RewardStatement
from strategies.rewards import RewardTable, RewardTerms
from strategies.round_notary import RoundNotary
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import ArchiveError, RunArchive
from strategies.signed_update import Opening

#: Told of everything worth a line in the log: the event's name and its particulars.
Listener = Callable[[str, Mapping[str, Any]], None]


class RunProgress:
    """One run from round to round: stored, sealed, attested, and taken up again.

    Parameters
    ----------
    rule : AggregationRule
        The arithmetic.
    start : AggregationState
        The state that the run starts from: the rule's initial one, or that of an earlier run.
    archive : RunArchive
        Where every round is stored before the next begins.
    notary : RoundNotary
        Opens and seals rounds on the public chain.
    attesting : Attesting
        Asks the attestors.
    rewards : RewardTerms
        What a round pays.
    save_adapter : callable
        Given round, adapter arrays and folder, writes a PEFT folder.
    listener : callable
        Told of every event.
    """

    def __init__(
        self,
        *,
        rule: AggregationRule,
        start: AggregationState,
        archive: RunArchive,
        notary: RoundNotary,
        attesting: Attesting,
        rewards: RewardTerms,
        save_adapter: Callable[[int, Arrays, Path], None],
        listener: Listener,
    ) -> None:
        self._rule = rule
        self._archive = archive
        self._notary = notary
        self._attesting = attesting
        self._reward_terms = rewards
        self._save_adapter = save_adapter
        self._listener = listener
        #: The last round of the run, whatever became of it.
        self.round = 0
        #: The round that the next one builds on; 0 for the state the run starts from.
        self.parent_round = 0
        self.state: AggregationState = start
        self.rewards = RewardTable.empty(notary.task)
        self.receipts: dict[str, RoundReceipt] = {}
        #: What was sealed does not change: each round is read and hashed once.
        self._sealed: dict[int, tuple[RoundOutcome, Seal]] = {}
        self._initial = arrays_from_adapter(rule.adapter(rule.initial_state()))

    # What the state is as an adapter

    def adapter_arrays(self) -> Arrays:
        """Return the global adapter under its PEFT names."""
        return arrays_from_adapter(self._rule.adapter(self.state))

    def travelling_arrays(self, adapter: Arrays) -> Arrays:
        """Return what of the adapter differs from the initial one, which all derive from the seed.

        With a frozen A, A therefore never travels.
        """
        return differing_arrays(adapter, self._initial)

    # From one round to the next

    def resume(self) -> int:
        """Take up the last round on disk, sealing it first if that was left undone.

        Returns
        -------
        int
            The last finished round.

        Raises
        ------
        ArchiveError
            If the state on disk is not the one that the round ended with.
        ChainError
            If the chain does not hold the last round as it stands on disk.
        """
        last = self._archive.last_prepared_round()
        if last is None:
            adapter = self.adapter_arrays()
            self._prepare(self._unchanged(0), adapter, self.state, record={}, openings={})
            return 0
        outcome = self._restore(last)
        self.round = last
        if last > 0 and self._archive.is_sealed(last):
            self._notary.confirm(outcome)
        elif last > 0 and not self._notary.is_void(last):
            self._seal(outcome)
        for number in range(1, last + 1):
            if self._archive.is_sealed(number):
                sealed = RoundOutcome.from_manifest(self._archive.manifest(number))
                self.receipts.update(self._notary.receipts(sealed, self._archive.seal(number)))
        return last

    def open_next(self, grid: Grid) -> tuple[int, Arrays]:
        """Have the last round attested and open the next one on the valid adapter.

        Where a dispute has left the last rounds behind, that is an earlier one than the last.

        Returns
        -------
        tuple of (int, dict)
            The round, and the adapter that it starts from.
        """
        head = self._notary.head_round()
        if head != self.parent_round:
            self._listener("branch-abandoned", {"last": self.parent_round, "head": head})
            self._restore(head)
        self.attest_last(grid)
        adapter = self.adapter_arrays()
        self._notary.open_round(self.round + 1, hash_arrays(adapter))
        return self.round + 1, adapter

    def finish(
        self,
        outcome: RoundOutcome,
        state: AggregationState,
        adapter: Arrays,
        *,
        record: Mapping[str, Any],
        openings: Mapping[str, Opening],
    ) -> None:
        """Store a round and seal it.

        Parameters
        ----------
        outcome : RoundOutcome
            What it came to; the files' digests are added.
        state : AggregationState
            The rule's state after it.
        adapter : dict of str to ndarray
            The global adapter after it.
        record : mapping
            What the seal does not commit to.
        openings : mapping of str to Opening
            What opens the accepted updates' commitments, by organization.
        """
        outcome = self._prepare(outcome, adapter, state, record=record, openings=openings)
        self.round = outcome.round
        if self._seal(outcome):
            self.state = state

    def attest_last(self, grid: Grid) -> None:
        """Have the last sealed round attested, and count what it earned; once is enough.

        What it earned is sealed with the round that follows.
        """
        if self.parent_round == 0 or self.rewards.round >= self.parent_round:
            return
        scores = self._attesting.attest(self.parent_round, grid)
        if scores is not None:
            self.rewards = self.rewards.after(scores, self._reward_terms)

    def close_rewards(self, grid: Grid) -> None:
        """Seal what the last round earned, in a round of its own that nobody trains in.

        Nothing is left to a next round that never comes: that a round earned nothing is said as
        well, since whoever trained in it waits to know. Where the run pays nothing, or the last
        round was not attested or is one that nobody trained in already, there is nothing to seal.
        """
        self.attest_last(grid)
        last = RoundOutcome.from_manifest(self._archive.manifest(self.parent_round))
        counted = self.rewards.round > last.rewards.round
        if not (self._reward_terms.pool and last.invited and counted):
            return
        number, adapter = self.open_next(grid)
        self.finish(
            self._unchanged(number), self.state, adapter, record={"metrics": {}}, openings={}
        )
        self.attest_last(grid)

    def reward_statements(self, organization: str) -> list[RewardStatement]:
        """Return what the newest rounds of the branch say that an organization has earned."""
        return [
            RewardStatement.of(outcome, seal, organization)
            for outcome, seal in self._branch(MOST_STATEMENTS)
        ]

    def attest_missed(self, grid: Grid) -> None:
        """Ask once more for rounds that too few attested when each was the last one.

        They pay nothing any more: the rewards that followed them are sealed. But until they are
        attested, no later round becomes final. The first that fails again ends it: what comes
        after could not become final either.
        """
        for number in self._valid_rounds():
            if number < self.parent_round and self._attesting.attest(number, grid) is None:
                return

    # Parts

    def _valid_rounds(self) -> list[int]:
        """Return the sealed rounds that the last one builds on, itself included, in order."""
        return [outcome.round for outcome, _ in self._branch()]

    def _branch(self, most: int | None = None) -> list[tuple[RoundOutcome, Seal]]:
        """Return those rounds with their seals, in order; at most so many, the newest."""
        found: list[tuple[RoundOutcome, Seal]] = []
        number = self.parent_round
        while number > 0 and len(found) != most:
            if number not in self._sealed:
                outcome = RoundOutcome.from_manifest(self._archive.manifest(number))
                self._sealed[number] = outcome, outcome.seal(self._notary.task)
            found.append(self._sealed[number])
            number = found[-1][0].parent_round
        return found[::-1]

    def _restore(self, number: int) -> RoundOutcome:
        """Go on from a round on disk."""
        outcome = RoundOutcome.from_manifest(self._archive.manifest(number))
        state = self._archive.state(number)
        if hash_arrays(state) != outcome.state:
            raise ArchiveError(
                f"{self._archive.round_folder(number)}: the state is not the one the round ended "
                "with; `foedus verify` says what else was altered"
            )
        self.state = self._rule.restore(state)
        self.rewards = outcome.rewards
        self.parent_round = number
        return outcome

    def _unchanged(self, round_number: int) -> RoundOutcome:
        return RoundOutcome.unchanged(
            round_number=round_number,
            parent_round=self.parent_round,
            rule=self._rule.name,
            state=self.state,
            adapter=self.adapter_arrays(),
            rewards=self.rewards,
        )

    def _prepare(
        self,
        outcome: RoundOutcome,
        adapter: Arrays,
        state: AggregationState,
        *,
        record: Mapping[str, Any],
        openings: Mapping[str, Opening],
    ) -> RoundOutcome:
        """Store a round but for its seal; return its outcome with the stored files' digests."""
        self._archive.prepare_round(
            outcome.round,
            manifest=lambda files: replace(outcome, files=files).manifest(self._notary.task),
            openings=openings,
            record=record,
            state=state.to_arrays(),
            save_adapter=lambda folder: self._save_adapter(outcome.round, adapter, folder),
        )
        return RoundOutcome.from_manifest(self._archive.manifest(outcome.round))

    def _seal(self, outcome: RoundOutcome) -> bool:
        """Seal a stored round; void it where a dispute has left it behind while it was open."""
        try:
            seal = self._notary.seal(outcome)
        except TransactionRevertedError as error:
            if error.error != "RoundsOrphaned":
                raise
            self._notary.void(outcome.round)
            self._listener("round-voided", {"round": outcome.round, "reason": str(error)})
            return False
        self._archive.write_seal(outcome.round, seal)
        self.parent_round = outcome.round
        self.receipts.update(self._notary.receipts(outcome, seal))
        self._listener("round-sealed", {"round": outcome.round, **seal})
        return True


def differing_arrays(adapter: Arrays, initial: Arrays) -> Arrays:
    """Return those arrays of an adapter that are other than in the initial one, bit for bit."""
    return {
        name: array
        for name, array in adapter.items()
        if name not in initial
        or initial[name].shape != array.shape
        or initial[name].tobytes() != array.tobytes()
    }
