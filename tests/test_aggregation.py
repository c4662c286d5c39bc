"""Every rule against the mean update, and the rules' mutants, which this suite must catch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from llm.factors import A_SUFFIX, B_SUFFIX
from strategies.aggregation import (
    RULE_NAMES,
    RULES,
    Aggregate,
    AggregationRule,
    AggregationState,
    Contribution,
    adapter_distance,
    without_organization,
)
from strategies.aggregation.accumulators import Accumulators
from strategies.aggregation.alternating import Alternating
from strategies.aggregation.ffa import Ffa
from strategies.aggregation.flora import Flora
from strategies.aggregation.state import ExactFactors
from tests.aggregation_cases import (
    MIXED,
    RANK,
    SHAPES,
    Federation,
    dense,
    dense_of_contribution,
    distance,
    exact_factors,
    federations,
    mean_update,
    target_distances,
)

EXACT_RULES = ("ffa", "alternating", "flora")
ROUNDING = 1e-12
few = settings(max_examples=25, deadline=None)


def one_round(rule: AggregationRule, federation: Federation = MIXED) -> Aggregate:
    return rule.aggregate(rule.initial_state(), 1, federation.contributions(rule, 1))


def same_bits(first: AggregationState, second: AggregationState) -> bool:
    return first.to_arrays().keys() == second.to_arrays().keys() and all(
        array.tobytes() == second.arrays[name].tobytes() for name, array in first.arrays.items()
    )


@pytest.mark.parametrize("name", EXACT_RULES)
@few
@given(federation=federations())
def test_exact_rules_reach_the_mean_update_in_every_round(
    name: str, federation: Federation
) -> None:
    for missed, declared in target_distances(federation.rule(name), federation):
        assert missed < ROUNDING
        assert declared == 0.0


@pytest.mark.parametrize("name", ["fedit", "accumulators"])
@few
@given(federation=federations())
def test_approximate_rules_miss_the_mean_update_by_just_what_they_declare(
    name: str, federation: Federation
) -> None:
    for missed, declared in target_distances(federation.rule(name), federation):
        assert missed == pytest.approx(declared, rel=1e-6, abs=ROUNDING)


def test_averaging_the_factors_separately_misses_the_mean_update() -> None:
    assert all(missed > 0.09 for missed, _ in target_distances(MIXED.rule("fedit"), MIXED))


def test_accumulators_are_exact_while_their_rank_holds_all_rounds() -> None:
    roomy = replace(MIXED.settings, accumulator_rank=MIXED.rounds * RANK)
    rule = Accumulators(roomy, SHAPES)
    assert all(missed < ROUNDING for missed, _ in target_distances(rule, MIXED))


def test_accumulators_discard_something_once_their_rank_is_full() -> None:
    (_, first), (_, second), *_ = target_distances(MIXED.rule("accumulators"), MIXED)
    assert first < ROUNDING
    assert 1e-3 < second < 1.0


def test_accumulators_keep_the_best_approximation_of_their_rank() -> None:
    rule = MIXED.rule("accumulators")
    state = rule.initial_state()
    total = {m: np.zeros((s.out_features, s.in_features)) for m, s in SHAPES.items()}
    for round in (1, 2):
        alone = [c for c in MIXED.contributions(rule, round) if c.organization == "north"]
        before, update = dense(rule, state), dense_of_contribution(rule, state, alone[0])
        state = rule.aggregate(state, round, alone).state
        total = {m: before[m] + update[m] for m in total}
    for module, reached in dense(rule, state).items():
        left_out = np.linalg.svd(total[module], compute_uv=False)[RANK:]
        missed = np.linalg.norm(reached - total[module])
        assert missed == pytest.approx(np.linalg.norm(left_out), rel=1e-6, abs=1e-9)


# --- Mutants: faults seen in public code, put into a rule that has none -------------------------


class ScaleLeftOut(Flora):
    """Stacks at scale one."""

    def _scale_ratio(self, contribution: Contribution) -> float:
        return super()._scale_ratio(contribution) / self.settings.scale


class OwnScaleLeftOut(Ffa):
    """Takes every organization's scale for the run's."""

    def _scale_ratio(self, contribution: Contribution) -> float:
        return 1.0


class NestedRanksAveragedNaively(Ffa):
    """Holds alpha / r_k to be each organization's scale and averages B as if it were the run's."""

    def _scale_ratio(self, contribution: Contribution) -> float:
        rank = contribution.arrays["layers.0.q_proj" + B_SUFFIX].shape[1]
        return super()._scale_ratio(contribution) * rank / self.settings.rank


class OneOrganizationDividedByCount(Ffa):
    """A misspelled variable: the last update over the number of updates."""

    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        aggregate = super().aggregate(state, round, contributions)
        last = contributions[-1]
        arrays = dict(state.arrays)
        for name, step in last.arrays.items():
            arrays[name] = arrays[name].copy()
            arrays[name][:, : step.shape[1]] += step / len(contributions)
        return replace(aggregate, state=AggregationState(arrays))


class EqualWeights(Alternating):
    """Weighs every organization the same."""

    def _weights(self, contributions: Sequence[Contribution]) -> dict[str, float]:
        return {c.organization: 1 / len(contributions) for c in contributions}


class WeightsOfOthers(Flora):
    """Gives the weights out in the wrong order."""

    def _weights(self, contributions: Sequence[Contribution]) -> dict[str, float]:
        weights = super()._weights(contributions)
        return dict(zip(weights, reversed(weights.values()), strict=True))


class RoundReplaced(Ffa):
    """Forgets what the rounds before had reached."""

    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        return super().aggregate(self.initial_state(), round, contributions)


class SquareLayersTransposed(Flora):
    """Takes the product for its transpose where the shapes cannot tell."""

    def layer(self, state: AggregationState, module: str) -> ExactFactors:
        pair, shape = super().layer(state, module), SHAPES[module]
        square = shape.in_features == shape.out_features
        return ExactFactors(a=pair.b.T, b=pair.a.T) if square else pair


class ErrorForgotten(Accumulators):
    """Discards without saying so."""

    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        return replace(super().aggregate(state, round, contributions), error=None)


MUTANTS = [
    ScaleLeftOut,
    OwnScaleLeftOut,
    NestedRanksAveragedNaively,
    OneOrganizationDividedByCount,
    EqualWeights,
    WeightsOfOthers,
    RoundReplaced,
    SquareLayersTransposed,
    ErrorForgotten,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_faulty_rule_is_told_from_a_sound_one(mutant: type[AggregationRule]) -> None:
    faulty = target_distances(mutant(MIXED.settings, SHAPES), MIXED)
    sound = target_distances(MIXED.rule(mutant.name), MIXED)
    assert max(abs(missed - declared) for missed, declared in sound) < 1e-9
    assert max(abs(missed - declared) for missed, declared in faulty) > 0.05


# --- What every rule keeps ----------------------------------------------------------------------


@pytest.mark.parametrize("name", RULE_NAMES)
@few
@given(federation=federations(), random=st.randoms(use_true_random=False))
def test_the_order_of_the_contributions_changes_no_bit(
    name: str, federation: Federation, random: Random
) -> None:
    rule = federation.rule(name)
    contributions = federation.contributions(rule, 1)
    shuffled = list(contributions)
    random.shuffle(shuffled)
    first = rule.aggregate(rule.initial_state(), 1, contributions)
    second = rule.aggregate(rule.initial_state(), 1, shuffled)
    assert same_bits(first.state, second.state)
    assert first.weights == second.weights


@pytest.mark.parametrize("name", RULE_NAMES)
def test_one_organization_alone_gets_its_own_update(name: str) -> None:
    rule = MIXED.rule(name)
    state = rule.initial_state()
    alone = MIXED.contributions(rule, 1)[:1]
    reached = dense(rule, rule.aggregate(state, 1, alone).state)
    before = dense(rule, state)
    change = {module: after - before[module] for module, after in reached.items()}
    assert distance(change, dense_of_contribution(rule, state, alone[0])) < ROUNDING


@pytest.mark.parametrize("name", RULE_NAMES)
def test_the_same_update_from_everybody_is_the_mean_update(name: str) -> None:
    rule = MIXED.rule(name)
    state = rule.initial_state()
    one = MIXED.contributions(rule, 1)[0]
    copies = [replace(one, organization=f"copy {k}", num_examples=k + 1) for k in range(3)]
    reached = dense(rule, rule.aggregate(state, 1, copies).state)
    before = dense(rule, state)
    change = {module: after - before[module] for module, after in reached.items()}
    assert distance(change, dense_of_contribution(rule, state, one)) < ROUNDING


@pytest.mark.parametrize("name", RULE_NAMES)
def test_aggregation_changes_none_of_its_arguments(name: str) -> None:
    rule = MIXED.rule(name)
    state = one_round(rule).state
    contributions = MIXED.contributions(rule, 2)
    before = {n: a.copy() for n, a in state.arrays.items()}
    sent = [{n: a.copy() for n, a in c.arrays.items()} for c in contributions]
    rule.aggregate(state, 2, contributions)
    assert same_bits(AggregationState(before), state)
    for contribution, copy in zip(contributions, sent, strict=True):
        assert all(a.tobytes() == copy[n].tobytes() for n, a in contribution.arrays.items())


@pytest.mark.parametrize("name", RULE_NAMES)
def test_the_first_adapter_changes_nothing_and_is_one_peft_can_hold(name: str) -> None:
    rule = MIXED.rule(name)
    for module, pair in rule.adapter(rule.initial_state()).items():
        assert pair.rank >= 1
        assert pair.shape == SHAPES[module]
        assert not (pair.b @ pair.a).any()


@pytest.mark.parametrize("name", RULE_NAMES)
def test_the_adapter_is_the_state_rounded_once_and_of_one_rank(name: str) -> None:
    rule = MIXED.rule(name)
    state = one_round(rule).state
    exact, served = exact_factors(rule, state), rule.adapter(state)
    assert len({pair.rank for pair in served.values()}) == 1
    for module, pair in served.items():
        assert pair.a.tobytes() == exact[module].a.astype(np.float32).tobytes()
        assert pair.b.tobytes() == exact[module].b.astype(np.float32).tobytes()


@pytest.mark.parametrize("name", RULE_NAMES)
def test_a_state_survives_a_safetensors_file_bit_for_bit(name: str, tmp_path: Path) -> None:
    rule = MIXED.rule(name)
    for state in (rule.initial_state(), one_round(rule).state):
        save_file(state.to_arrays(), tmp_path / "state.safetensors")
        assert same_bits(rule.restore(load_file(tmp_path / "state.safetensors")), state)


@pytest.mark.parametrize("name", RULE_NAMES)
def test_a_state_that_is_not_the_rules_own_is_refused(name: str) -> None:
    rule = MIXED.rule(name)
    arrays = one_round(rule).state.to_arrays()
    first = min(arrays)
    corruptions = {
        "a name too many": {**arrays, "stranger": np.zeros((1, 1))},
        "a name too few": {n: a for n, a in arrays.items() if n != first},
        "a wrong shape": {**arrays, first: np.zeros((3, 4), arrays[first].dtype)},
        "a vector": {**arrays, first: arrays[first][0]},
        "a wrong dtype": {**arrays, first: arrays[first].astype(np.float16)},
        "a value that is not finite": {**arrays, first: np.full_like(arrays[first], np.nan)},
    }
    for corruption, corrupted in corruptions.items():
        with pytest.raises(ValueError, match=r"state '|state: '"):
            pytest.fail(f"{corruption} passed: {rule.restore(corrupted)}")


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


# --- Withdrawal ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ffa", "flora"])
@few
@given(federation=federations(fewest=2), data=st.data())
def test_taking_an_organizations_terms_out_leaves_the_mean_of_the_others(
    name: str, federation: Federation, data: st.DataObject
) -> None:
    leaver = data.draw(st.sampled_from(sorted(federation.organizations)))
    rule = federation.rule(name)
    rounds = [(r, federation.contributions(rule, r)) for r in range(1, federation.rounds + 1)]
    left = without_organization(rule, rounds, leaver)
    state = rule.initial_state()
    expected = dense(rule, state)
    for round, contributions in rounds:
        others = [c for c in contributions if c.organization != leaver]
        weights = rule.aggregate(state, round, others).weights
        assert sum(weights.values()) == pytest.approx(1)
        update = mean_update(rule, state, others, weights)
        expected = {m: expected[m] + update[m] for m in expected}
    assert distance(dense(rule, left), expected) < ROUNDING


@pytest.mark.parametrize(
    ("name", "robust"), [("alternating", "none"), ("fedit", "none"), ("ffa", "geometric-median")]
)
def test_terms_of_an_inseparable_rule_cannot_be_taken_out(name: str, robust: str) -> None:
    rule = RULES[name](replace(MIXED.settings, robust=robust), SHAPES)
    rounds = [(1, MIXED.contributions(rule, 1))]
    with pytest.raises(
        ValueError, match=f"{name} with robust statistic '{robust}' is not separable"
    ):
        without_organization(rule, rounds, "north")


def test_taking_out_an_organization_that_never_took_part_is_refused() -> None:
    rule = MIXED.rule("ffa")
    with pytest.raises(ValueError, match="'nobody' took part in no round"):
        without_organization(rule, [(1, MIXED.contributions(rule, 1))], "nobody")


# --- The distance between adapters --------------------------------------------------------------


def test_the_distance_of_two_adapters_is_that_of_their_dense_updates() -> None:
    rule = MIXED.rule("flora")
    first = one_round(rule).state
    second = rule.aggregate(first, 2, MIXED.contributions(rule, 2)).state
    expected = distance(dense(rule, second), dense(rule, first))
    given_ = adapter_distance(rule.adapter(second), rule.adapter(first))
    assert given_ == pytest.approx(expected, rel=1e-5)
    assert adapter_distance(rule.adapter(first), rule.adapter(first)) < 1e-14


def test_adapters_of_different_modules_have_no_distance() -> None:
    rule = MIXED.rule("ffa")
    adapter = rule.adapter(rule.initial_state())
    with pytest.raises(ValueError, match=r"only one of them has 'layers\.0\.down_proj'"):
        adapter_distance({m: p for m, p in adapter.items() if "down" not in m}, adapter)
