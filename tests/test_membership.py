"""Scores are the papers' formulas, and an area's error is what resampling says it is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.verification_cases import record_evidence, rows, statistics
from unlearning.verification.evidence import Evidence, RecordEvidence
from unlearning.verification.membership import ATTACKS, membership_auc, min_k
from unlearning.verification.metric import METRICS, MissingEvidenceError, measure
from unlearning.verification.roc import auc, weighted_auc
from unlearning.verification.token_statistics import VerificationError

Floats = NDArray[np.float64]

# Few different values, so that ties are common.
SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12).map(np.array)


def area_by_pairs(members: Floats, non_members: Floats) -> float:
    above = members[:, None] > non_members
    return float((above + 0.5 * (members[:, None] == non_members)).mean())


def test_an_area_and_its_error_are_those_worked_out_by_hand() -> None:
    """Members 3 and 2, non-members 1 and 2: psi is 1, 1 and 1, 1/2.

    V10 is 1 and 3/4, V01 is 1 and 3/4: both variances 1/32, and 1/32/2 + 1/32/2 = 1/32.
    """
    estimate = auc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    assert estimate.value == 7 / 8
    assert estimate.standard_error == pytest.approx(math.sqrt(1 / 32))


def test_an_areas_error_is_the_spread_of_its_resamples() -> None:
    generator = np.random.default_rng(1)
    members, non_members = generator.normal(0.7, 2, size=80), generator.normal(size=120)
    members[:20], non_members[:30] = 0.5, 0.5
    resampled = [
        area_by_pairs(generator.choice(members, 80), generator.choice(non_members, 120))
        for _ in range(2000)
    ]
    estimate = auc(members, non_members)
    assert estimate.standard_error == pytest.approx(np.std(resampled), rel=0.05)


@settings(max_examples=40)
@given(SCORES, SCORES)
def test_an_area_is_the_share_of_pairs_in_the_right_order(
    members: Floats, non_members: Floats
) -> None:
    estimate = auc(members, non_members)
    assert estimate.value == pytest.approx(area_by_pairs(members, non_members))
    assert auc(non_members, members).value == pytest.approx(1 - estimate.value)
    # The order alone counts, for the error too.
    stretched = auc(np.exp(members), np.exp(non_members))
    assert stretched == estimate
    assert (estimate.standard_error is None) == (min(len(members), len(non_members)) < 2)


@given(SCORES, SCORES, st.integers(0, 1000))
def test_a_weighted_area_is_that_of_scores_repeated(
    members: Floats, non_members: Floats, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    member_counts = generator.integers(1, 4, size=(3, len(members)))
    non_member_counts = generator.integers(1, 4, size=(3, len(non_members)))
    areas = weighted_auc(
        members, non_members, member_counts.astype(float), non_member_counts.astype(float)
    )
    for area, some, others in zip(areas, member_counts, non_member_counts, strict=True):
        expected = area_by_pairs(np.repeat(members, some), np.repeat(non_members, others))
        assert area == pytest.approx(expected)


def test_scores_that_separate_perfectly_have_an_area_without_error() -> None:
    estimate = auc(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert (estimate.value, estimate.standard_error) == (1, 0)


def test_an_area_needs_both_kinds_and_numbers() -> None:
    some = np.array([1.0, 2.0])
    with pytest.raises(VerificationError, match="0 members and 2 non-members"):
        auc(np.empty(0), some)
    with pytest.raises(VerificationError, match="not finite"):
        auc(np.array([math.nan]), some)


def test_every_attack_is_a_metric() -> None:
    assert set(ATTACKS) == {"loss", "zlib", "min_k", "min_k_plus_plus", "reference"}
    assert {f"membership/{name}" for name in ATTACKS} < set(METRICS)


def test_scores_are_those_worked_out_by_hand() -> None:
    row = record_evidence([-1, -2, -6, -3], compressed_bytes=24, reference=[-4, -4, -4, -4])
    assert ATTACKS["loss"](row) == -3
    assert ATTACKS["zlib"](row) == -0.5
    # A fifth of four tokens is rounded up to the one there must be.
    assert ATTACKS["min_k"](row) == -6
    assert ATTACKS["reference"](row) == 1


def test_min_k_plus_plus_asks_how_a_token_stands_among_the_models_own() -> None:
    """Scores (-1 + 3) / 2 = 1 and (-6 + 7) / 0.5 = 2: the least probable token is no longer it."""
    row = RecordEvidence(statistics([-1, -6], means=[-3, -7], deviations=[2, 0.5]), 10)
    assert ATTACKS["min_k"](row) == -6
    assert ATTACKS["min_k_plus_plus"](row) == 1
    certain = RecordEvidence(statistics([-0.5], means=[0], deviations=[0]), 10)
    assert ATTACKS["min_k_plus_plus"](certain) == pytest.approx(-500)


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=30), st.integers(1, 99))
def test_min_k_is_the_mean_of_the_lowest_and_grows_with_k(
    log_probabilities: list[float], percent: int
) -> None:
    one = statistics(log_probabilities)
    count = max(1, len(log_probabilities) * percent // 100)
    expected = sum(sorted(log_probabilities)[:count]) / count
    assert min_k(one, percent) == pytest.approx(expected)
    assert min_k(one, percent) <= min_k(one, percent + 1) + 1e-9
    assert min_k(one, 100) == pytest.approx(-one.loss_per_token)


def test_min_k_of_no_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="0 percent of the tokens"):
        min_k(statistics([-1]), 0)


def test_members_whose_loss_is_lower_are_found() -> None:
    evidence = Evidence(rows("f", [1, 2, 3]), hold_out=rows("h", [2.5, 4, 5]))
    result = measure(evidence)["membership/loss"]
    assert result.value == pytest.approx(8 / 9)
    assert result.n == 6
    assert result.by_record["f-2"] == -3
    assert result.by_record["h-0"] == -2.5


def test_membership_needs_both_sets_and_what_the_attack_asks_for() -> None:
    forget = Evidence(rows("f", [1]))
    with pytest.raises(MissingEvidenceError, match="a hold-out set"):
        membership_auc(forget, ATTACKS["loss"])
    with pytest.raises(MissingEvidenceError, match="as the base reads them"):
        membership_auc(Evidence(rows("f", [1]), hold_out=rows("h", [1])), ATTACKS["reference"])
