"""How well assured each round is: the levels that an audit found it to reach.

::

    sealed      on the chain, and what lies on disk is what was sealed
    signed      every leaf is one that its organization signed; none that stands on the chain is
                missing
    recomputed  the aggregate, made again from the updates, is the one sealed
    attested    as many attestors signed it as an attestation needs
    final       beyond challenge

A level counts only where all below it hold. A round that was purged by a request to forget passes
``recomputed`` over, and says so: nobody can make it again, while all else about it still holds.
Beside the levels stand ``disputed`` and ``orphaned``, which the chain says, and ``failed`` for a
round that does not even hold as sealed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from blockchain.chain_records import Phase, RoundRecord, TaskRecord
from strategies.audit_check import Check
from strategies.audit_purged import PURGED
from strategies.finality import Finality, finality

LEVELS: Final = ("sealed", "signed", "recomputed", "attested", "final")

DISPUTED: Final = "disputed"
ORPHANED: Final = "orphaned"
FAILED: Final = "failed"

#: Which checks each level asks for, by how their names begin; all others belong to ``sealed``.
_SIGNED: Final = ("signature of ", "submission on chain", "receipt of ")
_RECOMPUTED: Final = ("update of ", "weights", "aggregate", "rewards")
_ATTESTED: Final = ("attestation",)

#: Checks of the run as a whole without which none of its rounds says anything.
_OF_ALL_ROUNDS: Final = ("task", "terms", "settings", "recorded block")


@dataclass(frozen=True)
class Assurance:
    """How well assured one round is.

    Parameters
    ----------
    round : int
        The round.
    level : str
        One of `LEVELS`, or ``disputed``, ``orphaned`` or ``failed``.
    phase : Phase
        As it stands on the chain.
    final_from : int or None
        Second since the epoch from which the round may be final; ``None`` where it never will be.
    missing : str
        What keeps it from the next level, or kept it from one passed over; empty where nothing.
    """

    round: int
    level: str
    phase: Phase
    final_from: int | None
    missing: str

    def to_json(self) -> dict[str, Any]:
        """Lay it out for ``--json``."""
        return {
            "round": self.round,
            "assurance": self.level,
            "phase": self.phase.name,
            "final_from": self.final_from,
            "missing": self.missing,
        }


def assurances(
    checks: Iterable[Check], task: TaskRecord, rounds: Sequence[RoundRecord], now: int
) -> list[Assurance]:
    """Return how well assured each round is that an audit looked at.

    Parameters
    ----------
    checks : iterable of Check
        What the audit found.
    task : TaskRecord
        The task on the chain.
    rounds : sequence of RoundRecord
        All its rounds, in order.
    now : int
        Seconds since the epoch, by the chain's clock.
    """
    checks = list(checks)
    for_all = [check for check in checks if check.round == 0 and check.name in _OF_ALL_ROUNDS]
    found = []
    standing = finality(task, rounds, now)
    for record in rounds:
        own = [check for check in checks if check.round == record.round]
        if record.round not in standing or not own:
            continue
        found.append(_assurance([*for_all, *own], record, standing[record.round]))
    return found


def level_of(check: Check) -> str:
    """Return the level that a check belongs to."""
    for level, beginnings in (
        ("signed", _SIGNED),
        ("recomputed", _RECOMPUTED),
        ("attested", _ATTESTED),
    ):
        if check.name.startswith(beginnings):
            return level
    return "sealed"


def _assurance(checks: list[Check], record: RoundRecord, stands: Finality) -> Assurance:
    failing = {
        level: [c for c in checks if level_of(c) == level and not c.holds] for level in LEVELS
    }
    reached, missing = FAILED, ""
    purged = next((check.name for check in checks if check.name.startswith(PURGED)), "")
    for level in LEVELS:
        missing = _missing(level, failing[level], checks, record, stands)
        if missing:
            break
        if not (purged and level == "recomputed"):
            reached = level
    if purged and reached != FAILED:
        missing = "; ".join(filter(None, (purged, missing)))
    if reached != FAILED and record.phase is Phase.DISPUTED:
        reached = DISPUTED
    elif reached != FAILED and stands.orphaned:
        reached = ORPHANED
    return Assurance(record.round, reached, record.phase, stands.earliest, missing)


def _missing(
    level: str,
    failing: list[Check],
    checks: list[Check],
    record: RoundRecord,
    stands: Finality,
) -> str:
    """Say why a round does not reach a level; empty where it does."""
    if failing:
        return f"{failing[0].name} does not hold"
    looked_at = any(c.name == "aggregate" or c.name.startswith(PURGED) for c in checks)
    if level == "recomputed" and not looked_at:
        # What was not looked at does not hold.
        return "the aggregate was not recomputed"
    if level == "attested" and not any(record.scores):
        return "it is not attested"
    if level == "final" and record.phase is not Phase.FINAL:
        return "; ".join(stands.hindrances) or "nobody has made it final yet"
    return ""
