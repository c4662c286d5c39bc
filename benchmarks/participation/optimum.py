"""What could be reached at best: the joint plan of the largest welfare, by dynamic programming.

    welfare = value (loss before the task - loss after it) - what all organizations spent

in wei; what the pool pays goes from one to another and cancels. The value of a nat is such that
everybody's full effort over the whole task is worth ``R`` times what it costs.

Where nobody has a budget and no update is lost, the loss depends on the progress alone, and
``W_r(E) = max_a (W_{r+1}(E + step_a) - cost_a)`` over joint actions ``a`` is exact up to the grid
of ``E``. Elsewhere it is a bound: budgets and losses only take away.
"""

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.participation.federation import Federation
from benchmarks.participation.scoring import expected_gains
from client_app.agent.action_space import ACTIONS

#: Points of progress; denser where the loss falls fast.
GRID: Final = 400
#: And where every joint action is tried.
COARSE_GRID: Final = 120

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """A joint plan.

    Parameters
    ----------
    rounds : list of dict
        Each round's actions by organization.
    welfare : float
        Wei.
    """

    rounds: list[dict[str, int]]
    welfare: float


@dataclass(frozen=True)
class JointActions:
    """All joint actions, or some of them.

    Parameters
    ----------
    actions : ndarray of int64, (a, organizations)
        What each does.
    costs : ndarray of float64, (a, organizations)
        Wei.
    efforts : ndarray of float64, (a, organizations)
        In efforts.
    steps : ndarray of float64, (a,)
        Progress; 0 where too few take part.
    """

    actions: NDArray[np.int64]
    costs: Float64Array
    efforts: Float64Array
    steps: Float64Array

    @classmethod
    def of(cls, federation: Federation) -> "JointActions":
        """Return all of a federation's."""
        everyone = federation.organizations
        actions = np.array(list(itertools.product(range(len(ACTIONS)), repeat=len(everyone))))
        each = np.arange(len(everyone))
        costs = np.array([[tokens * o.price for tokens in o.costs] for o in everyone], float)
        efforts = np.array([o.efforts for o in everyone])
        joined = (actions > 0).sum(axis=1) >= federation.terms.minimum
        chosen = efforts[each, actions]
        response = federation.calibration.response
        steps = np.where(joined, response.progress(chosen.sum(axis=1)), 0.0)
        return cls(actions, costs[each, actions], chosen, steps)

    def efficient(self) -> "JointActions":
        """Return those that no other surpasses at less cost."""
        order = np.lexsort((-self.steps, self.costs.sum(axis=1)))
        best = np.maximum.accumulate(self.steps[order])
        kept = order[np.concatenate([[True], best[1:] > best[:-1]])]
        return JointActions(
            self.actions[kept], self.costs[kept], self.efforts[kept], self.steps[kept]
        )


def value_per_nat(federation: Federation, worth: float) -> float:
    """Return wei a nat: everybody's full effort over the task is worth ``worth`` times its cost."""
    terms, response = federation.terms, federation.calibration.response
    whole = sum(o.efforts[-1] for o in federation.organizations)
    end = terms.start + terms.rounds * response.progress(whole)
    fall = float(response.loss(terms.start)) - float(response.loss(end))
    return worth * terms.rounds * federation.full_wei / fall


def central_optimum(federation: Federation, value: float, *, no_loss: bool = False) -> Plan:
    """Return the best joint plan.

    Parameters
    ----------
    federation : Federation
        Whose.
    value : float
        Wei a nat.
    no_loss : bool
        Only joint actions by which nobody who joins is paid less than it spends in that round, as
        scores are expected: what the pool can pay for.
    """
    terms, response = federation.terms, federation.calibration.response
    joint = JointActions.of(federation)
    if not no_loss:
        joint = joint.efficient()
    end = terms.start + terms.rounds * joint.steps.max()
    points = np.linspace(0.0, 1.0, COARSE_GRID if no_loss else GRID)
    grid = terms.start + (end - terms.start) * points**3
    costs = joint.costs.sum(axis=1)
    forbidden = _at_a_loss(federation, joint, grid) if no_loss else None
    worth = [value * (float(response.loss(terms.start)) - response.loss(grid))]
    after = np.minimum(grid[:, None] + joint.steps, end)
    for _ in range(terms.rounds):
        options = np.interp(after, grid, worth[-1]) - costs
        if forbidden is not None:
            options[forbidden] = -np.inf
        worth.append(options.max(axis=1))
    progress, spent, rounds = terms.start, 0.0, []
    names = [o.name for o in federation.organizations]
    for left in reversed(range(terms.rounds)):
        options = np.interp(np.minimum(progress + joint.steps, end), grid, worth[left]) - costs
        if no_loss:
            options[_at_a_loss(federation, joint, np.array([progress]))[0]] = -np.inf
        best = int(options.argmax())
        rounds.append(dict(zip(names, map(int, joint.actions[best]), strict=True)))
        progress, spent = progress + float(joint.steps[best]), spent + float(costs[best])
    fall = float(response.loss(terms.start)) - float(response.loss(progress))
    return Plan(rounds, value * fall - spent)


def _at_a_loss(
    federation: Federation, joint: JointActions, grid: Float64Array
) -> NDArray[np.bool_]:
    """Return where somebody who joins is paid less than it spends, (grid, a)."""
    paid = np.stack(
        [payments(federation, joint, float(at), np.zeros((1, joint.actions.shape[1])))
         for at in grid]
    )  # fmt: skip
    below: NDArray[np.bool_] = (paid < joint.costs).any(axis=-1)
    return below


def payments(
    federation: Federation, joint: JointActions, progress: float, z: Float64Array
) -> Float64Array:
    """Return what each joint action pays each organization on average, wei.

    The rule of :func:`.scoring.scores` and :func:`strategies.rewards.round_rewards` in floats.

    Parameters
    ----------
    federation : Federation
        Whose, without near-duplicates.
    joint : JointActions
        What is done.
    progress : float
        Before the round.
    z : ndarray of float64, (draws, organizations)
        Standard normal: measurement noise, averaged over.

    Returns
    -------
    ndarray of float64, (a, organizations)
    """
    terms, noise = federation.terms, federation.calibration.noise
    gains = expected_gains(joint.efforts, progress, federation.calibration.response)
    joined = joint.actions > 0
    after = federation.calibration.response.loss(progress + joint.steps)
    off = noise.deviation(joint.efforts, after)[:, None, :] * z
    measured = np.clip(gains[:, None, :] + off - terms.limits.tolerance, 0, terms.limits.bound)
    counted = joined & (joined.sum(axis=1) >= terms.minimum)[:, None]
    found = measured * counted[:, None, :]
    share = found / (found.sum(axis=2, keepdims=True) + terms.constant / 1e6)
    paid: Float64Array = terms.pool * share.mean(axis=1)
    return paid
