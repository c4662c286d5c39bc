"""What making a model cost, in what does not depend on the machine, and in seconds."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What making a model cost; measuring it is no part of it.

    Parameters
    ----------
    trained_tokens : int
        Tokens read forwards and backwards, without padding.
    read_tokens : int
        Tokens read forwards alone: references and stop rules.
    seconds : float
        Wall time of training.
    travelled_bytes : int
        What would travel: the adapter to everybody who takes part, and their updates back.
    stored_bytes : int
        What must have been kept for it, besides the adapter that is served.
    """

    trained_tokens: int = 0
    read_tokens: int = 0
    seconds: float = 0.0
    travelled_bytes: int = 0
    stored_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple[Any, ...]:
        """Its values, in order."""
        return tuple(asdict(self).values())

    @property
    def tokens(self) -> int:
        """Tokens of either kind; reading counts as much as training, against whoever reads."""
        return self.trained_tokens + self.read_tokens


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs."""
    return sum(costs, Cost())
