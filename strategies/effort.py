"""How hard an organization trains in a round: which share of the records, or of the rank."""

from dataclasses import dataclass
from typing import Final, Literal

EffortKind = Literal["steps", "rank"]

#: What efforts are called, ascending.
EFFORT_NAMES: Final = ("low", "mid", "high")


@dataclass(frozen=True)
class Effort:
    """What effort means under a task's terms.

    Parameters
    ----------
    kind : {"steps", "rank"}
        Fewer local steps, on fewer records; or a smaller LoRA rank, of which the first rows and
        columns are trained.
    percents : tuple of int
        Of full effort, for low, mid and high; ascending, the last one at most 100.

    Raises
    ------
    ValueError
        If they are not.
    """

    kind: EffortKind
    percents: tuple[int, ...]

    def __post_init__(self) -> None:
        ascending = sorted(set(self.percents)) == list(self.percents)
        if len(self.percents) != len(EFFORT_NAMES) or not ascending:
            raise ValueError(
                f"{list(self.percents)}, expected {len(EFFORT_NAMES)} ascending percents"
            )
        if not self.percents[0] >= 1 or self.percents[-1] > 100:
            raise ValueError(f"{list(self.percents)}, expected percents of 1 to 100")

    def records(self, percent: int, full: int) -> int:
        """Return how many records an effort draws, of those that full effort draws."""
        return _share(percent, full) if self.kind == "steps" else full

    def rank(self, percent: int, full: int) -> int:
        """Return the rank that an effort trains, of the organization's own."""
        return _share(percent, full) if self.kind == "rank" else full

    def ranks(self, full: int) -> tuple[int, ...]:
        """Return all ranks that an organization may train, ascending; full effort is one of them.

        Parameters
        ----------
        full : int
            The organization's own rank.
        """
        return tuple(sorted({full, *(self.rank(percent, full) for percent in self.percents)}))


def _share(percent: int, full: int) -> int:
    """Return a share, rounded up, in whole numbers: every machine computes the same."""
    return -(-full * percent // 100)
