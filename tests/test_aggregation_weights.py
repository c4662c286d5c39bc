"""Weights of a round: what the cap promises, and the combinations the settings refuse."""

from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.aggregation import (
    RULE_NAMES,
    RULES,
    STATISTIC_NAMES,
    STATISTICS,
    AggregationSettings,
    capped_weights,
    check_combination,
)
from strategies.aggregation.settings import SINGLE_FACTOR_RULES
from strategies.aggregation.single_factor import SingleFactorRule
from tests.aggregation_cases import MIXED, SHAPES

records = st.dictionaries(st.text(min_size=1, max_size=5), st.integers(1, 10**9), min_size=1)
caps = st.floats(0.001, 1.0)


@given(used=records, cap=caps)
def test_weights_are_positive_add_up_to_one_and_keep_the_cap(
    used: dict[str, int], cap: float
) -> None:
    weights = capped_weights(used, cap)
    assert list(weights) == sorted(used)
    assert sum(map(Fraction, weights.values())) == pytest.approx(1, abs=1e-15)
    assert all(0 < weight <= max(cap, 1 / len(used)) + 1e-15 for weight in weights.values())


@given(used=records, cap=caps)
def test_those_below_the_cap_share_in_proportion_to_their_records(
    used: dict[str, int], cap: float
) -> None:
    weights = capped_weights(used, cap)
    highest = max(weights.values())
    below = {name: weight for name, weight in weights.items() if weight < highest}
    ratios = {weight / used[name] for name, weight in below.items()}
    assert not ratios or max(ratios) == pytest.approx(min(ratios), rel=1e-12)


@given(used=records, cap=caps)
def test_who_used_more_records_never_weighs_less(used: dict[str, int], cap: float) -> None:
    weights = capped_weights(used, cap)
    ordered = sorted(used, key=lambda name: used[name])
    for fewer, more in pairwise(ordered):
        assert weights[fewer] <= weights[more]


@given(used=records)
def test_a_cap_of_one_leaves_the_plain_shares(used: dict[str, int]) -> None:
    total = sum(used.values())
    assert capped_weights(used, 1.0) == {n: float(Fraction(c, total)) for n, c in used.items()}


@given(used=records, cap=caps, data=st.data())
def test_records_claimed_beyond_the_cap_gain_nothing(
    used: dict[str, int], cap: float, data: st.DataObject
) -> None:
    weights = capped_weights(used, cap)
    liar = data.draw(st.sampled_from(sorted(used)))
    inflated = capped_weights({**used, liar: used[liar] * 10**6}, cap)
    assert weights[liar] <= inflated[liar] <= max(cap, 1 / len(used)) + 1e-15


@pytest.mark.parametrize(
    ("used", "cap", "expected"),
    [
        ({"a": 1, "b": 1, "c": 8}, 0.5, {"a": 0.25, "b": 0.25, "c": 0.5}),
        # The excess of the first lifts the second above the cap as well.
        ({"a": 60, "b": 30, "c": 5, "d": 5}, 0.4, {"a": 0.4, "b": 0.4, "c": 0.1, "d": 0.1}),
        # A cap that cannot hold: everybody the same.
        ({"a": 1, "b": 99}, 0.4, {"a": 0.5, "b": 0.5}),
        ({"a": 5}, 0.1, {"a": 1.0}),
        ({"a": 1, "b": 2, "c": 7}, 1 / 3, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
    ],
)
def test_the_excess_above_the_cap_flows_to_the_others(
    used: dict[str, int], cap: float, expected: dict[str, float]
) -> None:
    assert capped_weights(used, cap) == expected


@pytest.mark.parametrize("cap", [0.0, -0.1, 1.01, float("nan")])
def test_a_cap_out_of_range_is_refused(cap: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < cap <= 1"):
        capped_weights({"a": 1}, cap)


def test_nobody_and_nothing_used_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one organization"):
        capped_weights({}, 0.5)
    with pytest.raises(ValueError, match="b used 0 records"):
        capped_weights({"a": 1, "b": 0}, 0.5)


def test_the_settings_know_every_rule_and_statistic() -> None:
    assert tuple(RULES) == RULE_NAMES
    assert tuple(STATISTICS) == STATISTIC_NAMES
    assert {n for n, rule in RULES.items() if issubclass(rule, SingleFactorRule)} == (
        SINGLE_FACTOR_RULES
    )


@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("robust", STATISTIC_NAMES)
def test_a_statistic_without_a_place_in_its_rule_is_refused_naming_both(
    rule: str, robust: str
) -> None:
    settings = replace(MIXED.settings, robust=robust)
    if robust == "none" or rule in SINGLE_FACTOR_RULES:
        check_combination(rule, robust)
        assert RULES[rule](settings, SHAPES).settings.robust == robust
        return
    with pytest.raises(ValueError, match=f"'{robust}' cannot be combined with .* '{rule}'"):
        check_combination(rule, robust)
    with pytest.raises(ValueError, match=f"'{robust}' cannot be combined with .* '{rule}'"):
        RULES[rule](settings, SHAPES)


def test_unknown_names_are_refused_with_those_known() -> None:
    with pytest.raises(ValueError, match=r"unknown aggregation rule 'fedavg'.*'accumulators'"):
        check_combination("fedavg", "none")
    with pytest.raises(ValueError, match=r"unknown robust statistic 'median'.*'geometric-median'"):
        check_combination("ffa", "median")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 0),
        ("alpha", 0.0),
        ("alpha", float("inf")),
        ("seed", -1),
        ("seed", 2**64),
        ("weight_cap", 0.0),
        ("weight_cap", float("nan")),
        ("clip_norm", 0.0),
        ("clip_norm", float("nan")),
        ("byzantine", -1),
        ("accumulator_rank", 0),
        ("robust", "median"),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: object) -> None:
    good = {f.name: getattr(MIXED.settings, f.name) for f in fields(MIXED.settings)}
    with pytest.raises(ValueError, match=r"expected"):
        AggregationSettings(**{**good, field: value})


def test_a_rank_above_a_layers_width_is_refused_by_the_layers_name() -> None:
    with pytest.raises(ValueError, match=r"layers\.0\.q_proj: rank 13 exceeds its 12 input"):
        RULES["ffa"](
            AggregationSettings(rank=13, alpha=1.0), {"layers.0.q_proj": SHAPES["layers.0.q_proj"]}
        )


def test_a_run_without_an_adapted_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="no adapted layer"):
        RULES["ffa"](MIXED.settings, {})
