"""Tabular double Q-learning; the same bits for the same inputs and random state.

Two tables estimate the same values. Each update picks the best next action by one of them and takes
its value from the other, so that noise is not mistaken for value: H. van Hasselt, "Double
Q-learning", Advances in Neural Information Processing Systems 23 (2010), algorithm 1.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

#: One coordinate for each dimension of the state space.
State = tuple[int, ...]


class PolicyError(ValueError):
    """A state, mask or parameter that the tables have no place for."""


@dataclass(frozen=True)
class Parameters:
    """How an agent learns and explores.

    Parameters
    ----------
    discount : float
        What a value one decision later is worth now, 0 to below 1. With 0 the agent is a bandit.
    learning_rate_floor, learning_rate_power : float
        The n-th update of an entry moves it by ``max(floor, n ** -power)`` of the error.
    exploration_start, exploration_end : float
        Probability of a random permitted action at the first decision and after the last of
        ``exploration_steps``; linear between.
    exploration_steps : int
        Decisions until exploration has come down; 0: it is at its end from the first.
    optimism : float
        What every entry begins with. Above the discounted sum of what can be earned, every action
        is tried.

    Raises
    ------
    PolicyError
        If a value is out of range.
    """

    discount: float = 0.9
    learning_rate_floor: float = 0.05
    learning_rate_power: float = 0.8
    exploration_start: float = 1.0
    exploration_end: float = 0.05
    exploration_steps: int = 2000
    optimism: float = 1.0

    def __post_init__(self) -> None:
        shares = ("learning_rate_floor", "exploration_start", "exploration_end")
        for name in shares:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise PolicyError(f"{name} {getattr(self, name)}, expected 0 to 1")
        if not 0.0 <= self.discount < 1.0:
            raise PolicyError(f"discount {self.discount}, expected 0 to below 1")
        if not 0.5 < self.learning_rate_power <= 1.0:
            raise PolicyError(
                f"learning_rate_power {self.learning_rate_power}, expected above 0.5, at most 1"
            )
        if not _whole(self.exploration_steps) or self.exploration_steps < 0:
            raise PolicyError(
                f"exploration_steps {self.exploration_steps!r}, expected a whole number from 0"
            )
        if not np.isfinite(self.optimism):
            raise PolicyError(f"optimism {self.optimism}, expected a finite number")

    def exploration(self, step: int) -> float:
        """Return the probability of a random action at a decision, counted from 0."""
        if step >= self.exploration_steps:
            return self.exploration_end
        share = step / self.exploration_steps
        return self.exploration_start + share * (self.exploration_end - self.exploration_start)

    def learning_rate(self, update: int) -> float:
        """Return how far the n-th update of an entry, counted from 1, moves it."""
        return float(max(self.learning_rate_floor, update**-self.learning_rate_power))

    def to_json(self) -> dict[str, Any]:
        """Lay the parameters out."""
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """One decision.

    Parameters
    ----------
    action : int
        Which action.
    probabilities : tuple of float
        With which each action was chosen; 0 for those not permitted. They sum to 1.
    """

    action: int
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Transition:
    """What came of one decision.

    Parameters
    ----------
    state : tuple of int
        Where it was made.
    action : int
        What was done.
    reward : float
        What that brought, in units of the cost of full effort.
    following : tuple of int or None
        The state of the next decision; ``None`` where there is none: the task ended.
    permitted : tuple of bool
        Which actions the next decision had; empty where there is none.
    """

    state: State
    action: int
    reward: float
    following: State | None
    permitted: tuple[bool, ...] = ()


class DoubleQ:
    """Two tables, how often each entry was updated, a step of the schedule, a random state.

    Parameters
    ----------
    shape : sequence of int
        Values of each of the state's coordinates.
    actions : int
        How many actions there are.
    parameters : Parameters
        How it learns and explores.
    random : numpy.random.Generator
        Its own: nothing else may draw from it.

    Attributes
    ----------
    tables : ndarray of float64, (2, *shape, actions)
        The two estimates.
    visits : ndarray of int64, (2, *shape, actions)
        Updates of each entry.
    step : int
        Decisions made while learning.
    """

    def __init__(
        self,
        shape: Sequence[int],
        actions: int,
        parameters: Parameters,
        random: np.random.Generator,
    ) -> None:
        self.parameters = parameters
        self.random = random
        full = (2, *shape, actions)
        self.tables: Float64Array = np.full(full, parameters.optimism, dtype=np.float64)
        self.visits: NDArray[np.int64] = np.zeros(full, dtype=np.int64)
        self.step = 0

    @property
    def actions(self) -> int:
        """How many actions there are."""
        return int(self.tables.shape[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Values of each of the state's coordinates."""
        return tuple(int(size) for size in self.tables.shape[1:-1])

    def values(self, state: State) -> Float64Array:
        """Return the mean of both estimates for each action, (actions,)."""
        self._check_state(state)
        mean: Float64Array = (self.tables[0][state] + self.tables[1][state]) / 2
        return mean

    # Deciding

    def policy(self, state: State, permitted: Sequence[bool]) -> tuple[float, ...]:
        """Return with which probability each action is chosen now, while learning.

        Equally good actions share what the best one gets; an action that is not permitted has 0,
        also where the choice is random.
        """
        allowed = self._allowed(permitted)
        values = np.where(allowed, self.values(state), -np.inf)
        best = values == values.max()
        explored = self.parameters.exploration(self.step)
        probabilities = explored * allowed / allowed.sum() + (1.0 - explored) * best / best.sum()
        return tuple(float(p) for p in probabilities)

    def choose(self, state: State, permitted: Sequence[bool]) -> Choice:
        """Decide while learning; takes one number from the random state and counts the step."""
        probabilities = self.policy(state, permitted)
        drawn = self.random.random() * sum(probabilities)
        below, action = 0.0, -1
        for index, probability in enumerate(probabilities):
            if probability == 0.0:
                continue
            # The last permitted one, should rounding leave the drawn number above the sum.
            below, action = below + probability, index
            if drawn < below:
                break
        self.step += 1
        return Choice(action, probabilities)

    def best(self, state: State, permitted: Sequence[bool]) -> Choice:
        """Decide without learning: the best action, the first of equals; changes nothing."""
        values = np.where(self._allowed(permitted), self.values(state), -np.inf)
        action = int(values.argmax())
        return Choice(action, tuple(float(index == action) for index in range(self.actions)))

    # Learning

    def learn(self, transition: Transition) -> None:
        """Move one entry of one table, drawn by the random state, towards what came of it.

        ``Q_i(s, a) += rate (r + discount Q_j(s', argmax_a' Q_i(s', a')) - Q_i(s, a))``, the largest
        over permitted actions, the first of equals.
        """
        # All of it is looked at before anything is drawn: what is refused leaves no trace.
        self._check_state(transition.state)
        known = _whole(transition.action) and 0 <= transition.action < self.actions
        if not known or not np.isfinite(transition.reward):
            raise PolicyError(
                f"action {transition.action!r} of {self.actions}, reward {transition.reward}: "
                "expected one of them, and a finite number"
            )
        following, allowed = transition.following, None
        if following is not None:
            self._check_state(following)
            allowed = self._allowed(transition.permitted)
        updated = int(self.random.integers(2))
        other = 1 - updated
        target = transition.reward
        if following is not None and allowed is not None:
            mine = np.where(allowed, self.tables[updated][following], -np.inf)
            target += self.parameters.discount * float(
                self.tables[other][following][int(mine.argmax())]
            )
        entry = (updated, *transition.state, transition.action)
        self.visits[entry] += 1
        rate = self.parameters.learning_rate(int(self.visits[entry]))
        self.tables[entry] += rate * (target - self.tables[entry])

    # Parts

    def _allowed(self, permitted: Sequence[bool]) -> NDArray[np.bool_]:
        # Not what NumPy makes of them: "no" and nan would be true.
        truths = all(isinstance(one, bool | np.bool_) for one in permitted)
        if not truths or len(permitted) != self.actions or not any(permitted):
            raise PolicyError(
                f"permitted {list(permitted)}: expected {self.actions} of true and false, "
                "one true at least"
            )
        return np.array(permitted, dtype=np.bool_)

    def _check_state(self, state: State) -> None:
        # A list or a truth value would be an index as well, of something else.
        coordinates = isinstance(state, tuple) and len(state) == len(self.shape)
        if not coordinates or not all(
            _whole(value) and 0 <= value < size
            for value, size in zip(state, self.shape, strict=True)
        ):
            raise PolicyError(
                f"state {state!r}: expected a tuple of coordinates below {self.shape}"
            )


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
