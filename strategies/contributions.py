"""What each organization's update of a round was worth: the clipped leave-one-out gain.

An attestor computes it from what is archived (the state before the round, the accepted updates)
and from the public validation set, and signs the table of scores. ``docs/rewards.md`` says what
the scores reward, and what they cannot see.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

import numpy as np

from llm.factors import Arrays, arrays_from_adapter
from strategies.aggregation import AggregationRule, AggregationState, Contribution
from strategies.aggregation.likeness import near_duplicates, negligible, update_gram
from strategies.aggregation.reproducible import fold_sum
from strategies.scores import ScoreMethod, ScoreTable, micro_nats
from strategies.settings import RunSettings

#: Mean loss of a global adapter, under its PEFT names, on the public validation set; in nats, or
#: what :mod:`llm.generalized_cross_entropy` makes of them.
Loss: TypeAlias = Callable[[Arrays], float]
#: Gradient of that loss in the adapter's values, under the same names and of the same shapes.
Gradient: TypeAlias = Callable[[Arrays], Mapping[str, np.ndarray[Any, Any]]]


@dataclass(frozen=True)
class ScoredRound:
    """A round whose updates are to be scored.

    Parameters
    ----------
    rule : AggregationRule
        The run's.
    state : AggregationState
        The state before the round.
    round : int
        The round.
    accepted : sequence of Contribution
        The updates that made its aggregate; none where the round changed nothing.
    """

    rule: AggregationRule
    state: AggregationState
    round: int
    accepted: Sequence[Contribution]

    def adapter(self, contributions: Sequence[Contribution]) -> Arrays:
        """Return the adapter after the round, had it been sent these contributions alone.

        The others' weights are renormalized by the rule. Where too few are left for the rule, or
        no adapter in float32 comes of them, it is the adapter before the round.
        """
        rule = self.rule
        if len(contributions) >= rule.minimum_contributions:
            try:
                state = rule.aggregate(self.state, self.round, contributions).state
                return arrays_from_adapter(rule.adapter(state))
            except ValueError:
                # One hostile update among few can leave float32's range: see round_aggregate.
                pass
        return arrays_from_adapter(rule.adapter(self.state))


@dataclass(frozen=True)
class ScoreLimits:
    """Between what a gain lies that is paid in full.

    Parameters
    ----------
    tolerance : float
        Nats that another processor's gain may lie apart, at least 0. They are taken off every
        gain: what is no larger cannot be told from rounding, and counts as none.
    bound : float
        Largest score of an update or group, nats, above 0.

    Raises
    ------
    ValueError
        If one is out of range.
    """

    tolerance: float
    bound: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise ValueError(f"score bound {self.bound}: expected a finite number above 0")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"score tolerance {self.tolerance}: expected a number of at least 0")

    @classmethod
    def of(cls, settings: RunSettings) -> Self:
        """Return a run's."""
        return cls(settings.score_tolerance, settings.score_bound)

    def score(self, gain: float) -> float:
        """Return ``min(bound, max(0, gain - tolerance))``, in nats; 0 for NaN."""
        # Infinity minus infinity: without the update there is no usable adapter either.
        return 0.0 if math.isnan(gain) else min(self.bound, max(0.0, gain - self.tolerance))


@dataclass(frozen=True)
class _Player:
    """Near-duplicates count as one: the member that stands for them, and all their names."""

    stands: Contribution
    members: tuple[str, ...]


def leave_one_out(scored: ScoredRound, loss: Loss, limits: ScoreLimits) -> dict[str, int]:
    """Score each update by what the adapter would lose without it.

    ``gain_k = loss(all, k silenced) - loss(all)``, and
    ``score_k = min(bound, max(0, gain_k - tolerance))``. Silenced: zeros stand in the update's
    place and the others keep their weights. It is the difference reward of Wolpert and Tumer,
    "Optimal Payoff Functions for Members of Collectives" (2001), with doing nothing as the action
    that is compared. To give the rest the whole weight instead, as leave-one-out of data has it
    (Ghorbani and Zou, arXiv 1904.02868), compares an update with the mean of the others: of honest
    ones about half score nothing then, whatever all of them together have brought.

    An update that is zero, or next to it, earns nothing and takes no part in the comparison.
    Near-duplicates are scored as one: only the member that stands for them (the most records used,
    then the smallest norm, then the first by name) takes part, and its score is shared equally
    among them. Hence a second copy changes nobody's score, and earns nothing that the first does
    not have to give up. Where fewer are left so than the rule needs, all of them take part, and a
    group is left out as a whole.

    Parameters
    ----------
    scored : ScoredRound
        The round.
    loss : callable
        See :data:`Loss`; infinite or NaN for an adapter that gives no numbers.
    limits : ScoreLimits
        What is too little to count, and too much.

    Returns
    -------
    dict of str to int
        Micro-nats by organization, sorted by name.

    Raises
    ------
    ValueError
        If the rule does not admit a contribution.
    """

    def gains(everyone: Sequence[Contribution], left_out: Sequence[set[str]]) -> list[float]:
        whole = _number(loss(scored.adapter(everyone)))
        silenced = (scored.adapter(_silenced(everyone, names)) for names in left_out)
        return [_number(loss(adapter)) - whole for adapter in silenced]

    return _scores(scored, gains, limits)


def first_order(scored: ScoredRound, gradient: Gradient, limits: ScoreLimits) -> dict[str, int]:
    """Estimate :func:`leave_one_out` from one gradient of the validation loss.

    The difference of losses is replaced by the first term of the loss's Taylor series about the
    aggregate: ``<gradient(all), adapter(all, k silenced) - adapter(all)>``, where the difference is
    ``-p_k update_k`` under the weighted mean. The gradient is taken at the aggregate, not at the
    adapter before the round, because all adapters that leave-one-out compares lie around the
    aggregate. Groups, clipping and what counts as no update are those of :func:`leave_one_out`.

    Parameters
    ----------
    scored : ScoredRound
        The round, under a rule whose adapter keeps its shape.
    gradient : callable
        See :data:`Gradient`.
    limits : ScoreLimits
        What is too little to count, and too much.

    Returns
    -------
    dict of str to int
        Micro-nats by organization, sorted by name.

    Raises
    ------
    ValueError
        If the adapter's shape depends on who takes part (``flora``, ``accumulators``).
    """
    if scored.rule.plan(scored.round, scored.rule.settings.rank).on_top:
        raise ValueError(
            f"first-order scores need a rule whose adapter keeps its shape: {scored.rule.name}'s "
            "does not; use leave-one-out"
        )

    def gains(everyone: Sequence[Contribution], left_out: Sequence[set[str]]) -> list[float]:
        whole = scored.adapter(everyone)
        slope = gradient(whole)
        return [
            _slope_along(slope, whole, scored.adapter(_silenced(everyone, names)))
            for names in left_out
        ]

    return _scores(scored, gains, limits)


def score_table(
    scores: Mapping[str, int],
    organizations: Sequence[str],
    *,
    task: bytes,
    round: int,
    validation: bytes,
    method: ScoreMethod,
) -> ScoreTable:
    """Put a round's table together: whoever declined, was absent or was rejected has 0.

    Parameters
    ----------
    scores : mapping of str to int
        Micro-nats of those whose updates were accepted.
    organizations : sequence of str
        All who take part in the run.
    task : bytes
        Id of the task, 32 bytes.
    round : int
        The round.
    validation : bytes
        Hash of the public validation set, 32 bytes.
    method : {"leave-one-out", "first-order"}
        How the scores were computed.

    Raises
    ------
    ValueError
        If an organization has a score and does not take part.
    """
    strangers = sorted(scores.keys() - set(organizations))
    if strangers:
        raise ValueError(f"{strangers[0]!r} has a score, but does not take part in the run")
    return ScoreTable.of(
        {name: scores.get(name, 0) for name in organizations},
        task=task,
        round=round,
        validation=validation,
        method=method,
    )


#: Given all who take part and whom to leave out each time: what the loss then gains, in nats.
_Gains: TypeAlias = Callable[[Sequence[Contribution], Sequence[set[str]]], list[float]]


def _scores(scored: ScoredRound, gains: _Gains, limits: ScoreLimits) -> dict[str, int]:
    ordered = sorted(scored.accepted, key=lambda contribution: contribution.organization)
    if not ordered:
        return {}
    for contribution in ordered:
        scored.rule.check_contribution(scored.round, contribution)
    players = _players(scored, ordered)
    everyone = [player.stands for player in players]
    if len(everyone) < scored.rule.minimum_contributions:
        everyone = ordered
    scores = {contribution.organization: 0 for contribution in ordered}
    if players:
        found = gains(everyone, [set(player.members) for player in players])
        for player, gain in zip(players, found, strict=True):
            share = micro_nats(limits.score(gain)) // len(player.members)
            scores |= dict.fromkeys(player.members, share)
    return scores


def _players(scored: ScoredRound, ordered: Sequence[Contribution]) -> list[_Player]:
    """Group the updates that count; one too small to count is in no group, wherever it points."""
    gram = update_gram(scored.rule, scored.round, ordered)
    counted = [k for k, nothing in enumerate(negligible(gram)) if not nothing]
    players = []
    for group in near_duplicates(gram[np.ix_(counted, counted)]):
        members = [counted[position] for position in group]
        stands = min(members, key=lambda k: (-ordered[k].num_examples, float(gram[k, k]), k))
        names = tuple(ordered[k].organization for k in members)
        players.append(_Player(ordered[stands], names))
    return players


def _silenced(contributions: Sequence[Contribution], names: set[str]) -> list[Contribution]:
    """Put zeros in the place of some organizations' updates, which keep their weight."""
    return [
        replace(c, arrays={name: np.zeros_like(array) for name, array in c.arrays.items()})
        if c.organization in names
        else c
        for c in contributions
    ]


def _number(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss


def _slope_along(
    slope: Mapping[str, np.ndarray[Any, Any]], origin: Arrays, target: Arrays
) -> float:
    parts = []
    for name in sorted(origin):
        step = target[name].astype(np.float64) - origin[name].astype(np.float64)
        parts.append(float(fold_sum((slope[name].astype(np.float64) * step).reshape(-1))))
    return math.fsum(parts)
