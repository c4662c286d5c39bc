"""Equivalence: the difference to the retrained models lies within a margin, with its whole error.

A test that finds no difference proves nothing: with few records none is ever found. Here the whole
95 % interval of the difference must lie inside the margin, and a model that was not unlearned must
fail the same test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from unlearning.verification.paired import Pair
from unlearning.verification.token_statistics import FloatArray, VerificationError

Verdict = Literal["within", "outside", "undecided", "not measurable"]

#: Resamples behind an interval.
DRAWS: Final = 4000

_CONFIDENCE: Final = 0.95

#: Resamples at once: with 1,000 records, 4 MB of counts.
_CHUNK: Final = 500


@dataclass(frozen=True)
class Range:
    """Where an effect may lie, both ends included; an end may be infinite."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"range {self.low} to {self.high}: expected low below high")


@dataclass(frozen=True)
class Margins:
    """How far from the retrained models is as good as retrained.

    Parameters
    ----------
    accuracy : float
        Of the forget set, absolute.
    forget_loss : float
        Of the forget set, relative to the retrained models' loss.
    attack_auc : float
        Of each attack, absolute.
    utility : float
        Smallest share of the retrained models' utility; more is welcome.
    """

    accuracy: float = 0.02
    forget_loss: float = 0.05
    attack_auc: float = 0.03
    utility: float = 0.98


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of an effect, over seeds and records.

    Parameters
    ----------
    estimate : float
        Mean over seeds of the effect on the records as they are.
    low, high : float
        The interval's ends.
    seeds : int
        Pairs of models.
    records : int
        Records of all seeds together.
    """

    estimate: float
    low: float
    high: float
    seeds: int
    records: int


@dataclass(frozen=True)
class Judgement:
    """Whether unlearned models are as good as retrained ones, in one respect.

    Parameters
    ----------
    verdict : {"within", "outside", "undecided", "not measurable"}
        Whether the whole interval lies inside the allowed range, the whole of it outside, or
        neither; "not measurable" where the models before unlearning pass the same test.
    interval : Interval
        Of the effect, unlearned against retrained.
    allowed : Range
        Where the effect may lie.
    control : Interval or None
        Of the effect before unlearning, against retrained; None where there is no control.
    """

    verdict: Verdict
    interval: Interval
    allowed: Range
    control: Interval | None


def judge(
    pairs: Sequence[Pair],
    allowed: Range,
    generator: np.random.Generator,
    *,
    control: Sequence[Pair] | None = None,
    draws: int = DRAWS,
) -> Judgement:
    """Judge unlearned models by their difference to retrained ones.

    Parameters
    ----------
    pairs : sequence of Pair
        Unlearned and retrained model, a pair each seed.
    allowed : Range
        Where the effect may lie.
    generator : Generator
        Of the resamples.
    control : sequence of Pair, optional
        Positive control: the models before unlearning in the place of the unlearned ones. If they
        too are within the range, there was nothing to measure.
    draws : int, optional
        Resamples.

    Raises
    ------
    VerificationError
        If there is no pair.
    """
    interval = paired_interval(pairs, generator, draws=draws)
    if control is None:
        return Judgement(verdict(interval, allowed), interval, allowed, None)
    before = paired_interval(control, generator, draws=draws)
    measurable = verdict(before, allowed) != "within"
    answer: Verdict = verdict(interval, allowed) if measurable else "not measurable"
    return Judgement(answer, interval, allowed, before)


def verdict(interval: Interval, allowed: Range) -> Literal["within", "outside", "undecided"]:
    """Compare an interval with the allowed range."""
    if allowed.low <= interval.low and interval.high <= allowed.high:
        return "within"
    if interval.high < allowed.low or allowed.high < interval.low:
        return "outside"
    return "undecided"


def paired_interval(
    pairs: Sequence[Pair], generator: np.random.Generator, *, draws: int = DRAWS
) -> Interval:
    """Return the mean effect over seeds with its 95 % interval.

    Percentile interval (Efron 1979) of a hierarchical paired bootstrap (Davison and Hinkley 1997,
    *Bootstrap Methods and their Application*, section 3.8): each resample draws as many seeds as
    there are, with replacement, then within every drawn seed records with replacement, the same
    ones under both models, and takes the mean of the seeds' effects. Resampling S seeds spreads
    their mean too little, by ``sqrt((S - 1) / S)`` (Hesterberg 2015, arXiv 1411.5279): the seeds'
    deviations from the estimate are stretched by the inverse.

    In 300 trials with 3 seeds of 270 records the interval held the true effect 96 to 99 % of the
    time where seeds differed by less than the records' own error, 89 % where by three times as much
    (77 % unstretched): three seeds are few, and more are better.

    Parameters
    ----------
    pairs : sequence of Pair
        One each seed. With a single one the interval knows nothing of seeds.
    generator : Generator
        Of the resamples.
    draws : int, optional
        Resamples.

    Raises
    ------
    VerificationError
        If there is no pair.
    """
    if not pairs:
        raise VerificationError("no pair of models to compare: expected one each seed")
    seeds = len(pairs)
    observed = np.array([pair.observed() for pair in pairs])
    estimate = math.fsum(observed) / seeds
    stretch = math.sqrt(seeds / (seeds - 1)) - 1 if seeds > 1 else 0.0
    effects = np.empty((draws, seeds))
    chosen = generator.integers(seeds, size=(draws, seeds))
    for index, pair in enumerate(pairs):
        places = np.nonzero(chosen == index)
        resampled = _in_chunks(pair, generator, len(places[0]))
        effects[places] = resampled + stretch * (observed[index] - estimate)
    means = effects.mean(axis=1)
    tail = (1 - _CONFIDENCE) / 2
    return Interval(
        estimate=estimate,
        # Never between two resamples: one without an effect (see PairedMeans) counts as infinite.
        low=float(np.quantile(means, tail, method="lower")),
        high=float(np.quantile(means, 1 - tail, method="higher")),
        seeds=seeds,
        records=sum(pair.records for pair in pairs),
    )


def _in_chunks(pair: Pair, generator: np.random.Generator, draws: int) -> FloatArray:
    sizes = [min(_CHUNK, draws - start) for start in range(0, draws, _CHUNK)]
    return np.concatenate([np.empty(0), *(pair.resampled(generator, size) for size in sizes)])
