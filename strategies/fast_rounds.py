"""The first rounds of a run that makes the model forget by training: unlearning, then recovery."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FastRounds:
    """What a run's first rounds are for, where it unlearns by training; nothing where it does not.

    Parameters
    ----------
    unlearners : tuple of str
        Who unlearns: one organization in each of the first rounds, alone, so that nobody's update
        dilutes another's.
    recovery : int
        Rounds after them in which all train on, each without the part of its update that would
        undo the unlearning.
    """

    unlearners: tuple[str, ...] = ()
    recovery: int = 0

    @property
    def last_unlearning(self) -> int:
        """The last round in which somebody unlearns; 0 where nobody does."""
        return len(self.unlearners)

    @property
    def last(self) -> int:
        """The last round of recovery; 0 where nobody unlearns."""
        return self.last_unlearning + self.recovery if self.unlearners else 0

    def unlearner_in(self, round_number: int) -> str | None:
        """Return who unlearns in a round of the run, if anybody does."""
        found = self.unlearners[round_number - 1 : round_number] if round_number > 0 else ()
        return found[0] if found else None

    def recovers_in(self, round_number: int) -> bool:
        """Whether a round of the run is one of recovery."""
        return self.last_unlearning < round_number <= self.last
