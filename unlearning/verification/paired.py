"""Paired measurements: two models asked about the same records, and resamples of those records."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from unlearning.verification.roc import weighted_auc
from unlearning.verification.token_statistics import FloatArray, VerificationError

Effect = Literal["difference", "relative difference", "ratio"]


class Pair(Protocol):
    """One seed: the unlearned and the retrained model, asked about the same records."""

    @property
    def records(self) -> int:
        """Number of records."""
        ...

    def observed(self) -> float:
        """Return the effect on the records as they are."""
        ...

    def resampled(self, generator: np.random.Generator, draws: int) -> FloatArray:
        """Return the effect on resamples of the records, drawn with replacement, shape (draws,)."""
        ...


@dataclass(frozen=True, eq=False)
class PairedMeans:
    """Means over records under both models, such as accuracy, or the loss a token.

    With U, R and W the sums of the three arrays, the means are ``U / W`` and ``R / W``, and the
    effect is ``(U - R) / W``, ``(U - R) / R`` or ``U / R``.

    Parameters
    ----------
    unlearned, retrained : ndarray of float64, shape (records,)
        A record's value under each model, summed over what it is a mean of.
    effect : {"difference", "relative difference", "ratio"}
        What is compared with the margin.
    weights : ndarray of float64, shape (records,), optional
        What a record's value was summed over, such as its tokens; 1 each by default.

    Raises
    ------
    VerificationError
        If there are no records, shapes differ, a value is not finite, or the retrained model's sum
        is not positive where the effect divides by it.
    """

    unlearned: FloatArray
    retrained: FloatArray
    effect: Effect = "difference"
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        _check_arrays(self.unlearned, self.retrained)
        if self.weights is not None:
            _check_arrays(self.unlearned, self.weights)
        if self.effect != "difference" and not self.retrained.sum() > 0:
            raise VerificationError(
                f"{self.effect} to retrained values that sum to {self.retrained.sum()}: expected "
                "a positive sum"
            )

    @property
    def records(self) -> int:
        """Number of records."""
        return len(self.unlearned)

    def observed(self) -> float:
        """Return the effect on the records as they are."""
        return float(self._effects(np.ones((1, self.records)))[0])

    def resampled(self, generator: np.random.Generator, draws: int) -> FloatArray:
        """Return the effect on resamples of the records, shape (draws,)."""
        return self._effects(_counts(generator, self.records, draws))

    def _effects(self, counts: FloatArray) -> FloatArray:
        unlearned, retrained = counts @ self.unlearned, counts @ self.retrained
        if self.effect == "ratio":
            return _divided(unlearned, retrained)
        if self.effect == "relative difference":
            return _divided(unlearned - retrained, retrained)
        weights = np.ones(self.records) if self.weights is None else self.weights
        return _divided(unlearned - retrained, counts @ weights)


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Membership scores under both models; the effect is the difference of the areas.

    An area is no mean over records: members and non-members are resampled each among themselves,
    the same ones under both models, and both areas computed again.

    Parameters
    ----------
    unlearned_members, retrained_members : ndarray of float64, shape (members,)
        The forget set's scores, higher for members.
    unlearned_non_members, retrained_non_members : ndarray of float64, shape (non_members,)
        The hold-out set's.

    Raises
    ------
    VerificationError
        If there are no records, shapes differ, or a score is not finite.
    """

    unlearned_members: FloatArray
    unlearned_non_members: FloatArray
    retrained_members: FloatArray
    retrained_non_members: FloatArray

    def __post_init__(self) -> None:
        _check_arrays(self.unlearned_members, self.retrained_members)
        _check_arrays(self.unlearned_non_members, self.retrained_non_members)

    @property
    def records(self) -> int:
        """Number of members and non-members."""
        return len(self.unlearned_members) + len(self.unlearned_non_members)

    def observed(self) -> float:
        """Return the difference of the areas on the records as they are."""
        members = np.ones((1, len(self.unlearned_members)))
        return float(self._effects(members, np.ones((1, len(self.unlearned_non_members))))[0])

    def resampled(self, generator: np.random.Generator, draws: int) -> FloatArray:
        """Return the difference of the areas on resamples of the records, shape (draws,)."""
        members = _counts(generator, len(self.unlearned_members), draws)
        return self._effects(members, _counts(generator, len(self.unlearned_non_members), draws))

    def _effects(self, members: FloatArray, non_members: FloatArray) -> FloatArray:
        unlearned = weighted_auc(
            self.unlearned_members, self.unlearned_non_members, members, non_members
        )
        retrained = weighted_auc(
            self.retrained_members, self.retrained_non_members, members, non_members
        )
        return unlearned - retrained


def _counts(generator: np.random.Generator, records: int, draws: int) -> FloatArray:
    """Return how often each record is drawn in each resample, shape (draws, records)."""
    picks = generator.integers(records, size=(draws, records))
    places = picks + records * np.arange(draws)[:, None]
    counts = np.bincount(places.ravel(), minlength=draws * records)
    return counts.reshape(draws, records).astype(np.float64)


def _divided(numerators: FloatArray, denominators: FloatArray) -> FloatArray:
    # A resample whose denominator is 0 has no effect to speak of: it counts as the worst.
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients: FloatArray = numerators / denominators
    return np.where(np.isnan(quotients), np.inf, quotients)


def _check_arrays(one: FloatArray, other: FloatArray) -> None:
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise VerificationError(
            f"paired values of shapes {one.shape} and {other.shape}: expected one of each for "
            "every record"
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise VerificationError("a paired value is not finite: expected numbers")
