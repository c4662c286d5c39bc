"""Federations in small: non-square layers, unequal weights, ranks and scales, several rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from llm.factors import A_SUFFIX, B_SUFFIX, LinearShape
from strategies.aggregation import (
    RULES,
    AggregationRule,
    AggregationSettings,
    AggregationState,
    Contribution,
)
from strategies.aggregation.reproducible import Float64Array
from strategies.aggregation.state import ExactFactors

SHAPES = {
    "layers.0.q_proj": LinearShape(12, 12),
    "layers.0.k_proj": LinearShape(6, 12),
    "layers.0.up_proj": LinearShape(20, 12),
    "layers.0.down_proj": LinearShape(12, 20),
}
RANK = 5
Dense = dict[str, Float64Array]


@dataclass(frozen=True)
class Federation:
    """One run's settings and, for each organization, its rank, records used and own scale."""

    settings: AggregationSettings
    organizations: Mapping[str, tuple[int, int, float | None]]
    seed: int
    rounds: int

    def rule(self, name: str) -> AggregationRule:
        """Rule ``name`` with these settings."""
        return RULES[name](self.settings, SHAPES)

    def contributions(self, rule: AggregationRule, round: int) -> list[Contribution]:
        """What the organizations send in a round: random steps of the expected shapes."""
        rng = np.random.default_rng([self.seed, round])
        sent = []
        for organization, (rank, num_examples, scale) in self.organizations.items():
            arrays = {
                name: rng.normal(scale=0.3, size=shape).astype(np.float32)
                for name, shape in rule.expected_shapes(round, rank).items()
            }
            own = None if rule.name == "fedit" else scale
            sent.append(Contribution(organization, num_examples, arrays, own))
        return sent


#: The case of the examples: ranks 1 to 5, weights 1 to 40, two scales, a rank-5 run of alpha 8.
MIXED = Federation(
    AggregationSettings(rank=RANK, alpha=8.0, seed=7),
    {
        "north": (5, 40, None),
        "east": (2, 7, None),
        "south": (1, 1, 4.0),
        "west": (3, 13, 0.5),
    },
    seed=11,
    rounds=4,
)


@st.composite
def federations(draw: st.DrawFn, robust: str = "none", fewest: int = 1) -> Federation:
    """Any federation of up to seven organizations."""
    names = draw(
        st.lists(st.text(min_size=1, max_size=6), min_size=fewest, max_size=7, unique=True)
    )
    organization = st.tuples(
        st.integers(1, RANK), st.integers(1, 10_000), st.none() | st.floats(0.1, 8.0)
    )
    settings = AggregationSettings(
        rank=RANK,
        alpha=draw(st.floats(0.5, 64.0)),
        seed=draw(st.integers(0, 2**64 - 1)),
        weight_cap=draw(st.floats(0.05, 1.0)),
        robust=robust,
    )
    return Federation(
        settings,
        {name: draw(organization) for name in names},
        seed=draw(st.integers(0, 2**32 - 1)),
        rounds=draw(st.integers(1, 3)),
    )


def exact_factors(rule: AggregationRule, state: AggregationState) -> dict[str, ExactFactors]:
    """Whole adapter in float64."""
    return {module: rule.layer(state, module) for module in rule.shapes}


def dense(rule: AggregationRule, state: AggregationState) -> Dense:
    """Dense update of every layer: what the whole adapter does."""
    return {
        module: rule.settings.scale * (pair.b @ pair.a)
        for module, pair in exact_factors(rule, state).items()
    }


def dense_of_contribution(
    rule: AggregationRule, state: AggregationState, contribution: Contribution
) -> Dense:
    """Dense update one organization made, written out from what training does."""
    scale = rule.settings.scale if contribution.scale is None else contribution.scale
    updates = {}
    for module, pair in exact_factors(rule, state).items():
        a = contribution.arrays.get(module + A_SUFFIX)
        b = contribution.arrays.get(module + B_SUFFIX)
        if rule.plan(1, 1).on_top:
            assert a is not None
            assert b is not None
            updates[module] = scale * (b.astype(np.float64) @ a.astype(np.float64))
            continue
        new_a, new_b = pair.a.copy(), pair.b.copy()
        if a is not None:
            new_a[: a.shape[0]] += a
        if b is not None:
            new_b[:, : b.shape[1]] += b
        updates[module] = scale * (new_b @ new_a - pair.b @ pair.a)
    return updates


def mean_update(
    rule: AggregationRule,
    state: AggregationState,
    contributions: Sequence[Contribution],
    weights: Mapping[str, float],
) -> Dense:
    """The target: the weighted mean of the organizations' dense updates."""
    target = {m: np.zeros((s.out_features, s.in_features)) for m, s in rule.shapes.items()}
    for contribution in contributions:
        update = dense_of_contribution(rule, state, contribution)
        for module in target:
            target[module] += weights[contribution.organization] * update[module]
    return target


def distance(reached: Dense, target: Dense) -> float:
    """Relative Frobenius distance over all layers."""
    missed = sum(float(np.sum((reached[m] - target[m]) ** 2)) for m in target)
    norm = sum(float(np.sum(target[m] ** 2)) for m in target)
    return (missed / norm) ** 0.5


def target_distances(rule: AggregationRule, federation: Federation) -> list[tuple[float, float]]:
    """Run the rounds; each one's distance to the target, and the error the rule declared."""
    state, distances = rule.initial_state(), []
    for round in range(1, federation.rounds + 1):
        contributions = federation.contributions(rule, round)
        # The weights by hand, from the records used: the rule must not mark its own work.
        records = {c.organization: c.num_examples for c in contributions}
        weights = {name: count / sum(records.values()) for name, count in records.items()}
        if federation.settings.weight_cap < 1:
            weights = rule.aggregate(state, round, contributions).weights
        target = mean_update(rule, state, contributions, weights)
        before = dense(rule, state)
        aggregate = rule.aggregate(state, round, contributions)
        state = aggregate.state
        reached = {m: after - before[m] for m, after in dense(rule, state).items()}
        declared = aggregate.error.total if aggregate.error else 0.0
        distances.append((distance(reached, target), declared))
    return distances
