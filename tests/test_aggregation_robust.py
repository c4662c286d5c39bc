"""Robust statistics: bounded harm from hostile updates, and what each declares."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import trim_mean

from llm.factors import B_SUFFIX
from strategies.aggregation import (
    RULES,
    STATISTICS,
    Aggregate,
    AggregationRule,
    AggregationSettings,
    Contribution,
)
from strategies.aggregation.geometric_median import weiszfeld
from strategies.aggregation.multi_krum import krum_scores
from strategies.aggregation.robust import squared_distances
from tests.aggregation_cases import RANK, SHAPES, Federation, dense, exact_factors, federations

ROBUST = ("norm-clip", "trimmed-mean", "multi-krum", "geometric-median")
few = settings(max_examples=25, deadline=None)

#: Seven organizations of one opinion, each with its own noise.
ALIKE = Federation(
    AggregationSettings(rank=RANK, alpha=float(RANK), seed=3),
    {f"organization {k}": (RANK, 50, None) for k in range(7)},
    seed=5,
    rounds=1,
)


def alike(rule: AggregationRule) -> list[Contribution]:
    noisy = ALIKE.contributions(rule, 1)
    rng = np.random.default_rng(1)
    opinion = {n: rng.normal(size=a.shape).astype("f4") for n, a in noisy[0].arrays.items()}
    return [replace(c, arrays={n: opinion[n] + a for n, a in c.arrays.items()}) for c in noisy]


def scaled(contribution: Contribution, factor: float) -> Contribution:
    arrays = {n: np.float32(factor) * a for n, a in contribution.arrays.items()}
    return replace(contribution, arrays=arrays)


def aggregate(rule: AggregationRule, contributions: list[Contribution]) -> Aggregate:
    return rule.aggregate(rule.initial_state(), 1, contributions)


def moved(rule: AggregationRule, contributions: list[Contribution]) -> float:
    """Distance of the aggregate to the honest mean, in units of the honest updates' spread."""
    honest = alike(rule)
    plain = RULES[rule.name](replace(rule.settings, robust="none"), SHAPES)
    center = dense(plain, aggregate(plain, honest).state)
    reached = dense(rule, aggregate(rule, contributions).state)
    spread = max(_norm(dense(plain, aggregate(plain, [c]).state), center) for c in honest)
    return _norm(reached, center) / spread


def _norm(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    return float(sum(np.sum((first[m] - second[m]) ** 2) for m in second)) ** 0.5


def rule_with(robust: str, name: str = "ffa", **changes: object) -> AggregationRule:
    return RULES[name](replace(ALIKE.settings, robust=robust, **changes), SHAPES)


@pytest.mark.parametrize("name", ["ffa", "alternating"])
@pytest.mark.parametrize("robust", ROBUST)
@pytest.mark.parametrize("factor", [1000.0, -1000.0, 1e30])
def test_one_hugely_scaled_update_moves_a_robust_rule_by_a_bounded_amount(
    name: str, robust: str, factor: float
) -> None:
    rule = rule_with(robust, name)
    honest = alike(rule)
    attacked = [scaled(honest[0], factor), *honest[1:]]
    # A clipped update turned around still weighs 1/7 of one of full length.
    assert moved(rule, attacked) < 2.0
    assert moved(rule_with("none", name), attacked) > 100.0


@pytest.mark.parametrize("robust", STATISTICS)
def test_identical_updates_are_every_statistics_result(robust: str) -> None:
    rule = rule_with(robust)
    one = alike(rule)[0]
    copies = [replace(one, organization=f"copy {k}", num_examples=k + 1) for k in range(5)]
    reached = aggregate(rule, copies).state
    for module, pair in exact_factors(rule, reached).items():
        np.testing.assert_allclose(pair.b, one.arrays[module + B_SUFFIX], rtol=1e-12)


@pytest.mark.parametrize("robust", STATISTICS)
@few
@given(data=st.data(), random=st.randoms(use_true_random=False))
def test_the_order_of_the_contributions_changes_no_bit(
    robust: str, data: st.DataObject, random: Random
) -> None:
    federation = data.draw(federations(robust, fewest=5))
    rule = federation.rule("ffa")
    contributions = federation.contributions(rule, 1)
    shuffled = list(contributions)
    random.shuffle(shuffled)
    first, second = aggregate(rule, contributions), aggregate(rule, shuffled)
    assert first.effective_weights == second.effective_weights
    for name, array in first.state.arrays.items():
        assert array.tobytes() == second.state.arrays[name].tobytes()


@pytest.mark.parametrize("robust", ["none", "norm-clip", "multi-krum", "geometric-median"])
@few
@given(data=st.data())
def test_the_effective_weights_are_the_coefficients_of_the_step(
    robust: str, data: st.DataObject
) -> None:
    federation = data.draw(federations(robust, fewest=5))
    rule = federation.rule("ffa")
    contributions = federation.contributions(rule, 1)
    result = aggregate(rule, contributions)
    assert result.effective_weights is not None
    for module, pair in exact_factors(rule, result.state).items():
        expected = np.zeros_like(pair.b)
        for c in contributions:
            step = c.arrays[module + B_SUFFIX].astype(np.float64)
            ratio = 1.0 if c.scale is None else c.scale / rule.settings.scale
            expected[:, : step.shape[1]] += result.effective_weights[c.organization] * ratio * step
        np.testing.assert_allclose(pair.b, expected, rtol=1e-9, atol=1e-12)


@few
@given(bound=st.floats(1e-3, 1e3))
def test_no_clipped_update_is_longer_than_the_bound(bound: float) -> None:
    rule = rule_with("norm-clip", clip_norm=bound)
    for contribution in alike(rule):
        alone = aggregate(rule, [contribution]).state
        norm = float(sum(np.sum(u**2) for u in dense(rule, alone).values())) ** 0.5
        sent = rule.update_norm(rule.initial_state(), 1, contribution)
        assert norm == pytest.approx(min(bound, sent), rel=1e-6)


def test_without_a_bound_the_lower_median_norm_is_the_bound() -> None:
    rule = rule_with("norm-clip")
    honest = alike(rule)[:4]
    norms = sorted(rule.update_norm(rule.initial_state(), 1, c) for c in honest)
    assert aggregate(rule, honest).diagnostics == {"clip_norm": norms[1], "clipped": 2.0}


@few
@given(federation=federations("trimmed-mean", fewest=3))
def test_a_trimmed_mean_is_scipys_and_within_the_range_of_what_was_sent(
    federation: Federation,
) -> None:
    rule = federation.rule("ffa")
    contributions = federation.contributions(rule, 1)
    result = aggregate(rule, contributions)
    assert result.effective_weights is None
    for module, pair in exact_factors(rule, result.state).items():
        padded = np.zeros((len(contributions), *pair.b.shape))
        for k, c in enumerate(contributions):
            step = c.arrays[module + B_SUFFIX]
            ratio = 1.0 if c.scale is None else c.scale / rule.settings.scale
            padded[k, :, : step.shape[1]] = ratio * step.astype(np.float64)
        assert (pair.b <= padded.max(axis=0) + 1e-12).all()
        assert (pair.b >= padded.min(axis=0) - 1e-12).all()
        # The part cut is a count here and a proportion there: half a count more rounds down to it.
        expected = trim_mean(padded, 1.5 / len(contributions) if len(contributions) > 3 else 1 / 3)
        np.testing.assert_allclose(pair.b, expected, rtol=1e-9, atol=1e-12)


def test_multi_krum_drops_the_outliers_and_keeps_the_others_weights_in_proportion() -> None:
    rule = rule_with("multi-krum", byzantine=2)
    honest = [replace(c, num_examples=10 * (k + 1)) for k, c in enumerate(alike(rule))]
    attacked = [scaled(honest[0], -50.0), scaled(honest[1], 80.0), *honest[2:]]
    weights = aggregate(rule, attacked).effective_weights
    assert weights is not None
    assert weights["organization 0"] == weights["organization 1"] == 0.0
    kept = {name: weight for name, weight in weights.items() if weight}
    assert len(kept) == 7 - 2 - 2
    assert sum(kept.values()) == pytest.approx(1)
    records = {c.organization: c.num_examples for c in attacked}
    assert len({round(weight / records[name], 12) for name, weight in kept.items()}) == 1


@given(points=st.lists(st.tuples(*[st.floats(-9, 9)] * 3), min_size=5, max_size=8))
def test_krum_scores_are_the_sums_of_the_nearest_squared_distances(
    points: list[tuple[float, ...]],
) -> None:
    x = np.array(points)
    neighbours = len(points) - 3
    scores = krum_scores(squared_distances(x @ x.T), neighbours)
    for k, score in enumerate(scores):
        distances = sorted(float(np.sum((x[k] - x[j]) ** 2)) for j in range(len(x)) if j != k)
        assert score == pytest.approx(sum(distances[:neighbours]), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("robust", "byzantine", "fewest"),
    [("multi-krum", 1, 5), ("multi-krum", 2, 7), ("trimmed-mean", 2, 5)],
)
def test_too_few_organizations_for_a_statistic_are_refused(
    robust: str, byzantine: int, fewest: int
) -> None:
    rule = rule_with(robust, byzantine=byzantine)
    assert rule.minimum_contributions == fewest
    assert aggregate(rule, alike(rule)[:fewest]).weights
    with pytest.raises(ValueError, match=f"{fewest - 1} contributions are too few for ffa with"):
        aggregate(rule, alike(rule)[: fewest - 1])


@few
@given(
    points=st.lists(st.tuples(*[st.floats(-9, 9)] * 3), min_size=3, max_size=7),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_other_point_has_a_smaller_sum_of_distances_than_the_geometric_median(
    points: list[tuple[float, ...]], seed: int
) -> None:
    x = np.array(points)
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(x)))

    def total(point: np.ndarray) -> float:
        return float(weights @ np.linalg.norm(x - point, axis=1))

    coefficients, _, _ = weiszfeld(x @ x.T, weights.tolist())
    assert sum(coefficients) == pytest.approx(1)
    best = min(minimize(total, start, method="Nelder-Mead").fun for start in (*x, x.mean(axis=0)))
    assert total(np.array(coefficients) @ x) <= best + 1e-3 * (1 + np.abs(x).max())


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-100, 100))
def test_the_geometric_median_does_not_depend_on_the_unit_of_length(
    seed: int, exponent: int
) -> None:
    x = np.random.default_rng(seed).normal(size=(5, 3))
    gram = x @ x.T
    # Powers of two scale every intermediate value exactly.
    assert weiszfeld(np.ldexp(gram, 2 * exponent), [0.2] * 5) == weiszfeld(gram, [0.2] * 5)


def test_a_majority_of_zero_updates_is_the_geometric_median() -> None:
    gram = np.diag([0.0, 0.0, 0.0, 1e12])
    coefficients, _, _ = weiszfeld(gram, [0.25] * 4)
    assert coefficients[3] * 1e6 < 1e-6


def test_the_geometric_median_declares_whether_it_converged() -> None:
    rule = rule_with("geometric-median")
    diagnostics = aggregate(rule, alike(rule)).diagnostics
    assert diagnostics["converged"] == 1.0
    assert 1 < diagnostics["iterations"] < 1000


@pytest.mark.parametrize(
    ("robust", "changes", "separable"),
    [
        ("none", {}, True),
        ("norm-clip", {"clip_norm": 1.0}, True),
        ("norm-clip", {}, False),
        ("trimmed-mean", {}, False),
        ("multi-krum", {}, False),
        ("geometric-median", {}, False),
    ],
)
def test_a_rule_is_separable_only_while_nobodys_part_depends_on_the_others(
    robust: str, changes: dict[str, object], separable: bool
) -> None:
    rule = rule_with(robust, **changes)
    assert rule.separable == separable
    contributions = alike(rule)
    if not separable or robust == "none":
        return
    weights = aggregate(rule, contributions).effective_weights
    attacked = aggregate(rule, [*contributions[:-1], scaled(contributions[-1], 3.0)])
    assert weights is not None
    assert attacked.effective_weights is not None
    for contribution in contributions[:-1]:
        name = contribution.organization
        assert weights[name] == attacked.effective_weights[name]


def test_only_the_trimmed_mean_is_coordinate_wise() -> None:
    assert [name for name, s in STATISTICS.items() if s.coordinate_wise] == ["trimmed-mean"]
