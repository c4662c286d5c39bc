"""What an agent sees before a round, in whole numbers: every machine sees the same.

Four coordinates: how much of the budget is left (3), what came of the last rounds joined (3), what
was done in the last round (3), how far the task is (2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from client_app.agent.action_space import ACTIONS, SKIP
from client_app.agent.double_q import State

#: Rounds joined whose earnings make up the running reward per cost.
REMEMBERED_ROUNDS: Final = 4

#: A budget of any number of tokens.
UNLIMITED: Final = 0


@dataclass(frozen=True)
class Outcome:
    """What is known of an earlier round that the organization joined.

    Parameters
    ----------
    earned : int
        Wei that the sealed rewards say it earned.
    cost : int
        Wei that it spent.
    """

    earned: int
    cost: int


@dataclass(frozen=True)
class Situation:
    """What an organization knows before it decides.

    Parameters
    ----------
    round, rounds : int
        The round, from 1, and how many the task has.
    budget : int
        Tokens that may be spent in an epoch of rounds; 0 for any number.
    spent : int
        Tokens spent in this epoch so far.
    outcomes : sequence of Outcome
        Of the rounds joined whose rewards are known, oldest first.
    last_action : int
        What was done in the round before; 0 where there was none.
    costs : tuple of int
        Tokens that each action would cost in this round, 0 for staying away.
    """

    round: int
    rounds: int
    budget: int
    spent: int
    outcomes: Sequence[Outcome]
    last_action: int
    costs: tuple[int, ...]

    def state(self) -> State:
        """Return the coordinates, those of :data:`.action_space.STATE_SHAPE`."""
        return (self._budget_left(), self._reward_per_cost(), self._last(), self._progress())

    def permitted(self) -> tuple[bool, ...]:
        """Return which actions the budget allows; staying away always.

        What costs nothing trains on nothing, and is not permitted either.
        """
        left = self.budget - self.spent
        return tuple(
            index == SKIP or (cost > 0 and (self.budget == UNLIMITED or cost <= left))
            for index, cost in enumerate(self.costs)
        )

    def _budget_left(self) -> int:
        """Below a third of the budget, below two thirds, or more."""
        if self.budget == UNLIMITED:
            return 2
        return min(2, 3 * max(0, self.budget - self.spent) // self.budget)

    def _reward_per_cost(self) -> int:
        """Less than was spent, up to twice as much, or more.

        One round is added that earned twice what the others cost on average: where nothing is known
        yet, training is expected to pay, and one round that scored nothing does not yet say that it
        never will. Scores on few rows are noisy.
        """
        known = self.outcomes[-REMEMBERED_ROUNDS:]
        earned, cost, rounds = sum(o.earned for o in known), sum(o.cost for o in known), len(known)
        if cost == 0:
            return 2
        # (earned + 2 cost / rounds) / (cost + cost / rounds), in whole numbers.
        return min(2, (rounds * earned + 2 * cost) // ((rounds + 1) * cost))

    def _last(self) -> int:
        """Stayed away, joined with less than full effort, joined with full effort."""
        if self.last_action == SKIP:
            return 0
        return 2 if self.last_action == len(ACTIONS) - 1 else 1

    def _progress(self) -> int:
        """First or second half of the task."""
        return int(2 * self.round > self.rounds)


def reward_of(
    *, paid: int, cost: int, full_cost: int, price: int, failed: bool, penalty: float
) -> float:
    """Return what an agent learns from a round, in units of the cost of full effort.

    Parameters
    ----------
    paid : int
        Wei that arrived.
    cost, full_cost : int
        Tokens processed, and those that full effort would have taken.
    price : int
        Wei a token, at least 1.
    failed : bool
        Whether it trained and the round did not count it.
    penalty : float
        For that.
    """
    if full_cost < 1 or price < 1:
        raise ValueError(f"full cost {full_cost} tokens at {price} wei: expected at least 1 each")
    return (paid - cost * price) / (full_cost * price) - (penalty if failed else 0.0)
