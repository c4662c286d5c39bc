"""Unlearned models against models that never saw the data, respect by respect."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from unlearning.verification.equivalence import DRAWS, Judgement, Margins, Range, judge
from unlearning.verification.evidence import SETS, Evidence, EvidenceById
from unlearning.verification.membership import ATTACKS, AttackScore, membership_scores
from unlearning.verification.memorization import accuracy, probability
from unlearning.verification.metric import MetricResult, MissingEvidenceError
from unlearning.verification.paired import Effect, Pair, PairedMeans, PairedScores
from unlearning.verification.token_statistics import FloatArray, VerificationError

_PairOf: TypeAlias = Callable[[Evidence, Evidence], Pair]


@dataclass(frozen=True)
class _Question:
    """One respect in which two models are compared."""

    pair: _PairOf
    allowed: Range
    controlled: bool


def as_good_as_retrained(
    unlearned: Sequence[Evidence],
    retrained: Sequence[Evidence],
    before: Sequence[Evidence],
    *,
    generator: np.random.Generator,
    margins: Margins | None = None,
    draws: int = DRAWS,
) -> dict[str, Judgement]:
    """Judge unlearned models in every respect for which the evidence suffices.

    One element a seed in each sequence; the three models of a seed are asked about the same
    records, and every seed has records of its own (with the same ones, a record's peculiarity would
    be taken for several records'). Three seeds and 800 forget records in all are the least that
    the project's claims rest on; what an :class:`Interval` rests on, it says.

    Parameters
    ----------
    unlearned, retrained, before : sequence of Evidence
        After unlearning; trained without the forget set; before unlearning, the positive control.
    generator : Generator
        Of the resamples.
    margins : Margins, optional
        How far from the retrained models is as good as retrained.
    draws : int, optional
        Resamples of each interval.

    Returns
    -------
    dict of str to Judgement
        ``forget/loss``; ``forget/accuracy`` where records have choices; ``membership/<attack>`` for
        each attack for which the evidence suffices; ``retain/utility`` (accuracy where the retain
        set has choices, else normalized probability) where there is a retain set. Utility has no
        control: a model that was not unlearned has all of it.

    Raises
    ------
    VerificationError
        If there is no seed, or the three models of a seed were asked about different records.
    """
    if not len(unlearned) == len(retrained) == len(before):
        raise VerificationError(
            f"{len(unlearned)} unlearned, {len(retrained)} retrained and {len(before)} models "
            "before unlearning: expected one of each for every seed"
        )
    for three in zip(unlearned, retrained, before, strict=True):
        _check_alike(*three)
    judgements = {}
    for name, question in _questions(margins or Margins()).items():
        try:
            pairs = [question.pair(*two) for two in zip(unlearned, retrained, strict=True)]
            control = [question.pair(*two) for two in zip(before, retrained, strict=True)]
        except MissingEvidenceError:
            continue
        judgements[name] = judge(
            pairs,
            question.allowed,
            generator,
            control=control if question.controlled else None,
            draws=draws,
        )
    return judgements


def _questions(margins: Margins) -> Mapping[str, _Question]:
    return {
        "forget/loss": _Question(_losses, _around(margins.forget_loss), controlled=True),
        "forget/accuracy": _Question(_accuracies, _around(margins.accuracy), controlled=True),
        **{
            f"membership/{name}": _Question(
                _areas(score), _around(margins.attack_auc), controlled=True
            )
            for name, score in ATTACKS.items()
        },
        "retain/utility": _Question(
            _utilities, Range(margins.utility, float("inf")), controlled=False
        ),
    }


def _around(margin: float) -> Range:
    return Range(-margin, margin)


def _losses(one: Evidence, other: Evidence) -> Pair:
    def losses(rows: EvidenceById) -> FloatArray:
        return np.array([rows[name].statistics.loss for name in one.forget])

    return PairedMeans(losses(one.forget), losses(other.forget), "relative difference")


def _accuracies(one: Evidence, other: Evidence) -> Pair:
    return _means(accuracy(one.forget), accuracy(other.forget), "difference")


def _utilities(one: Evidence, other: Evidence) -> Pair:
    if not one.retain:
        raise MissingEvidenceError("the retain set is empty: utility is judged by it")
    try:
        return _means(accuracy(one.retain), accuracy(other.retain), "ratio")
    except MissingEvidenceError:
        return _means(probability(one.retain), probability(other.retain), "ratio")


def _means(one: MetricResult, other: MetricResult, effect: Effect) -> Pair:
    order = one.by_record
    return PairedMeans(_values(one.by_record, order), _values(other.by_record, order), effect)


def _areas(score: AttackScore) -> _PairOf:
    def areas(one: Evidence, other: Evidence) -> Pair:
        our_members, our_non_members = membership_scores(one, score)
        their_members, their_non_members = membership_scores(other, score)
        return PairedScores(
            unlearned_members=_values(our_members, one.forget),
            unlearned_non_members=_values(our_non_members, one.hold_out),
            retrained_members=_values(their_members, one.forget),
            retrained_non_members=_values(their_non_members, one.hold_out),
        )

    return areas


def _values(by_record: Mapping[str, float], order: Iterable[str]) -> FloatArray:
    return np.fromiter((by_record[name] for name in order), dtype=np.float64)


def _check_alike(unlearned: Evidence, retrained: Evidence, before: Evidence) -> None:
    for which in SETS:
        names = unlearned.of(which).keys()
        if not names == retrained.of(which).keys() == before.of(which).keys():
            raise VerificationError(
                f"the {which} sets of one seed's models differ: expected the same records"
            )
