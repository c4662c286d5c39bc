"""Isolated adapters: each made of one organization's data, and left away without a trace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockchain.unlearning_messages import Guarantee
from client_app.receipt_check import check_receipt
from llm.factors import B_SUFFIX, LinearShape
from strategies.aggregation import AggregationSettings, Contribution, IsolatedFfa
from tests.flower_messages import flower_task
from tests.foedus_command import foedus
from tests.test_exact_replay import drawn_first_in, home, model, never_there, runs
from tests.test_fast_unlearning import trained_in

__all__ = ["flower_task", "foedus", "home", "model"]

SHAPES = {
    "base.q": LinearShape(in_features=6, out_features=5),
    "base.v": LinearShape(in_features=7, out_features=3),
}
NAMES = ("east", "north", "south")


def rule(members=NAMES, **changes):
    agreed = AggregationSettings(**{"rank": 4, "alpha": 8.0, "seed": 3, **changes})
    return IsolatedFfa(agreed, SHAPES, members)


def update(generator, rank=4):
    return {
        module + B_SUFFIX: generator.normal(size=(shape.out_features, rank)).astype(np.float32)
        for module, shape in SHAPES.items()
    }


def after(isolated, rounds):
    state = isolated.initial_state()
    for number, contributions in enumerate(rounds, start=1):
        state = isolated.aggregate(state, number, contributions).state
    return state


@st.composite
def histories(draw):
    """Rounds to which some organizations contributed, each some records at some rank."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [
        [
            Contribution(name, draw(st.integers(1, 40)), update(generator, draw(st.integers(1, 4))))
            for name in draw(st.sets(st.sampled_from(NAMES), min_size=1))
        ]
        for _ in range(draw(st.integers(1, 4)))
    ]


@settings(max_examples=40)
@given(histories(), st.sampled_from(NAMES), st.sampled_from((1.0, 0.4)))
def test_without_one_the_rest_has_the_bits_of_a_run_that_never_had_it(rounds, leaver, cap):
    everybody = rule(weight_cap=cap)
    state = after(everybody, rounds).to_arrays()
    stay = [name for name in NAMES if name != leaver]
    left = rule(stay, weight_cap=cap).restore(state)
    alone = [[c for c in contributions if c.organization != leaver] for contributions in rounds]
    never = after(rule(stay, weight_cap=cap), [one for one in alone if one])
    assert left.arrays.keys() == never.arrays.keys()
    assert all(left.arrays[n].tobytes() == never.arrays[n].tobytes() for n in never.arrays)


@settings(max_examples=40)
@given(histories())
def test_the_adapter_is_the_sum_of_all_weighted_by_the_records_used(rounds):
    isolated = rule()
    state = after(isolated, rounds)
    used = dict.fromkeys(NAMES, 0)
    own = {name: np.zeros((5, 4)) for name in NAMES}
    for contribution in (one for contributions in rounds for one in contributions):
        used[contribution.organization] += contribution.num_examples
        step = contribution.arrays["base.q" + B_SUFFIX]
        own[contribution.organization][:, : step.shape[1]] += step
    total = sum(used.values())
    expected = sum(used[name] / total * own[name] for name in NAMES)
    np.testing.assert_allclose(isolated.layer(state, "base.q").b, expected, rtol=1e-12, atol=1e-12)


def test_nobody_s_adapter_changes_nothing():
    assert not rule().layer(rule().initial_state(), "base.q").b.any()


def test_a_state_that_was_altered_is_refused():
    generator = np.random.default_rng(1)
    state = after(rule(), [[Contribution("east", 3, update(generator))]]).to_arrays()
    name = next(n for n in state if n.endswith("/east") and not n.startswith("examples"))
    corrupted = {
        "missing": {n: a for n, a in state.items() if n != name},
        "of shape": {**state, name: state[name][:, :2]},
        "not expected": {**state, "base.other" + B_SUFFIX + "/east": state[name]},
        "whole number": {**state, "examples/east": np.full((1, 1), 1.5)},
    }
    rule().restore(state)
    for said, arrays in corrupted.items():
        with pytest.raises(ValueError, match=said):
            rule().restore(arrays)


def test_a_robust_statistic_has_nothing_to_hold_an_adapter_against():
    with pytest.raises(ValueError, match="isolation with robust statistic 'trimmed-mean'"):
        rule(robust="trimmed-mean")


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("flower_task")
@pytest.mark.parametrize(
    "home", [{"isolation": True, "rounds": 2, "participation": "learn"}], indirect=True, ids=[""]
)
def test_whoever_leaves_an_isolated_run_is_taken_out_without_training(home, model, tmp_path):
    home.train()
    request = home.ask("--org", "south", "--withdraw", "--yes")
    grid = home.carry_out()
    assert [trained_in(grid, number) for number in (1, 2)] == [set(), set()]

    stored = home.chain.unlearning.request_of(request)
    assert stored.completion.guarantee is Guarantee.EXACT_ISOLATED
    receipt = home.receipt(request)
    check_receipt(receipt, home.chain)
    assert (receipt.evidence.label, receipt.evidence.rounds) == ("EXACT_ISOLATED", [1, 2])
    changes = {"isolation": True, "rounds": 2, "organizations": "east,north"}
    expected = never_there(home, model, tmp_path, {}, **changes)
    assert home.now.manifest(1)["state"] == expected[2]

    # What was left away is gone on both sides, the others keep what their own adapters are made of.
    for archive in runs(home.settings.home_path):
        assert home.failed(archive) == []
    left = {
        name: sum(1 for _ in folder.glob("tasks/*/openings/*.safetensors"))
        for name in NAMES
        for folder in (home.settings.home_path / "organizations" / name,)
    }
    assert left == {"east": 2, "north": 2, "south": 0}

    # A record that is forgotten after that goes back before all that was left away.
    record = drawn_first_in(home.settings, "north", 2)
    request = home.ask("--org", "north", "--records", record)
    home.carry_out()
    assert home.receipt(request).evidence.label == "EXACT_REPLAY"
    apart = never_there(home, model, tmp_path / "apart", {"north": [record]}, **changes)
    assert home.states() == apart
    for archive in runs(home.settings.home_path):
        assert home.failed(archive) == []
