"""When a sealed round becomes final, and what keeps it from that."""

from collections.abc import Sequence
from dataclasses import dataclass

from blockchain.chain_records import Phase, RoundRecord, TaskRecord


@dataclass(frozen=True)
class Finality:
    """How far a sealed round is from counting for good.

    Parameters
    ----------
    round : int
        The round.
    phase : Phase
        As it stands on the chain.
    orphaned : bool
        Whether a dispute left it behind.
    earliest : int or None
        Second since the epoch from which it may be final, if all else goes well: its own and its
        parents' windows are over by then. ``None`` where it never will be.
    hindrances : tuple of str
        What stands in the way now, for people; empty for a round that is final or can be made so.
    """

    round: int
    phase: Phase
    orphaned: bool
    earliest: int | None
    hindrances: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether anyone can make it final now, once the rounds that it builds on are."""
        return self.phase is Phase.SEALED and not self.hindrances


def finality(task: TaskRecord, rounds: Sequence[RoundRecord], now: int) -> dict[int, Finality]:
    """Return how far each round with a result is, by number.

    Parameters
    ----------
    task : TaskRecord
        The task on the chain.
    rounds : sequence of RoundRecord
        Its rounds, in order.
    now : int
        Seconds since the epoch, by the chain's clock.
    """
    found: dict[int, Finality] = {}
    for record in rounds:
        if not record.phase.has_result:
            continue
        orphaned = record.phase is Phase.SEALED and record.round <= task.branch_start
        parent = found.get(record.parent_round)
        # The contract asks for a time after the last second of the window.
        earliest: int | None = record.closed_at + task.challenge_window + 1
        if orphaned or record.phase is Phase.DISPUTED:
            earliest = None
        elif parent is not None:
            # A round can be final only after the one it builds on.
            earliest = (
                None
                if parent.earliest is None or earliest is None
                else max(earliest, parent.earliest)
            )
        found[record.round] = Finality(
            record.round,
            record.phase,
            orphaned,
            earliest,
            tuple(_hindrances(record, orphaned, parent, earliest, now)),
        )
    return found


def _hindrances(
    record: RoundRecord, orphaned: bool, parent: Finality | None, earliest: int | None, now: int
) -> list[str]:
    if record.phase is Phase.FINAL:
        return []
    if record.phase is Phase.DISPUTED:
        return ["it is disputed"]
    if orphaned:
        return ["a dispute left it behind"]
    reasons = []
    if not any(record.scores):
        reasons.append("it is not attested")
    if record.open_challenges:
        reasons.append(f"{record.open_challenges} of its challenges are open")
    if earliest is not None and now < earliest:
        reasons.append("the time to challenge it is not over")
    if parent is not None and parent.phase is not Phase.FINAL and not parent.ready:
        reasons.append(f"round {record.parent_round}, which it builds on, cannot be final yet")
    return reasons
