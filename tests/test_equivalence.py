"""A verdict needs the whole interval, and a model that was not unlearned must fail."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.verification_cases import rows, statistics
from unlearning.verification.against_retrained import as_good_as_retrained
from unlearning.verification.equivalence import (
    Interval,
    Margins,
    Range,
    judge,
    paired_interval,
    verdict,
)
from unlearning.verification.evidence import Evidence, EvidenceById, RecordEvidence
from unlearning.verification.paired import Pair, PairedMeans, PairedScores
from unlearning.verification.roc import auc
from unlearning.verification.token_statistics import VerificationError

Floats = NDArray[np.float64]

TWO_POINTS = Range(-0.02, 0.02)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def shifted(shift: float, noise: float, *, records: int = 300, seeds: int = 3) -> list[Pair]:
    """Records that differ much among each other, and little between the models."""
    source = generator(7)
    pairs: list[Pair] = []
    for _ in range(seeds):
        retrained = source.normal(5, 3, size=records)
        pairs.append(PairedMeans(retrained + shift + source.normal(0, noise, records), retrained))
    return pairs


def test_models_that_agree_on_every_record_are_within() -> None:
    judgement = judge(shifted(0, 0), TWO_POINTS, generator())
    assert judgement.verdict == "within"
    assert judgement.interval == Interval(0, 0, 0, seeds=3, records=900)


def test_pairing_takes_out_what_records_differ_by() -> None:
    """Unpaired, 300 records of deviation 3 give an error of 0.24; paired, of deviation 0.05."""
    interval = judge(shifted(0.01, 0.05), TWO_POINTS, generator()).interval
    assert interval.low < interval.estimate < interval.high
    assert interval.high - interval.low < 0.02


@pytest.mark.parametrize(
    ("shift", "noise", "expected"),
    [(0, 0.05, "within"), (0.1, 0.05, "outside"), (-0.1, 0.05, "outside"), (0, 2, "undecided")],
)
def test_the_whole_interval_decides(shift: float, noise: float, expected: str) -> None:
    assert judge(shifted(shift, noise), TWO_POINTS, generator()).verdict == expected


def test_where_the_models_before_unlearning_pass_nothing_was_measured() -> None:
    pairs = shifted(0, 0.05)
    fails = judge(pairs, TWO_POINTS, generator(), control=shifted(0.1, 0.05))
    assert fails.verdict == "within"
    assert fails.control is not None
    assert fails.control.low > 0.02
    passes = judge(pairs, TWO_POINTS, generator(), control=shifted(0.001, 0.05))
    assert passes.verdict == "not measurable"
    # The test has not passed where it could not decide.
    assert judge(pairs, TWO_POINTS, generator(), control=shifted(0, 2)).verdict == "within"


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_wider_range_never_makes_a_verdict_worse(
    low: float, width: float, bottom: float, height: float, more: float
) -> None:
    interval = Interval(low, low, low + width, seeds=3, records=9)
    order = ["outside", "undecided", "within"]
    narrow = verdict(interval, Range(bottom, bottom + height))
    wide = verdict(interval, Range(bottom - more, bottom + height + more))
    assert order.index(narrow) <= order.index(wide)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.02, 0.02, "within"),
        (0.02, 0.03, "undecided"),
        (0.021, 0.03, "outside"),
        (-0.01, 0.03, "undecided"),
        (-1, 1, "undecided"),
        (-1, math.inf, "undecided"),
    ],
)
def test_a_range_includes_its_ends(low: float, high: float, expected: str) -> None:
    assert verdict(Interval(0, low, high, seeds=1, records=1), TWO_POINTS) == expected


def test_one_seed_of_resamples_gives_one_interval() -> None:
    pairs = shifted(0, 0.5)
    assert paired_interval(pairs, generator(1)) == paired_interval(pairs, generator(1))
    assert paired_interval(pairs, generator(1)) != paired_interval(pairs, generator(2))


def test_the_records_part_of_an_interval_is_the_means_error() -> None:
    values = generator(4).normal(size=400)
    interval = paired_interval([PairedMeans(values, np.zeros(400))], generator(), draws=8000)
    half = (interval.high - interval.low) / 2
    assert half == pytest.approx(1.96 * values.std() / 20, rel=0.05)


def test_the_seeds_part_of_an_interval_is_the_spread_between_them() -> None:
    """Without any spread within seeds: the mean of many seeds' effects, as a plain bootstrap."""
    effects = generator(5).normal(size=40)
    pairs = [PairedMeans(np.full(2, effect), np.zeros(2)) for effect in effects]
    interval = paired_interval(pairs, generator(), draws=8000)
    half = (interval.high - interval.low) / 2
    assert half == pytest.approx(1.96 * effects.std(ddof=1) / math.sqrt(40), rel=0.05)
    # Two seeds, effects 0 and 2: stretched by sqrt(2) about 1, the resamples end at both.
    two = [PairedMeans(np.full(2, effect), np.zeros(2)) for effect in (0.0, 2.0)]
    interval = paired_interval(two, generator())
    assert (interval.low, interval.high) == pytest.approx((1 - math.sqrt(2), 1 + math.sqrt(2)))


def test_effects_are_those_worked_out_by_hand() -> None:
    unlearned, retrained = np.array([3.0, 6.0]), np.array([2.0, 4.0])
    tokens = np.array([1.0, 3.0])
    assert PairedMeans(unlearned, retrained).observed() == 1.5
    assert PairedMeans(unlearned, retrained, weights=tokens).observed() == 0.75
    assert PairedMeans(unlearned, retrained, "relative difference").observed() == 0.5
    assert PairedMeans(unlearned, retrained, "ratio").observed() == 1.5


def test_both_models_are_resampled_alike() -> None:
    """A constant ratio has no spread, however the records differ."""
    retrained = generator(2).exponential(size=50)
    effects = PairedMeans(retrained * 0.9, retrained, "ratio").resampled(generator(), 100)
    assert effects == pytest.approx(np.full(100, 0.9))


def test_a_resample_without_any_retrained_success_is_never_within() -> None:
    """One right answer among four: a third of the resamples have none to divide by."""
    one_right = np.array([1.0, 0, 0, 0])
    interval = paired_interval([PairedMeans(one_right, one_right, "ratio")], generator())
    assert math.isinf(interval.high)
    assert verdict(interval, Range(0.5, 2)) == "undecided"


def noisy_scores(shift: float, *, records: int = 200) -> PairedScores:
    source = generator(9)
    members, non_members = source.normal(0.5, 1, records), source.normal(size=records + 50)
    return PairedScores(
        members + source.normal(shift, 0.1, records), non_members, members, non_members
    )


def test_an_areas_difference_is_computed_again_for_every_resample() -> None:
    pair = noisy_scores(0.3)
    expected = (
        auc(pair.unlearned_members, pair.unlearned_non_members).value
        - auc(pair.retrained_members, pair.retrained_non_members).value
    )
    assert pair.observed() == pytest.approx(expected)
    effects = pair.resampled(generator(), 2000)
    source = generator(11)
    by_hand = []
    for _ in range(800):
        members, others = source.integers(200, size=200), source.integers(250, size=250)
        unlearned = pair.unlearned_members[members, None] > pair.unlearned_non_members[others]
        retrained = pair.retrained_members[members, None] > pair.retrained_non_members[others]
        by_hand.append(unlearned.mean() - retrained.mean())
    assert effects.std() == pytest.approx(np.std(by_hand), rel=0.1)
    assert effects.mean() == pytest.approx(expected, abs=0.005)


def test_what_cannot_be_compared_is_refused() -> None:
    some, none = np.array([1.0, 2.0]), np.empty(0)
    with pytest.raises(VerificationError, match=r"shapes \(2,\) and \(0,\)"):
        PairedMeans(some, none)
    with pytest.raises(VerificationError, match="expected one of each"):
        PairedMeans(none, none)
    with pytest.raises(VerificationError, match="not finite"):
        PairedScores(some, some, some, np.array([1.0, math.nan]))
    with pytest.raises(VerificationError, match="ratio to retrained values that sum to 0"):
        PairedMeans(some, some * 0, "ratio")
    with pytest.raises(VerificationError, match="no pair"):
        paired_interval([], generator())
    with pytest.raises(ValueError, match="expected low below high"):
        Range(1, 1)


def classified(prefix: str, right: Sequence[float]) -> EvidenceById:
    """Records with two choices, the other one at log-probability -1."""
    return {
        f"{prefix}-{index}": RecordEvidence(
            statistics([score], choices=[(score, 1), (-1, 1)], answer=0), 10
        )
        for index, score in enumerate(right)
    }


def three_seeds(forget_loss: float, *, know: float = 0.9) -> list[Evidence]:
    """Models of forget losses about a level; a share of the retained questions is answered."""
    evidence = []
    for seed in range(3):
        source = generator(seed)
        hold_out = source.normal(3, 0.5, size=200)
        forget = source.normal(3, 0.5, size=200) + forget_loss - 3
        retain = np.where(np.arange(200) < 200 * know, -0.5, -2.0)
        evidence.append(
            Evidence(
                rows("f", forget.tolist()),
                classified("r", retain.tolist()),
                rows("h", hold_out.tolist()),
            )
        )
    return evidence


def test_models_are_judged_in_every_respect_there_is_evidence_for() -> None:
    judgements = as_good_as_retrained(
        three_seeds(3.001), three_seeds(3), three_seeds(2), generator=generator(), draws=400
    )
    assert set(judgements) == {
        "forget/loss",
        "membership/loss",
        "membership/zlib",
        "membership/min_k",
        "membership/min_k_plus_plus",
        "retain/utility",
    }
    assert {judgement.verdict for judgement in judgements.values()} == {"within"}
    assert judgements["membership/loss"].interval.records == 1200
    assert judgements["retain/utility"].control is None
    assert judgements["forget/loss"].allowed == Range(-0.05, 0.05)


def test_a_model_that_still_knows_one_that_knows_less_and_a_control_that_passes_are_told() -> None:
    retrained, before = three_seeds(3), three_seeds(2)
    remembers = as_good_as_retrained(
        three_seeds(2.5), retrained, before, generator=generator(), draws=400
    )
    assert remembers["forget/loss"].verdict == "outside"
    assert remembers["membership/loss"].verdict == "outside"
    useless = as_good_as_retrained(
        three_seeds(3, know=0.8), retrained, before, generator=generator(), draws=400
    )
    assert useless["retain/utility"].verdict == "outside"
    assert useless["forget/loss"].verdict == "within"
    useful = as_good_as_retrained(
        three_seeds(3, know=1), retrained, before, generator=generator(), draws=400
    )
    assert useful["retain/utility"].verdict == "within"
    nothing = as_good_as_retrained(
        retrained, retrained, three_seeds(3), generator=generator(), draws=400
    )
    assert nothing["forget/loss"].verdict == "not measurable"


def test_margins_are_the_callers() -> None:
    judgements = as_good_as_retrained(
        three_seeds(3.1),
        three_seeds(3),
        three_seeds(2),
        generator=generator(),
        margins=Margins(forget_loss=0.03),
        draws=400,
    )
    assert judgements["forget/loss"].verdict == "outside"


def test_accuracy_of_the_forget_set_is_judged_where_records_have_choices() -> None:
    def model(share: float) -> list[Evidence]:
        right = np.where(np.arange(400) < 400 * share, -0.5, -2.0).tolist()
        return [Evidence(classified("f", right)) for _ in range(3)]

    judgements = as_good_as_retrained(
        model(0.5), model(0.5), model(0.9), generator=generator(), draws=400
    )
    assert judgements["forget/accuracy"].verdict == "within"
    assert set(judgements) == {"forget/loss", "forget/accuracy"}
    judgements = as_good_as_retrained(
        model(0.7), model(0.5), model(0.9), generator=generator(), draws=400
    )
    assert judgements["forget/accuracy"].verdict == "outside"


def test_models_asked_about_different_records_cannot_be_compared() -> None:
    three, other = three_seeds(3), [Evidence(rows("x", [1, 2]))] * 3
    with pytest.raises(VerificationError, match="the forget sets of one seed's models differ"):
        as_good_as_retrained(three, other, three, generator=generator())
    with pytest.raises(VerificationError, match="3 unlearned, 2 retrained and 3 models"):
        as_good_as_retrained(three, three[:2], three, generator=generator())
