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

from llm.factors import B_SUFFIX
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


# --- Withdrawal ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ffa", "flora"])
@few
@given(federation=federations(fewest=2), data=st.data())
def test_taking_an_organizations_terms_out_leaves_the_others_as_they_weighed(
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
        weights = rule.aggregate(state, round, contributions).weights
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
