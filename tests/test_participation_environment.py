"""The environment that participation agents are trained and compared in."""

import hashlib
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import parallel_api_test, parallel_seed_test

from benchmarks.participation.calibrate import calibrate
from benchmarks.participation.environment import ParticipationEnvironment
from benchmarks.participation.equilibrium import TOLERATED, equilibrium
from benchmarks.participation.federation import (
    SPACE,
    Federation,
    FreeRider,
    Organization,
    Shock,
    Terms,
    draw_federation,
)
from benchmarks.participation.learn_tables import SHIPPED, TABLES, learn, read_tables
from benchmarks.participation.measures import interval, measure
from benchmarks.participation.optimum import central_optimum, value_per_nat
from benchmarks.participation.policies import (
    Fixed,
    Myopic,
    Planned,
    Random,
    Threshold,
    play,
)
from benchmarks.participation.response import Calibration, Noise, Response
from benchmarks.participation.scoring import Update, expected_gains, scores
from blockchain.canonical import canonical_json
from client_app.agent.action_space import ACTIONS, SKIP
from client_app.agent.off_policy import RecordedDecision, importance_sampling_value
from client_app.agent.situation import reward_of
from strategies.contributions import ScoreLimits

GWEI = 10**9
CALIBRATION = Calibration.load()
#: Gains as they are expected.
EXACT = replace(CALIBRATION, noise=Noise(0.0, 0.0))

few = settings(max_examples=25, deadline=None)
efforts = st.floats(0.01, 5.0)
progresses = st.floats(0.0, 30.0)
responses = st.builds(
    Response,
    form=st.sampled_from(["exponential", "power"]),
    initial=st.floats(2.0, 8.0),
    floor=st.floats(0.0, 1.0),
    scale=st.floats(0.01, 10.0),
    shape=st.floats(0.1, 1.0),
    redundancy=st.floats(0.2, 1.0),
)


def federation(size=5, pool=0.5, seed=0, **changes):
    drawn = draw_federation(np.random.default_rng(seed), size, pool, CALIBRATION)
    return replace(drawn, **changes)


def alike(names="ab", *, records=128, groups=(), pool=10**15):
    """Organizations that differ in name alone, and no luck."""
    everyone = tuple(
        Organization(name, 1.0, records, 30, 60 * GWEI, group=dict(groups).get(name, ""))
        for name in names
    )
    return Federation(everyone, Terms(pool), EXACT)


def played(federation, policy, seed=0):
    return play(ParticipationEnvironment(federation), policy, seed)


def earned(rounds, name):
    return sum(r.paid.get(name, 0) for r in rounds)


# The interface


@pytest.mark.filterwarnings("error")
def test_the_environment_passes_pettingzoos_test_of_its_interface():
    with_all = federation(shocks=(Shock(4, "organization-1"), Shock(3, "organization-2", 3)))
    parallel_api_test(ParticipationEnvironment(with_all), num_cycles=50)


def test_the_environment_passes_pettingzoos_test_of_seeds():
    parallel_seed_test(lambda: ParticipationEnvironment(federation(8)), num_cycles=50)


def test_the_same_seed_gives_the_same_task_and_another_seed_another():
    environment = ParticipationEnvironment(federation())
    tasks = [
        play(environment, Random(np.random.default_rng(1)), seed) for seed in (7, 7, 8)
    ]  # fmt: skip
    assert tasks[0] == tasks[1]
    assert tasks[0] != tasks[2]


def test_luck_does_not_depend_on_what_anybody_does():
    noisy = federation(seed=3)
    first = played(noisy, Fixed(3), 5)
    environment = ParticipationEnvironment(noisy)
    environment.reset(seed=5)
    environment.step(dict.fromkeys(environment.agents, SKIP))
    assert environment._random.random() == _after_one_round(noisy, 5)
    assert first[0].actions != dict.fromkeys(environment.agents, SKIP)


def _after_one_round(noisy, seed):
    environment = ParticipationEnvironment(noisy)
    environment.reset(seed=seed)
    environment.step(dict.fromkeys(environment.agents, 3))
    return environment._random.random()


def test_observations_lie_in_their_space_and_the_mask_is_the_budgets():
    environment = ParticipationEnvironment(federation(8))
    environment.reset(seed=0)
    while environment.agents:
        observed, _, _, _, _ = environment.step(Fixed(3).act(environment))
        for name, seen in observed.items():
            assert environment.observation_space(name).contains(
                {
                    "observation": seen["observation"],
                    "action_mask": seen["action_mask"].astype(np.int8),
                }
            )
            assert tuple(map(bool, seen["action_mask"])) == environment.views[name].permitted


def test_a_reward_is_known_a_round_later():
    environment = ParticipationEnvironment(alike())
    environment.reset(seed=0)
    environment.step({"a": 3, "b": 3})
    assert environment.views["a"].situation.outcomes == []
    environment.step({"a": 3, "b": 3})
    (known,) = environment.views["a"].situation.outcomes
    assert known.earned == environment.played[0].paid["a"] > 0


# The response


@few
@given(responses, progresses, efforts, efforts)
def test_more_effort_lets_the_loss_fall_further_and_each_more_adds_less(
    response, progress, effort, more
):
    falls = [
        response.loss(progress) - response.loss(progress + response.progress(e))
        for e in (effort, effort + more, effort + 2 * more)
    ]
    left = response.loss(progress) - response.floor
    for less, further in itertools.pairwise((0.0, *falls)):
        # Where next to nothing is left, two numbers may be rounded to one.
        assert less < further or (less == further and left - further < 1e-9)
    assert falls[1] - falls[0] >= falls[2] - falls[1] - 1e-9


@few
@given(responses, progresses, st.lists(efforts, min_size=2, max_size=6))
def test_what_each_adds_last_is_no_more_than_all_add_together(response, progress, sent):
    gains = expected_gains(sent, progress, response)
    whole = response.loss(progress) - response.loss(progress + response.progress(sum(sent)))
    assert (gains >= 0).all()
    assert gains.sum() <= whole + 1e-9


# What is paid


@few
@given(st.integers(0, 10_000), st.integers(3, 10), st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_a_round_never_pays_more_than_its_pool_and_nobody_exceeds_a_budget(seed, size, pool):
    drawn = federation(size, pool, seed)
    rounds = played(drawn, Random(np.random.default_rng(seed)), seed)
    assert all(sum(r.paid.values()) <= drawn.terms.pool for r in rounds)
    for organization in drawn.organizations:
        for start in range(0, drawn.terms.rounds, drawn.terms.epoch):
            epoch = rounds[start : start + drawn.terms.epoch]
            tokens = sum(organization.costs[r.actions[organization.name]] for r in epoch)
            assert organization.budget == 0 or tokens <= organization.budget


@few
@given(st.integers(0, 10_000))
def test_what_the_budget_does_not_permit_is_not_done_and_costs_nothing(seed):
    drawn = federation(6, seed=seed)
    environment, refused = ParticipationEnvironment(drawn), 0
    environment.reset(seed=seed)
    while environment.agents:
        barred = [n for n in environment.agents if not environment.views[n].permitted[3]]
        environment.step(dict.fromkeys(environment.agents, 3))
        last = environment.played[-1]
        assert all(last.actions[name] == SKIP and last.costs[name] == 0 for name in barred)
        refused += len(barred)
    assert refused > 0 or all(o.budget in (0, 4 * o.costs[-1]) for o in drawn.organizations)


def test_a_reward_is_what_was_paid_less_what_was_spent_in_units_of_full_effort():
    environment = ParticipationEnvironment(federation())
    environment.reset(seed=4)
    rewards = environment.step(dict.fromkeys(environment.agents, 2))[1]
    last = environment.played[-1]
    for name, organization in environment.organizations.items():
        action = last.actions[name]
        assert rewards[name] == reward_of(
            paid=last.paid.get(name, 0),
            cost=organization.costs[action],
            full_cost=organization.costs[-1],
            price=organization.price,
            failed=action != SKIP and name not in last.scores,
            penalty=environment.federation.terms.penalty,
        )


def test_a_lost_update_costs_what_it_cost_and_earns_nothing():
    unlucky = alike("abc")
    everyone = (replace(unlucky.organizations[0], dropout=1.0), *unlucky.organizations[1:])
    rounds = played(replace(unlucky, organizations=everyone), Fixed(3))
    assert earned(rounds, "a") == 0
    assert all(r.costs["a"] > 0 for r in rounds)
    without = played(replace(unlucky, organizations=unlucky.organizations[1:]), Fixed(3))
    assert [r.loss for r in rounds] == [r.loss for r in without]


def test_one_update_alone_changes_nothing_and_earns_nothing():
    rounds = played(alike(), Planned([{"a": 3, "b": SKIP}] * 12))
    assert earned(rounds, "a") == 0
    assert {r.loss for r in rounds} == {CALIBRATION.response.loss(0.0)}


# Those who do not play fair


@pytest.mark.parametrize("sends", ["zeros", "noise"])
def test_zeros_and_noise_earn_nothing_and_take_from_nobody(sends):
    honest = alike("abc")
    ridden = replace(honest, free_riders=(FreeRider("rider", sends),))
    fair, unfair = played(honest, Fixed(3)), played(ridden, Fixed(3))
    assert earned(unfair, "rider") == 0
    assert [earned(unfair, n) for n in "abc"] == [earned(fair, n) for n in "abc"]


def test_a_copy_shares_one_reward_with_the_copied_and_changes_nobody_elses():
    honest = alike("abc")
    ridden = replace(honest, free_riders=(FreeRider("rider", "copy", "a"),))
    fair, unfair = played(honest, Fixed(3)), played(ridden, Fixed(3))
    assert 0 <= earned(fair, "a") - (earned(unfair, "a") + earned(unfair, "rider")) <= 12 * GWEI**2
    assert earned(unfair, "rider") == earned(unfair, "a")
    others = [(earned(fair, n), earned(unfair, n)) for n in "bc"]
    assert all(abs(one - other) <= one * 1e-3 for one, other in others)
    assert [r.loss for r in fair] == [r.loss for r in unfair]


def test_a_copy_of_an_update_that_did_not_come_is_none():
    ridden = replace(alike("abc"), free_riders=(FreeRider("rider", "copy", "a"),))
    rounds = played(ridden, Planned([{"a": SKIP, "b": 3, "c": 3}] * 12))
    assert earned(rounds, "rider") == 0


@few
@given(st.floats(0.3, 3.0), st.booleans())
def test_an_organization_that_splits_in_two_earns_no_more(usefulness, near_duplicates):
    one = alike("abc")
    whole = replace(one.organizations[0], usefulness=usefulness)
    group = "a" if near_duplicates else ""
    halves = [
        replace(whole, name=name, records=whole.records // 2, group=group) for name in ("a1", "a2")
    ]
    rest = one.organizations[1:]
    fair = played(replace(one, organizations=(whole, *rest)), Fixed(3))
    split = played(replace(one, organizations=(*halves, *rest)), Fixed(3))
    assert [r.loss for r in split] == pytest.approx([r.loss for r in fair])
    assert earned(split, "a1") + earned(split, "a2") <= earned(fair, "a")


def test_scores_are_clipped_less_the_tolerance_and_in_whole_micro_nats():
    sent = {"a": Update(1.0, "a", 0.0), "b": Update(1e-9, "b", 0.0), "c": Update(2.0, "c", -9.0)}
    noise = Noise(1.0, 0.0)
    response = CALIBRATION.response
    found = scores(sent, 1.0, response, noise, ScoreLimits(0.001, 1.0))
    [gain, *_] = expected_gains([1.0, 1e-9, 2.0], 1.0, response)
    assert found == {"a": round((gain - 0.001) * 1e6), "b": 0, "c": 0}
    clipped = scores(sent, 1.0, response, noise, ScoreLimits(0.001, 0.002))
    assert clipped == {"a": 2_000, "b": 0, "c": 0}


# What happens on the way


def test_who_leaves_takes_its_part_along_and_plays_no_more():
    stays = alike("abc")
    environment = ParticipationEnvironment(replace(stays, shocks=(Shock(5, "b"),)))
    environment.reset(seed=0)
    for _ in range(3):
        environment.step(dict.fromkeys("abc", 3))
    before = environment.progress
    _, _, terminated, truncated, _ = environment.step(dict.fromkeys("abc", 3))
    step = before / 3
    assert terminated == {"a": False, "b": True, "c": False}
    assert not any(truncated.values())
    assert environment.agents == ["a", "c"]
    assert environment.progress == pytest.approx(4 * step * 2 / 3)
    environment.step({"a": 3, "c": 3})
    assert "b" not in environment.played[-1].paid


def test_a_price_jump_makes_the_same_effort_dearer():
    rounds = played(replace(alike(), shocks=(Shock(7, "a", 3),)), Fixed(3))
    assert [r.costs["a"] for r in rounds[6:]] == [3 * r.costs["a"] for r in rounds[:6]]
    assert [r.costs["b"] for r in rounds[6:]] == [r.costs["b"] for r in rounds[:6]]


# Policies and what they are held against


def test_the_optimum_is_that_of_trying_every_plan():
    short = draw_federation(np.random.default_rng(6), 2, 0.5, EXACT, plain=True)
    short = replace(short, terms=replace(short.terms, rounds=3))
    value = value_per_nat(short, 2.0)
    environment = ParticipationEnvironment(short)
    names = environment.possible_agents
    joint = [dict(zip(names, a, strict=True)) for a in itertools.product(range(4), repeat=2)]

    def welfare(plan):
        rounds = play(environment, Planned(plan), 0)
        fall = CALIBRATION.response.loss(0.0) - rounds[-1].loss
        return value * fall - sum(sum(r.costs.values()) for r in rounds)

    # The order of rounds does not matter to the loss.
    best = max(welfare(plan) for plan in itertools.combinations_with_replacement(joint, 3))
    found = central_optimum(short, value)
    assert welfare(found.rounds) == pytest.approx(found.welfare)
    assert found.welfare == pytest.approx(best, rel=2e-3)


def test_nobody_is_at_a_loss_in_the_optimum_without_loss():
    exact = draw_federation(np.random.default_rng(8), 3, 0.5, EXACT, plain=True)
    value = value_per_nat(exact, 2.0)
    free, bound = central_optimum(exact, value), central_optimum(exact, value, no_loss=True)
    assert bound.welfare <= free.welfare * (1 + 1e-3)
    for r in played(exact, Planned(bound.rounds)):
        assert all(r.paid.get(n, 0) >= r.costs[n] * (1 - 1e-3) for n in r.costs)


@pytest.mark.parametrize("drawn", [8, 9])
def test_nobody_gains_more_than_is_tolerated_by_leaving_an_equilibrium_alone(drawn):
    exact = draw_federation(np.random.default_rng(drawn), 3, 2.0, EXACT, plain=True)
    found = equilibrium(exact, value_per_nat(exact, 2.0), np.random.default_rng(0))
    first = found.plan.rounds[0]
    assert sum(action > 0 for action in first.values()) >= 2
    tolerated = (TOLERATED + 1e-3) * exact.full_wei / 3
    for name, action in itertools.product(first, range(4)):
        other = _first_net(exact, {**first, name: action}, name)
        assert other <= _first_net(exact, first, name) + tolerated


def _first_net(exact, actions, name):
    environment = ParticipationEnvironment(exact)
    environment.reset(seed=0)
    environment.step(actions)
    (first,) = environment.played
    return first.paid.get(name, 0) - first.costs[name]


def test_full_effort_by_everybody_is_worth_what_was_said_times_what_it_costs():
    plain = draw_federation(np.random.default_rng(2), 4, 1.0, EXACT, plain=True)
    measured = measure(plain, played(plain, Fixed(3)))
    assert measured.cost == pytest.approx(1.0)
    assert measured.welfare(measured.fall, 4.0) == pytest.approx(3.0)


@pytest.mark.parametrize(("policy", "tried"), [(Threshold(), 3), (Myopic(), 2)])
def test_threshold_and_myopic_stop_where_nothing_is_earned(policy, tried):
    # The threshold's yield forgives one round that earned nothing.
    rounds = played(alike("abc", pool=0), policy)
    assert [r.actions["a"] for r in rounds] == [3] * tried + [SKIP] * (12 - tried)


def test_an_interval_of_paired_differences_holds_their_mean():
    found = interval([0.1, 0.2, 0.3, 0.2, 0.15])
    assert found["low"] < found["mean"] < found["high"]


# Another policy's value from what was recorded


def test_importance_sampling_finds_what_the_simulator_finds():
    drawn = draw_federation(np.random.default_rng(5), 3, 1.0, CALIBRATION)
    drawn = replace(drawn, terms=replace(drawn.terms, rounds=3))
    environment, random = ParticipationEnvironment(drawn), np.random.default_rng(0)

    def uniform(state, permitted):
        return tuple(one / sum(permitted) for one in permitted)

    def eager(state, permitted):
        # Full effort wherever it earned what it cost, mostly, and little elsewhere.
        wanted = np.array([0.1, 0.1, 0.2, 0.6] if state[1] >= 1 else [0.4, 0.3, 0.2, 0.1])
        allowed = wanted * np.array(permitted)
        return tuple(allowed / allowed.sum())

    def record(policy, episodes, first_seed):
        recorded = []
        for seed in range(first_seed, first_seed + episodes):
            environment.reset(seed=seed)
            episode = []
            while environment.agents:
                own, *others = environment.agents
                view = environment.views[own]
                probabilities = policy(view.state, view.permitted)
                action = int(random.choice(len(ACTIONS), p=probabilities))
                actions = {name: environment.views[name].largest(2) for name in others}
                reward = environment.step({own: action, **actions})[1][own]
                episode.append(
                    RecordedDecision(view.state, action, view.permitted, probabilities, reward)
                )
            recorded.append(episode)
        return recorded

    found = importance_sampling_value(record(uniform, 700, 0), eager)
    own = importance_sampling_value(record(eager, 700, 10_000), eager)
    assert found.effective_sample_size < own.effective_sample_size == 700
    error = np.hypot(found.standard_error, own.standard_error)
    assert abs(found.estimate - own.estimate) < 2 * error
    # In units of the cost of full effort.
    assert error < 0.03


# Calibration


@pytest.mark.parametrize("form", ["exponential", "power"])
def test_calibration_finds_the_parameters_that_made_the_logs(form):
    shape = 0.4 if form == "exponential" else 1.2
    true = Response(form, 5.0, 0.05, 0.2, shape, 0.8)
    useful = {"a": 0.6, "b": 0.9, "c": 1.5}
    random, runs = np.random.default_rng(3), []
    for _ in range(3):
        progress, rounds = 0.0, []
        for number in range(1, 7):
            percents = {n: int(random.choice((25, 50, 100))) for n in useful}
            sent = [useful[n] * percents[n] / 100 for n in useful]
            gains = expected_gains(sent, progress, true)
            before = float(true.loss(progress))
            progress += float(true.progress(sum(sent)))
            organizations = {
                n: {
                    "effort": percents[n],
                    "tokens": 30 * 128 * percents[n] // 100,
                    "score": round(max(0.0, gain - 0.001) * 1e6),
                }
                for n, gain in zip(useful, gains, strict=True)
            }
            after = float(true.loss(progress))
            rounds.append(
                {
                    "round": number,
                    "loss_before": before,
                    "loss_after": after,
                    "organizations": organizations,
                }
            )
        runs.append(rounds)
    found = calibrate(runs)
    assert found["response"]["form"] == form
    assert found["tokens"] == [30, 30]
    assert found["noise"]["share"] < 0.05
    assert found["usefulness"] == pytest.approx(useful, rel=0.05)
    fitted = Response(**found["response"])
    steps = np.linspace(0.5, 20.0, 20)
    assert fitted.loss(steps) == pytest.approx(true.loss(steps), rel=0.05)
    assert fitted.redundancy == pytest.approx(true.redundancy, abs=0.05)


# The tables that agents start from


def test_the_shipped_tables_are_of_these_states_and_actions_in_their_one_form():
    text = TABLES.read_bytes()
    document = json.loads(text)
    assert canonical_json(document) == text
    assert document["fingerprint"] == SPACE.fingerprint().hex()
    parameters = {
        name: float.fromhex(value) if isinstance(value, str) else value
        for name, value in document["parameters"].items()
    }
    assert parameters == SHIPPED.to_json()
    tables = read_tables()
    assert np.isfinite(tables.tables).all()
    assert tables.tables.shape == tables.visits.shape == (2, 3, 3, 3, 2, len(ACTIONS))


def test_learning_again_gives_the_same_bits():
    digests = {hashlib.sha256(learn(400).tables.tobytes()).hexdigest() for _ in range(2)}
    assert len(digests) == 1
    assert hashlib.sha256(learn(400, seed=1).tables.tobytes()).hexdigest() not in digests
