"""Contributions one by one: what is refused, how large an update counts, what a plan asks for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from llm.factors import A_SUFFIX, B_SUFFIX
from strategies.aggregation import RULE_NAMES, Contribution
from tests.aggregation_cases import (
    MIXED,
    RANK,
    SHAPES,
    Federation,
    dense_of_contribution,
    federations,
)

few = settings(max_examples=25, deadline=None)


def corruptions_of(contribution: Contribution) -> dict[str, Contribution]:
    arrays = dict(contribution.arrays)
    first = min(arrays)
    spoilt = arrays[first].copy()
    spoilt[0, 0] = np.inf
    return {
        "is missing": replace(
            contribution, arrays={n: a for n, a in arrays.items() if n != max(arrays)}
        ),
        "is not expected": replace(contribution, arrays={**arrays, "a stranger": arrays[first]}),
        "is float64": replace(contribution, arrays={**arrays, first: spoilt.astype(np.float64)}),
        "of shape": replace(contribution, arrays={**arrays, max(arrays): np.ones((1, 1), "f4")}),
        "are not finite": replace(contribution, arrays={**arrays, first: spoilt}),
        "used 0 records": replace(contribution, num_examples=0),
        "used -3 records": replace(contribution, num_examples=-3),
        "scale nan": replace(contribution, scale=float("nan")),
        "scale -1.0": replace(contribution, scale=-1.0),
        "rank 9 is out of range": replace(
            contribution,
            arrays={
                n: np.ones((9, a.shape[1]) if n.endswith(A_SUFFIX) else (a.shape[0], 9), "f4")
                for n, a in arrays.items()
            },
        ),
    }


@pytest.mark.parametrize("name", RULE_NAMES)
@pytest.mark.parametrize(
    "fault", corruptions_of(Contribution("x", 1, {"x": np.ones((1, 1), "f4")}))
)
def test_a_contribution_out_of_order_is_refused_by_name(name: str, fault: str) -> None:
    rule = MIXED.rule(name)
    good, *others = MIXED.contributions(rule, 1)
    bad = corruptions_of(good)[fault]
    with pytest.raises(ValueError, match=fault) as refusal:
        rule.aggregate(rule.initial_state(), 1, [bad, *others])
    assert "north" in str(refusal.value)


@pytest.mark.parametrize("name", RULE_NAMES)
def test_an_organization_that_contributes_twice_is_refused(name: str) -> None:
    rule = MIXED.rule(name)
    contributions = MIXED.contributions(rule, 1)
    with pytest.raises(ValueError, match="north, round 1: contributed twice"):
        rule.aggregate(rule.initial_state(), 1, [*contributions, contributions[0]])


@pytest.mark.parametrize("name", RULE_NAMES)
def test_a_round_without_contributions_is_refused(name: str) -> None:
    rule = MIXED.rule(name)
    with pytest.raises(ValueError, match="0 contributions are too few"):
        rule.aggregate(rule.initial_state(), 1, [])


# --- The size of an update ----------------------------------------------------------------------


@pytest.mark.parametrize("name", RULE_NAMES)
@few
@given(federation=federations())
def test_an_updates_norm_is_never_below_that_of_the_dense_update(
    name: str, federation: Federation
) -> None:
    rule, state = federation.rule(name), federation.rule(name).initial_state()
    for round in range(1, federation.rounds + 1):
        contributions = federation.contributions(rule, round)
        for contribution in contributions:
            update = dense_of_contribution(rule, state, contribution)
            norm = sum(float(np.sum(u**2)) for u in update.values()) ** 0.5
            claimed = rule.update_norm(state, round, contribution)
            assert claimed >= norm * (1 - 1e-6)
            if name == "ffa":
                assert claimed == pytest.approx(norm, rel=1e-6)
        state = rule.aggregate(state, round, contributions).state


@pytest.mark.parametrize("name", ["flora", "accumulators"])
def test_huge_parts_that_cancel_are_no_small_update(name: str) -> None:
    rule = MIXED.rule(name)
    contribution = MIXED.contributions(rule, 1)[0]
    arrays = {n: a.copy() for n, a in contribution.arrays.items()}
    for module in SHAPES:
        a, b = arrays[module + A_SUFFIX], arrays[module + B_SUFFIX]
        a[0], a[1:] = 1e15, 0
        a[1], b[:, 1] = a[0], -b[:, 0]
    hostile = replace(contribution, arrays=arrays)
    update = dense_of_contribution(rule, rule.initial_state(), hostile)
    assert not any(values.any() for values in update.values())
    assert rule.update_norm(rule.initial_state(), 1, hostile) > 1e15


@pytest.mark.parametrize(("name", "round"), [("alternating", 2), ("fedit", 1)])
def test_a_factor_cannot_grow_unseen_where_its_partner_is_zero(name: str, round: int) -> None:
    rule = MIXED.rule(name)
    contribution = MIXED.contributions(rule, round)[0]
    arrays = {
        n: np.full_like(a, 1e9 if n.endswith(A_SUFFIX) else 0)
        for n, a in contribution.arrays.items()
    }
    hostile = replace(contribution, arrays=arrays)
    update = dense_of_contribution(rule, rule.initial_state(), hostile)
    assert not any(values.any() for values in update.values())
    assert rule.update_norm(rule.initial_state(), round, hostile) > 1e9


@pytest.mark.parametrize("name", RULE_NAMES)
def test_the_norm_of_the_largest_float32_update_is_a_finite_number(name: str) -> None:
    rule = MIXED.rule(name)
    contribution = MIXED.contributions(rule, 1)[0]
    largest = {n: np.full_like(a, np.finfo(np.float32).max) for n, a in contribution.arrays.items()}
    norm = rule.update_norm(rule.initial_state(), 1, replace(contribution, arrays=largest))
    assert np.isfinite(norm)
    assert norm > 1e38


def test_flora_serves_a_row_of_1e38_beside_a_column_of_zeros_as_one_that_multiplies_safely() -> (
    None
):
    rule = MIXED.rule("flora")
    contribution = MIXED.contributions(rule, 1)[0]
    arrays = {
        n: np.full_like(a, 3e38 if n.endswith(A_SUFFIX) else 0)
        for n, a in contribution.arrays.items()
    }
    hostile = replace(contribution, arrays=arrays)
    state = rule.aggregate(rule.initial_state(), 1, [hostile]).state
    for pair in rule.adapter(state).values():
        activations = np.full(pair.shape.in_features, 1e3, np.float32)
        assert np.isfinite(pair.b @ (pair.a @ activations)).all()


def test_an_adapter_beyond_float32_is_refused() -> None:
    rule = MIXED.rule("ffa")
    contribution = replace(MIXED.contributions(rule, 1)[0], scale=1e9)
    largest = {n: np.full_like(a, 1e38) for n, a in contribution.arrays.items()}
    aggregate = rule.aggregate(rule.initial_state(), 1, [replace(contribution, arrays=largest)])
    with pytest.raises(ValueError, match="leave float32's range"):
        rule.adapter(aggregate.state)


# --- Plans --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "round", "trains"),
    [
        ("ffa", 1, "B"),
        ("ffa", 2, "B"),
        ("alternating", 1, "B"),
        ("alternating", 2, "A"),
        ("fedit", 1, "AB"),
        ("flora", 1, "AB"),
        ("accumulators", 1, "AB"),
    ],
)
def test_a_plan_trains_and_expects_the_same_factors(name: str, round: int, trains: str) -> None:
    rule = MIXED.rule(name)
    plan = rule.plan(round, 3)
    assert (plan.train_a, plan.train_b) == ("A" in trains, "B" in trains)
    assert plan.rank == 3
    expected = rule.expected_shapes(round, 3)
    assert len(expected) == len(trains) * len(SHAPES)
    for module, shape in SHAPES.items():
        if plan.train_a:
            assert expected[module + A_SUFFIX] == (3, shape.in_features)
        if plan.train_b:
            assert expected[module + B_SUFFIX] == (shape.out_features, 3)


@pytest.mark.parametrize("name", RULE_NAMES)
@pytest.mark.parametrize("rank", [0, -1, RANK + 1])
def test_a_rank_outside_the_runs_is_refused(name: str, rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} is out of range: expected 1 to"):
        MIXED.rule(name).plan(1, rank)


@pytest.mark.parametrize("name", ["flora", "accumulators"])
def test_a_fresh_pair_changes_nothing_and_differs_by_round_and_organization(name: str) -> None:
    rule = MIXED.rule(name)
    pairs = [
        rule.initial_pair(round, organization, 2)
        for round, organization in ((1, "north"), (2, "north"), (1, "south"))
    ]
    for pair in pairs:
        assert {m: factors.shape for m, factors in pair.items()} == SHAPES
        assert not any(factors.b.any() for factors in pair.values())
    assert len({pair["layers.0.q_proj"].a.tobytes() for pair in pairs}) == 3


@pytest.mark.parametrize("name", ["ffa", "alternating", "fedit"])
def test_a_rule_that_trains_in_place_has_no_fresh_pair(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} trains the received adapter itself"):
        MIXED.rule(name).initial_pair(1, "north", 2)
