"""What the first rounds are for in a run that takes another's place and keeps all its rounds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FirstRounds:
    """The rounds in which a run unlearns by training and recovers, or leaves adapters away.

    Parameters
    ----------
    unlearners : tuple of str
        Who unlearns: one organization in each of the first rounds, alone, so that nobody's update
        dilutes another's.
    recovery : int
        Rounds after them in which all train on, each without the part of its update that would
        undo the unlearning.
    leaving : bool
        Whether isolated adapters are left away: then the first round is sealed without anybody
        training in it, so that attestors say what is left.
    """

    unlearners: tuple[str, ...] = ()
    recovery: int = 0
    leaving: bool = False

    @property
    def last_unlearning(self) -> int:
        """The last round in which somebody unlearns; 0 where nobody does."""
        return len(self.unlearners)

    @property
    def last(self) -> int:
        """The last of them; 0 where the run trains from its first round on."""
        if self.leaving:
            return 1
        return self.last_unlearning + self.recovery if self.unlearners else 0

    @property
    def last_not_replayed(self) -> int:
        """The last round that no replay makes again by itself; 0 where there is none.

        The state before the first one after the unlearning is deleted: it is what was unlearned.
        """
        return max(self.last, self.last_unlearning + 1) if self.unlearners else self.last

    def asked_in(self, round_number: int) -> frozenset[str] | None:
        """Return who alone is asked in a round of the run; ``None`` where everybody is."""
        if self.leaving and round_number == 1:
            return frozenset()
        unlearner = self.unlearner_in(round_number)
        return None if unlearner is None else frozenset({unlearner})

    def unlearner_in(self, round_number: int) -> str | None:
        """Return who unlearns in a round of the run, if anybody does."""
        found = self.unlearners[round_number - 1 : round_number] if round_number > 0 else ()
        return found[0] if found else None

    def recovers_in(self, round_number: int) -> bool:
        """Whether a round of the run is one of recovery."""
        return bool(self.unlearners) and self.last_unlearning < round_number <= self.last
