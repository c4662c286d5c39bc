"""Who takes part in a run's rounds, and what holds in every one of them."""

from dataclasses import dataclass, field

from strategies.first_rounds import FirstRounds
from strategies.rewards import RewardTerms


@dataclass(frozen=True)
class Participant:
    """An organization of the run.

    Parameters
    ----------
    organization : str
        Its name.
    node : int
        The Flower node that answers for it.
    rank : int
        How many rows and columns of the factors it trains at full effort.
    ranks : tuple of int
        All ranks it may train, ascending, the last one ``rank``; empty for that one alone.

    Raises
    ------
    ValueError
        If they are not.
    """

    organization: str
    node: int
    rank: int
    ranks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ranks = self.ranks or (self.rank,)
        if list(ranks) != sorted(set(ranks)) or ranks[-1] != self.rank:
            raise ValueError(
                f"{self.organization}: ranks {list(ranks)}, expected them ascending up to its own, "
                f"{self.rank}"
            )
        object.__setattr__(self, "ranks", ranks)


@dataclass(frozen=True)
class RoundTerms:
    """What holds in every round.

    Parameters
    ----------
    min_organizations : int
        Fewer accepted updates end a round with the adapter unchanged.
    max_examples : int
        The most records an organization may use in a round.
    norm_bound : float
        The largest Frobenius norm of an update that counts; 0 for none.
    deadline : float
        Seconds a round waits for replies, and an attestor is waited for.
    attestors : frozenset of str
        Organizations that attest.
    rewards : RewardTerms
        What a round pays.
    leavers : frozenset of str
        Organizations that are asked in a round of their own alone, and in none after it.
    first : FirstRounds
        What the first rounds are for; by default everybody trains in them.
    """

    min_organizations: int
    max_examples: int
    norm_bound: float
    deadline: float
    attestors: frozenset[str]
    rewards: RewardTerms
    leavers: frozenset[str] = frozenset()
    first: FirstRounds = field(default_factory=FirstRounds)
