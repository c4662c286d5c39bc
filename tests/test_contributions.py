"""Scores of a round: what each update was worth, and nothing for what is none or is another's."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llm.factors import arrays_from_adapter
from strategies.aggregation import RULES, AggregationSettings, Contribution
from strategies.contributions import (
    ScoredRound,
    ScoreLimits,
    first_order,
    leave_one_out,
    score_table,
)
from strategies.scores import micro_nats
from tests.aggregation_cases import MIXED, SHAPES, federations
from tests.chain_samples import digest

BOUND = 5.0
LIMITS = ScoreLimits(0.0, BOUND)
#: A few rounds each; several processes may share the processor.
few = settings(max_examples=25, deadline=None)


def scored_round(federation, name="ffa"):
    rule = federation.rule(name)
    return ScoredRound(rule, rule.initial_state(), 1, federation.contributions(rule, 1))


def with_more(scored, *more):
    return ScoredRound(scored.rule, scored.state, scored.round, [*scored.accepted, *more])


def distance_loss(scored, seed=3):
    """A loss with its minimum at some adapter: half the squared distance from it."""
    rng = np.random.default_rng(seed)
    wanted = {
        name: array + rng.normal(scale=0.2, size=array.shape)
        for name, array in scored.adapter(scored.accepted).items()
    }

    def loss(adapter):
        return 0.5 * sum(float(np.sum((adapter[n] - wanted[n]) ** 2)) for n in sorted(wanted))

    return loss


def size_loss(adapter):
    """A loss for adapters of any rank."""
    return sum(float(np.sum(np.abs(array))) for array in adapter.values()) / 100


def by_hand(scored, loss, sent=None):
    """Loss of the rule's own aggregate of what was sent, or of other updates."""
    state = scored.rule.aggregate(scored.state, scored.round, sent or scored.accepted).state
    return loss(arrays_from_adapter(scored.rule.adapter(state)))


def score_by_hand(scored, loss, organization):
    """The score as documented: with zeros in the update's place, and all weights as they were."""
    silenced = [
        copy_of(c, c.organization, factor=0.0) if c.organization == organization else c
        for c in scored.accepted
    ]
    return micro_nats(min(BOUND, max(0.0, by_hand(scored, loss, silenced) - by_hand(scored, loss))))


def copy_of(contribution, name, factor=1.0, examples=None):
    arrays = {key: np.float32(factor) * array for key, array in contribution.arrays.items()}
    return Contribution(name, examples or contribution.num_examples, arrays, contribution.scale)


@few
@given(federations(fewest=2))
def test_a_score_is_the_loss_with_the_update_silenced_less_the_loss_with_all_and_cut_off(
    federation,
):
    scored = scored_round(federation)
    loss = distance_loss(scored)
    expected = {
        c.organization: score_by_hand(scored, loss, c.organization) for c in scored.accepted
    }
    assert leave_one_out(scored, loss, LIMITS) == expected


@few
@given(federations(fewest=2), st.integers(1, 10_000))
def test_zeros_change_nobodys_score(federation, examples):
    scored = scored_round(federation)
    assume(len(scored.accepted) > 2)
    assume("zeros" not in {c.organization for c in scored.accepted})
    loss = distance_loss(scored)
    zeros = copy_of(scored.accepted[0], "zeros", factor=0.0, examples=examples)
    scores = leave_one_out(with_more(scored, zeros), loss, LIMITS)
    assert scores == leave_one_out(scored, loss, LIMITS) | {"zeros": 0}


def test_noise_that_shortens_a_step_which_went_too_far_earns_nothing():
    rule = MIXED.rule("ffa")
    shapes = rule.expected_shapes(1, 5)
    ones = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    honest = [Contribution(name, 10, ones) for name in "abc"]
    rng = np.random.default_rng(0)
    arrays = {n: np.float32(rng.choice([-1.0, 1.0], size=shape)) for n, shape in shapes.items()}
    scored = ScoredRound(
        rule, rule.initial_state(), 1, [*honest, Contribution("noise", 10, arrays)]
    )

    def loss(adapter):
        # Least halfway: every update that points elsewhere makes the mean better.
        steps = [adapter[name] - 0.5 for name in shapes]
        return sum(float(np.mean(step.astype(np.float64) ** 2)) for step in steps)

    without, with_all = (loss(scored.adapter(sent)) for sent in (honest, scored.accepted))
    assert without > with_all
    assert leave_one_out(scored, loss, LIMITS)["noise"] == 0


@few
@given(federations(fewest=2), st.data())
def test_a_copy_changes_nobody_elses_score_and_halves_the_one_it_copies(federation, data):
    scored = scored_round(federation)
    loss = distance_loss(scored)
    alone = leave_one_out(scored, loss, LIMITS)
    victim = data.draw(st.sampled_from(list(scored.accepted)))
    name = data.draw(st.sampled_from([f" {victim.organization}", f"{victim.organization}~"]))
    assume(name not in alone)
    # A larger copy, or one that claims fewer records, does not stand for the original.
    copy = copy_of(victim, name, factor=data.draw(st.floats(1.0, 3.0)))
    scores = leave_one_out(with_more(scored, copy), loss, LIMITS)
    share = alone[victim.organization] // 2
    expected = alone | {victim.organization: share, name: share}
    # An equal copy may stand for the original under its own name, which sums in another order.
    assert scores.keys() == expected.keys()
    assert all(abs(scores[n] - expected[n]) <= 1 for n in expected)
    assert scores[name] == scores[victim.organization]


@few
@given(federations(fewest=2), st.integers(2, 4))
def test_one_that_splits_itself_is_worth_no_more_in_all_than_it_was_alone(federation, parts):
    scored = scored_round(federation)
    loss = distance_loss(scored)
    alone = leave_one_out(scored, loss, LIMITS)
    one, *others = scored.accepted
    noise = np.random.default_rng(5)
    twins = [one]
    for part in range(1, parts):
        arrays = {
            key: array + np.float32(1e-3) * noise.normal(size=array.shape).astype(np.float32)
            for key, array in one.arrays.items()
        }
        twins.append(Contribution(f"{one.organization}/{part}", 1, arrays, one.scale))
    assume(len({c.organization for c in [*twins, *others]}) == parts + len(others))
    everyone = ScoredRound(scored.rule, scored.state, 1, [*twins, *others])
    scores = leave_one_out(everyone, loss, LIMITS)
    if one.num_examples == 1:
        # Then the twins stand beside it as equals, and the smallest of them for all.
        return
    assert sum(scores[c.organization] for c in twins) <= alone[one.organization]
    assert all(scores[c.organization] == alone[c.organization] for c in others)


@few
@given(federations(fewest=1), st.floats(0, 2e-4), st.integers(1, 1000))
def test_an_update_of_nearly_nothing_earns_exactly_nothing(federation, factor, examples):
    scored = scored_round(federation)
    assume(len(scored.accepted) > 2)
    names = {c.organization for c in scored.accepted}
    assume("idle" not in names)
    smallest = min(
        scored.accepted,
        key=lambda c: scored.rule.update_norm(scored.state, 1, c),
    )
    idle = copy_of(smallest, "idle", factor=factor, examples=examples)

    # Every adapter is worse than the one that all make: whoever is left out seems worth a lot.
    best = scored.adapter(scored.accepted)

    def loss(adapter):
        return float(any(not np.array_equal(adapter[n], best[n]) for n in adapter))

    scores = leave_one_out(with_more(scored, idle), loss, LIMITS)
    assert scores == dict.fromkeys(names, micro_nats(1.0)) | {"idle": 0}


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_order_of_the_contributions_changes_no_score(name):
    scored = scored_round(MIXED, name)
    reverse = ScoredRound(scored.rule, scored.state, 1, scored.accepted[::-1])
    scores = leave_one_out(scored, size_loss, LIMITS)
    assert leave_one_out(reverse, size_loss, LIMITS) == scores
    assert list(scores) == sorted(scores)


def test_every_update_that_points_downhill_earns_however_little_beside_the_others():
    rule = MIXED.rule("ffa")
    shapes = rule.expected_shapes(1, 5)
    steps = {"a": 0.01, "b": 0.1, "c": 1.0}
    sent = [
        Contribution(name, 10, {n: np.full(shape, step, np.float32) for n, shape in shapes.items()})
        for name, step in steps.items()
    ]
    # Unlike one another: each has a part of its own, uphill nowhere.
    for k, contribution in enumerate(sent):
        for array in contribution.arrays.values():
            array.reshape(-1)[k :: len(sent)] = 0.0

    def loss(adapter):
        return -sum(float(np.sum(adapter[n].astype(np.float64))) for n in shapes)

    scored = ScoredRound(rule, rule.initial_state(), 1, sent)
    scores = leave_one_out(scored, loss, ScoreLimits(0.0, 1000.0))
    assert 0 < scores["a"] < scores["b"] < scores["c"]


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_is_scored_by_running_it_with_zeros_in_an_updates_place(name):
    scored = scored_round(MIXED, name)
    for organization, score in leave_one_out(scored, size_loss, LIMITS).items():
        assert score == score_by_hand(scored, size_loss, organization)


def test_a_round_asks_for_one_loss_more_than_it_has_updates():
    scored = scored_round(MIXED)
    asked = []
    leave_one_out(scored, lambda adapter: asked.append(adapter) or 0.0, LIMITS)
    assert len(asked) == len(scored.accepted) + 1


def test_where_copies_leave_too_few_for_the_rule_all_are_weighed_and_silenced_together():
    settings = AggregationSettings(rank=5, alpha=8.0, robust="trimmed-mean", byzantine=1)
    rule = RULES["ffa"](settings, SHAPES)
    contributions = MIXED.contributions(rule, 1)[:2]
    copied = [*contributions, copy_of(contributions[0], "zz")]
    scored = ScoredRound(rule, rule.initial_state(), 1, copied)
    best, before = scored.adapter(copied), scored.adapter(())

    def loss(adapter):
        kinds = {0.4: best, 1.0: before}
        return next(x for x, a in kinds.items() if all(np.array_equal(adapter[n], a[n]) for n in a))

    # The median of two copies and another is the copy: silencing the other changes nothing,
    # silencing them all.
    scores = leave_one_out(scored, loss, LIMITS)
    one, other, _ = (c.organization for c in copied)
    assert scores == {one: 300_000, other: 0, "zz": 300_000}


def test_an_only_contribution_is_worth_what_it_changes():
    scored = scored_round(MIXED)
    only = ScoredRound(scored.rule, scored.state, 1, scored.accepted[:1])
    loss = distance_loss(only)
    gain = loss(only.adapter(())) - loss(only.adapter(only.accepted))
    assert gain > 0
    scores = leave_one_out(only, loss, ScoreLimits(0.0, 1000.0))
    assert scores == {scored.accepted[0].organization: micro_nats(gain)}


def test_a_round_without_contributions_asks_for_no_loss():
    rule = MIXED.rule("ffa")
    empty = ScoredRound(rule, rule.initial_state(), 1, ())
    assert leave_one_out(empty, lambda _: pytest.fail("asked"), LIMITS) == {}


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_adapter_without_a_finite_loss_makes_nobody_a_profit_from_it(bad):
    scored = scored_round(MIXED)
    hostile, *rest = scored.accepted
    nobody = dict.fromkeys(sorted(c.organization for c in scored.accepted), 0)
    silenced = [copy_of(hostile, hostile.organization, factor=0.0), *rest]
    without, best = (scored.adapter(sent) for sent in (silenced, scored.accepted))

    def same(adapter, other):
        return all(np.array_equal(adapter[n], other[n]) for n in adapter)

    def broken_by_one(adapter):
        return 0.5 if same(adapter, without) else bad

    assert leave_one_out(scored, broken_by_one, LIMITS) == nobody

    def broken_unless_all_take_part(adapter):
        return 0.5 if same(adapter, best) else bad

    scores = leave_one_out(scored, broken_unless_all_take_part, LIMITS)
    assert scores == dict.fromkeys(nobody, micro_nats(BOUND))


def test_an_aggregate_beyond_float32_counts_as_the_adapter_before_the_round():
    scored = scored_round(MIXED)
    hostile = copy_of(scored.accepted[0], "hostile")
    arrays = {key: np.full_like(array, 3e38) for key, array in hostile.arrays.items()}
    scored = with_more(scored, Contribution("hostile", 10**6, arrays, scale=10.0))
    before = scored.adapter(())
    assert all(np.array_equal(before[n], a) for n, a in scored.adapter(scored.accepted).items())
    scores = leave_one_out(scored, distance_loss(scored_round(MIXED)), LIMITS)
    assert scores["hostile"] == 0


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_that_bounds_nothing_is_refused(bound):
    with pytest.raises(ValueError, match="score bound"):
        ScoreLimits(0.0, bound)


@pytest.mark.parametrize("tolerance", [-1e-9, math.inf, math.nan])
def test_a_tolerance_that_is_no_distance_is_refused(tolerance):
    with pytest.raises(ValueError, match="score tolerance"):
        ScoreLimits(tolerance, BOUND)


@few
@given(federations(fewest=2), st.floats(0.0, 1.0))
def test_the_tolerance_is_taken_off_every_gain(federation, tolerance):
    scored = scored_round(federation)
    loss = distance_loss(scored)
    full = leave_one_out(scored, loss, ScoreLimits(0.0, 1000.0))
    reduced = leave_one_out(scored, loss, ScoreLimits(tolerance, 1000.0))
    for organization, score in full.items():
        # Either is rounded to whole micro-nats.
        expected = max(0.0, score - 1e6 * tolerance)
        if score < 1e9:
            assert abs(reduced[organization] - expected) <= 1
        else:
            # A gain beyond the bound may be beyond it still with the tolerance taken off.
            assert expected - 1 <= reduced[organization] <= score


@given(st.floats(allow_nan=False), st.floats(0.0, 1.0), st.floats(0.0, 10.0))
def test_gains_that_lie_close_have_scores_that_lie_as_close(gain, tolerance, apart):
    limits = ScoreLimits(tolerance, BOUND)
    assert abs(limits.score(gain + apart) - limits.score(gain)) <= apart * (1 + 1e-9) + 1e-9


def test_a_contribution_that_the_rule_does_not_admit_is_refused():
    scored = scored_round(MIXED)
    stranger = Contribution("stranger", 1, {"x": np.zeros((1, 1), np.float32)})
    with pytest.raises(ValueError, match="stranger"):
        leave_one_out(with_more(scored, stranger), size_loss, LIMITS)


@pytest.mark.parametrize("name", ["ffa", "alternating", "fedit"])
@few
@given(federation=federations(fewest=2), seed=st.integers(0, 99))
def test_for_a_loss_without_curvature_the_first_order_estimate_is_leave_one_out(
    name, federation, seed
):
    scored = scored_round(federation, name)
    rng = np.random.default_rng(seed)
    slope = {n: rng.normal(size=a.shape) for n, a in scored.adapter(()).items()}

    def loss(adapter):
        return sum(float(np.sum(slope[n] * adapter[n].astype(np.float64))) for n in slope)

    exact = leave_one_out(scored, loss, ScoreLimits(0.0, 1000.0))
    estimate = first_order(scored, lambda _: slope, ScoreLimits(0.0, 1000.0))
    assert exact.keys() == estimate.keys()
    assert all(abs(exact[n] - estimate[n]) <= 2 for n in exact)


def test_the_first_order_estimate_of_copies_and_of_nothing_is_that_of_leave_one_out():
    scored = scored_round(MIXED)
    best = scored.adapter(scored.accepted)
    # Downhill along the update of the one, as far as the others go elsewhere.
    north = scored.accepted[0].arrays
    slope = {n: -north[n] if n in north else np.zeros_like(a) for n, a in best.items()}
    alone = first_order(scored, lambda _: slope, ScoreLimits(0.0, 1000.0))
    name = max(alone, key=lambda n: alone[n])
    assert alone[name] > 0
    victim = next(c for c in scored.accepted if c.organization == name)
    more = [copy_of(victim, "copy"), copy_of(victim, "nothing", factor=0.0)]
    scores = first_order(with_more(scored, more[0]), lambda _: slope, ScoreLimits(0.0, 1000.0))
    assert scores == alone | dict.fromkeys([name, "copy"], alone[name] // 2)
    assert (
        first_order(with_more(scored, *more), lambda _: slope, ScoreLimits(0.0, 1000.0))["nothing"]
        == 0
    )


@pytest.mark.parametrize("name", ["flora", "accumulators"])
def test_an_adapter_that_changes_its_shape_has_no_first_order_estimate(name):
    with pytest.raises(ValueError, match="keeps its shape"):
        first_order(scored_round(MIXED, name), lambda _: {}, LIMITS)


def test_who_declined_or_was_rejected_has_the_score_0():
    table = score_table(
        {"b": 5},
        ["c", "a", "b"],
        task=digest("task"),
        round=2,
        validation=digest("rows"),
        method="leave-one-out",
    )
    assert table.entries == (("a", 0), ("b", 5), ("c", 0))
    with pytest.raises(ValueError, match="'d' has a score"):
        score_table(
            {"d": 1},
            ["a"],
            task=digest("task"),
            round=2,
            validation=digest("rows"),
            method="leave-one-out",
        )
