"""What is measured of a task that was played, and how two policies are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from benchmarks.participation.environment import ParticipationEnvironment, PlayedRound
from benchmarks.participation.federation import Federation
from benchmarks.participation.policies import Planned, play

#: The target loss: so much of the way that everybody's full effort goes over the whole task.
TARGET: Final = 0.95
RESAMPLES: Final = 2000


@dataclass(frozen=True)
class Measured:
    """A task, measured; shares are of everybody's full effort over the whole task.

    Parameters
    ----------
    fall : float
        How far the loss fell, nats.
    cost : float
        What was spent, as a share.
    utility : ndarray of float64, (organizations,)
        Paid less spent, in units of the organization's own full effort over the whole task.
    pool_used : float
        Paid to organizations, of what the pool could pay.
    rounds_to_target, cost_to_target : float
        Until the loss was at its target, and what was spent by then; NaN where it never was.
    """

    fall: float
    cost: float
    utility: NDArray[np.float64]
    pool_used: float
    rounds_to_target: float
    cost_to_target: float

    @property
    def jain(self) -> float:
        """Jain's index of the utilities, losses counted as 0; NaN where nobody gained.

        R. Jain, D. Chiu, W. Hawe, DEC-TR-301 (1984): ``(sum u)^2 / (n sum u^2)``.
        """
        gained = np.maximum(self.utility, 0.0)
        squares = float((gained**2).sum())
        return float(gained.sum() ** 2) / (len(gained) * squares) if squares else float("nan")

    def welfare(self, full_fall: float, worth: float) -> float:
        """Return the welfare, in units of the cost of everybody's full effort over the task.

        Parameters
        ----------
        full_fall : float
            How far everybody's full effort lets the loss fall, nats.
        worth : float
            What that is worth, as a multiple of what it costs.
        """
        return worth * self.fall / full_fall - self.cost


def full_fall(federation: Federation) -> float:
    """Return how far everybody's full effort over the whole task lets the loss fall, nats."""
    terms, response = federation.terms, federation.calibration.response
    step = response.progress(sum(o.efforts[-1] for o in federation.organizations))
    begun = float(response.loss(terms.start))
    return begun - float(response.loss(terms.start + terms.rounds * step))


def measure(federation: Federation, played: Sequence[PlayedRound]) -> Measured:
    """Measure a task."""
    terms, response = federation.terms, federation.calibration.response
    names = [o.name for o in federation.organizations]
    costs = np.array([[r.costs.get(n, 0) for n in names] for r in played], dtype=np.float64)
    paid = np.array([[r.paid.get(n, 0) for n in names] for r in played], dtype=np.float64)
    own = np.array([o.full_wei for o in federation.organizations], dtype=np.float64) * terms.rounds
    begun, full = float(response.loss(terms.start)), own.sum()
    reached = [r.loss <= begun - TARGET * full_fall(federation) for r in played]
    at = reached.index(True) if any(reached) else None
    return Measured(
        begun - played[-1].loss,
        float(costs.sum() / full),
        (paid - costs).sum(axis=0) / own,
        float(paid.sum() / (terms.pool * terms.rounds)),
        float("nan") if at is None else at + 1.0,
        float("nan") if at is None else float(costs[: at + 1].sum() / full),
    )


def regret(
    environment: ParticipationEnvironment, played: Sequence[PlayedRound], seed: int
) -> float:
    """Return by how much each organization's best fixed action would have beaten what it did.

    The others do what they did, under the same luck; the mean over organizations, in the units of
    :attr:`Measured.utility`.
    """
    federation = environment.federation
    own = measure(federation, played).utility
    actions = [dict(r.actions) for r in played]
    found = []
    for index, organization in enumerate(federation.organizations):
        name = organization.name
        best = max(
            measure(
                federation,
                play(environment, Planned([{**each, name: action} for each in actions]), seed),
            ).utility[index]
            for action in range(4)
        )
        found.append(best - own[index])
    return float(np.mean(found))


def interval(differences: Sequence[float]) -> dict[str, Any]:
    """Return the mean of paired differences and its 95 % interval by the percentile bootstrap."""
    values = np.array(differences, dtype=np.float64)
    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = result.confidence_interval
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}
