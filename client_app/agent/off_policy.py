"""What another policy would have earned, from what was decided and earned under this one.

Per-decision importance sampling: D. Precup, R. Sutton, S. Singh, "Eligibility Traces for Off-Policy
Policy Evaluation", International Conference on Machine Learning (2000). A reward counts by how much
likelier the decisions up to it are under the other policy, not by those after it.

The weights of n decisions are products of n ratios: over long episodes few count for nearly all,
which the effective sample size tells. Where a decision does not change what later ones meet, let
each be an episode of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from client_app.agent.double_q import Float64Array, State

#: From a state and what is permitted in it to the probability of each action.
TargetPolicy = Callable[[State, tuple[bool, ...]], Sequence[float]]

#: Of a sum of probabilities to 1.
_ROUNDING = 1e-9


class OffPolicyError(ValueError):
    """Decisions from which nothing about the other policy can be known."""


@dataclass(frozen=True)
class RecordedDecision:
    """One decision as it was made, and what it brought.

    Parameters
    ----------
    state : tuple of int
        Where it was made.
    action : int
        What was done.
    permitted : tuple of bool
        Which actions there were.
    probabilities : tuple of float
        With which each action was chosen; they sum to 1, those not permitted have 0.
    reward : float
        What it brought.

    Raises
    ------
    OffPolicyError
        If it cannot have been made like that: above all if its action had the probability 0.
    """

    state: State
    action: int
    permitted: tuple[bool, ...]
    probabilities: tuple[float, ...]
    reward: float

    def __post_init__(self) -> None:
        if not any(self.permitted) or not _is_distribution(self.probabilities, self.permitted):
            raise OffPolicyError(
                f"probabilities {list(self.probabilities)} where {list(self.permitted)} are "
                "permitted: expected one each, 0 where not permitted, that sum to 1"
            )
        if not 0 <= self.action < len(self.probabilities) or not self.probabilities[self.action]:
            raise OffPolicyError(
                f"action {self.action} of probabilities {list(self.probabilities)}: expected one "
                "that could be chosen"
            )
        if not math.isfinite(self.reward):
            raise OffPolicyError(f"reward {self.reward}, expected a finite number")


@dataclass(frozen=True)
class OffPolicyValue:
    """What another policy is worth, and how much is known of it.

    Parameters
    ----------
    estimate : float
        Mean reward per decision, or mean discounted return per episode.
    standard_error : float
        Of the estimate, from the spread between episodes; of a self-normalized one to first order.
    effective_sample_size : float
        How many episodes of the other policy would tell as much: ``sum(w) ** 2 / sum(w ** 2)`` of
        the episodes' whole weights (Kish). At most their number; all of it for the policy itself.
    """

    estimate: float
    standard_error: float
    effective_sample_size: float


def importance_sampling_value(
    episodes: Sequence[Sequence[RecordedDecision]],
    target: TargetPolicy,
    *,
    discount: float | None = None,
    weighted: bool = False,
) -> OffPolicyValue:
    """Estimate what another policy would have earned.

    With ``w_it`` the product of ``target / recorded`` probabilities of episode i up to decision t,
    and N episodes:

    ========  ==============================================  ================================
    weighted  mean reward per decision                        discounted return
    ========  ==============================================  ================================
    no        ``sum_it(w_it r_it) / sum_i(T_i)``              ``sum_it(g^t w_it r_it) / N``
    yes       ``sum_it(w_it r_it) / sum_it(w_it)``            ``sum_t(g^t sum_i(w_it r_it) /
                                                              sum_i(w_it))``
    ========  ==============================================  ================================

    The ordinary estimate has no bias; the weighted (self-normalized) one has some, which vanishes
    with N, and mostly a smaller error. An episode that has ended stays at its weight with reward 0
    where the return is asked for.

    Parameters
    ----------
    episodes : sequence of sequences of RecordedDecision
        At least two, none empty. For the ordinary mean per decision, how long they are must not
        depend on what is decided.
    target : callable
        The other policy; ``DoubleQ.policy`` is one.
    discount : float, optional
        From 0 to 1, for the discounted return; without it, the mean reward per decision.
    weighted : bool
        Whether weights are normalized by their sum.

    Raises
    ------
    OffPolicyError
        If the other policy does what was not permitted or what could not have been recorded, if no
        recorded episode could have been its own, or if weights overflow.
    """
    if discount is not None and not 0.0 <= discount <= 1.0:
        raise OffPolicyError(f"discount {discount}, expected 0 to 1")
    if len(episodes) < 2 or not all(episodes):
        raise OffPolicyError(
            f"{len(episodes)} episodes, {sum(not one for one in episodes)} of them empty: expected "
            "two at least, or no error can be told, and none empty"
        )
    weights, rewards, made = _laid_out(episodes, target)
    whole = weights[:, -1]
    if not whole.any():
        raise OffPolicyError(
            f"none of {len(episodes)} episodes could have been the other policy's: record more, "
            "shorter, or with more exploration"
        )
    if discount is None:
        numerators = (weights * rewards).sum(axis=1)
        denominators = ((weights if weighted else 1.0) * made).sum(axis=1)
        estimate = numerators.sum() / denominators.sum()
        deviations = (numerators - estimate * denominators) / denominators.mean()
    else:
        factors = discount ** np.arange(weights.shape[1], dtype=np.float64)
        normalizers = weights.mean(axis=0) if weighted else np.ones_like(factors)
        means = (weights * rewards).mean(axis=0) / normalizers
        estimate = factors @ means
        centres = weights * means if weighted else means
        deviations = ((weights * rewards - centres) / normalizers) @ factors
    # Rounding must not make the policy's own size exceed the number of episodes.
    relative = whole / whole.max()
    size = min(float(len(episodes)), float(relative.sum() ** 2 / (relative**2).sum()))
    error = math.sqrt(float((deviations**2).sum()) / (len(episodes) * (len(episodes) - 1)))
    return OffPolicyValue(float(estimate), error, size)


def _laid_out(
    episodes: Sequence[Sequence[RecordedDecision]], target: TargetPolicy
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Lay out weights, rewards, and 1 where a decision was made, each (episodes, longest)."""
    shape = (len(episodes), max(len(episode) for episode in episodes))
    ratios, rewards, made = np.ones(shape), np.zeros(shape), np.zeros(shape)
    for row, episode in enumerate(episodes):
        for column, decision in enumerate(episode):
            ratios[row, column] = _ratio(decision, target)
            rewards[row, column] = decision.reward
            made[row, column] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        weights: Float64Array = np.cumprod(ratios, axis=1, dtype=np.float64)
    if not np.isfinite(weights).all():
        raise OffPolicyError(
            f"episodes of up to {shape[1]} decisions have weights that are no finite numbers: "
            "expected shorter ones"
        )
    return weights, rewards, made


def _ratio(decision: RecordedDecision, target: TargetPolicy) -> float:
    wanted = tuple(float(one) for one in target(decision.state, decision.permitted))
    possible = tuple(one > 0.0 for one in decision.probabilities)
    if not _is_distribution(wanted, possible):
        raise OffPolicyError(
            f"state {decision.state}: the other policy's probabilities are {list(wanted)}, the "
            f"recorded ones {list(decision.probabilities)}; expected one each, that sum to 1, and "
            "0 where the recorded one is"
        )
    return wanted[decision.action] / decision.probabilities[decision.action]


def _is_distribution(probabilities: Sequence[float], possible: Sequence[bool]) -> bool:
    return (
        len(probabilities) == len(possible)
        and all(
            0.0 <= one <= 1.0 + _ROUNDING and (allowed or one == 0.0)
            for one, allowed in zip(probabilities, possible, strict=True)
        )
        and math.isclose(math.fsum(probabilities), 1.0, abs_tol=_ROUNDING)
    )
