"""What organizations would do that know everything and each maximize their own net in a round.

Every joint action is tried. That nobody joins is always an equilibrium, since one update alone
changes nothing: it is the worst. Of those in which enough join, played is the one in which nobody
gains by another action, of several the one with the largest sum of nets; where there is none, the
one of least regret, if that is below :data:`TOLERATED`; otherwise nobody joins. Later rounds are
left out of account: what one organization adds to the progress takes little from its own later
rewards.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.participation.federation import Federation
from benchmarks.participation.optimum import JointActions, Plan, payments
from client_app.agent.action_space import ACTIONS

#: Draws of the measurement noise over which payments are averaged.
DRAWS: Final = 32
#: Regret in a round that counts as an equilibrium, as a share of the mean cost of full effort.
TOLERATED: Final = 0.1


@dataclass(frozen=True)
class Equilibrium:
    """A path of one-round equilibria.

    Parameters
    ----------
    plan : Plan
        What is played, and its welfare in wei.
    exact : float
        Share of the rounds that were joined that have an equilibrium without any regret.
    """

    plan: Plan
    exact: float


def equilibrium(federation: Federation, value: float, random: np.random.Generator) -> Equilibrium:
    """Play each round's equilibrium; without budgets and lost updates.

    Parameters
    ----------
    federation : Federation
        Whose.
    value : float
        Wei a nat.
    random : numpy.random.Generator
        For the noise that payments are averaged over.
    """
    terms, response = federation.terms, federation.calibration.response
    joint = JointActions.of(federation)
    size = joint.actions.shape[1]
    z = random.standard_normal((DRAWS, size))
    joined = np.flatnonzero(joint.steps > 0)
    tolerated = TOLERATED * federation.full_wei / size
    names = [o.name for o in federation.organizations]
    progress, spent, rounds, exact = terms.start, 0.0, [], []
    for _ in range(terms.rounds):
        net = payments(federation, joint, progress, z) - joint.costs
        regret = _regret(net)
        least = float(regret[joined].min())
        # The first joint action is that nobody joins.
        at = 0
        if least <= tolerated:
            candidates = joined[regret[joined] <= least]
            at = int(candidates[net[candidates].sum(axis=1).argmax()])
            exact.append(least <= 0.0)
        rounds.append(dict(zip(names, map(int, joint.actions[at]), strict=True)))
        progress, spent = progress + float(joint.steps[at]), spent + float(joint.costs[at].sum())
    fall = float(response.loss(terms.start)) - float(response.loss(progress))
    return Equilibrium(Plan(rounds, value * fall - spent), float(np.mean(exact)) if exact else 0.0)


def _regret(net: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much whoever has most to gain would gain alone by another action, (a,).

    Parameters
    ----------
    net : ndarray of float64, (a, organizations)
        Of all joint actions, in the order of :func:`itertools.product`.
    """
    size = net.shape[1]
    table = net.reshape((*(len(ACTIONS),) * size, size))
    gains = [table[..., k].max(axis=k, keepdims=True) - table[..., k] for k in range(size)]
    most: NDArray[np.float64] = np.max(gains, axis=0).reshape(-1)
    return most
