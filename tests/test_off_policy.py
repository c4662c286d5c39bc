"""What another policy would have earned, from what this one recorded."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_app.agent.double_q import DoubleQ, Parameters, Transition
from client_app.agent.off_policy import (
    OffPolicyError,
    RecordedDecision,
    importance_sampling_value,
)

PLACES = ((0,), (1,))
ALLOWED = {(0,): (True, True, True), (1,): (True, False, True)}
HORIZON = 3
#: Chance that the next place is the second, mean reward, chance that it was the last decision.
PROCESS = {
    ((0,), 0): (0.2, 0.0, 0.0),
    ((0,), 1): (0.5, 0.5, 0.3),
    ((0,), 2): (0.9, 0.3, 0.1),
    ((1,), 0): (0.4, 0.2, 0.0),
    ((1,), 2): (0.7, 1.0, 0.4),
}


def policy(first, second):
    held = {PLACES[0]: first, PLACES[1]: second}
    return lambda state, permitted: held[state]


BEHAVIOUR = policy((0.5, 0.3, 0.2), (0.6, 0.0, 0.4))
TARGET = policy((0.1, 0.4, 0.5), (0.25, 0.0, 0.75))
FIXED = policy((0.0, 0.0, 1.0), (0.0, 0.0, 1.0))

MEASURES = [
    (None, False),
    (None, True),
    (0.8, False),
    (0.8, True),
]


def exact(target, *, discount, ends):
    """Discounted return, and the expected number of decisions, by going through the process."""
    at, total, decisions = {PLACES[0]: 1.0, PLACES[1]: 0.0}, 0.0, 0.0
    for step in range(HORIZON):
        following = dict.fromkeys(PLACES, 0.0)
        for place, chance in at.items():
            decisions += chance
            for action, probability in enumerate(target(place, ALLOWED[place])):
                if probability:
                    second, reward, last = PROCESS[place, action]
                    total += discount**step * chance * probability * reward
                    goes_on = chance * probability * (1 - last * ends)
                    following[PLACES[1]] += goes_on * second
                    following[PLACES[0]] += goes_on * (1 - second)
        at = following
    return total, decisions


def recorded(behaviour, episodes, seed, *, ends):
    random = np.random.default_rng(seed)
    made = []
    for _ in range(episodes):
        place, episode = PLACES[0], []
        for _ in range(HORIZON):
            probabilities = behaviour(place, ALLOWED[place])
            action = int(np.searchsorted(np.cumsum(probabilities), random.random()))
            second, mean, last = PROCESS[place, action]
            reward = mean + float(random.normal(0, 0.1))
            episode.append(RecordedDecision(place, action, ALLOWED[place], probabilities, reward))
            if random.random() < last * ends:
                break
            place = PLACES[int(random.random() < second)]
        made.append(episode)
    return made


def plain(episodes, discount):
    """What the policy that recorded them earned, and the error of that."""
    if discount is None:
        rewards = [decision.reward for episode in episodes for decision in episode]
        return sum(rewards) / len(rewards)
    returns = [
        sum(discount**step * decision.reward for step, decision in enumerate(episode))
        for episode in episodes
    ]
    return sum(returns) / len(returns)


@pytest.mark.parametrize(("discount", "weighted"), MEASURES)
@pytest.mark.parametrize("target", [TARGET, FIXED], ids=["spread", "deterministic"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_estimate_is_within_three_errors_of_the_exact_value(discount, weighted, target, seed):
    # How long an episode is depends on what is done in it; only this measure may not meet that.
    ends = float(discount is not None or weighted)
    total, decisions = exact(target, discount=1.0 if discount is None else discount, ends=ends)
    value = total / decisions if discount is None else total
    told = importance_sampling_value(
        recorded(BEHAVIOUR, 2500, seed, ends=ends), target, discount=discount, weighted=weighted
    )
    assert 0 < told.standard_error < 0.1
    assert abs(told.estimate - value) < 3 * told.standard_error
    # The policy that recorded them is worth something else, by far more than that.
    other, others = exact(BEHAVIOUR, discount=1.0 if discount is None else discount, ends=ends)
    assert abs(other / (others if discount is None else 1) - value) > 4 * told.standard_error


@pytest.mark.parametrize(("discount", "weighted"), MEASURES)
def test_the_estimate_agrees_with_the_other_policys_own_decisions(discount, weighted):
    told = importance_sampling_value(
        recorded(BEHAVIOUR, 2500, 5, ends=0.0), TARGET, discount=discount, weighted=weighted
    )
    own = importance_sampling_value(
        recorded(TARGET, 2500, 6, ends=0.0), TARGET, discount=discount, weighted=weighted
    )
    error = math.hypot(told.standard_error, own.standard_error)
    assert abs(told.estimate - own.estimate) < 3 * error
    assert own.standard_error < told.standard_error


@pytest.mark.parametrize(("discount", "weighted"), MEASURES)
def test_the_standard_error_is_the_spread_of_repeated_estimates(discount, weighted):
    ends = float(discount is not None or weighted)
    told = [
        importance_sampling_value(
            recorded(BEHAVIOUR, 150, seed, ends=ends), TARGET, discount=discount, weighted=weighted
        )
        for seed in range(60)
    ]
    spread = np.std([one.estimate for one in told], ddof=1)
    assert np.mean([one.standard_error for one in told]) == pytest.approx(spread, rel=0.3)


@given(st.integers(0, 2**32), st.integers(2, 30), st.sampled_from([None, 0.0, 0.8, 1.0]))
def test_for_the_policy_that_recorded_them_it_is_the_plain_mean(seed, number, discount):
    episodes = recorded(BEHAVIOUR, number, seed, ends=0.0)
    for weighted in (False, True):
        told = importance_sampling_value(episodes, BEHAVIOUR, discount=discount, weighted=weighted)
        assert told.estimate == pytest.approx(plain(episodes, discount), abs=1e-12)
        assert told.effective_sample_size == number
    of_each = [plain([episode], discount) for episode in episodes]
    error = np.std(of_each, ddof=1) / math.sqrt(number)
    assert told.standard_error == pytest.approx(error, abs=1e-12)


@given(st.integers(0, 2**32), st.integers(2, 30))
def test_other_policies_have_a_smaller_effective_sample(seed, number):
    episodes = recorded(BEHAVIOUR, number, seed, ends=1.0)
    told = importance_sampling_value(episodes, TARGET)
    assert 0 < told.effective_sample_size <= number
    weighted = importance_sampling_value(episodes, TARGET, weighted=True)
    assert weighted.effective_sample_size == told.effective_sample_size
    rewards = [decision.reward for episode in episodes for decision in episode]
    # Self-normalized, it is a mean of what was earned: never beyond it.
    assert min(rewards) - 1e-9 <= weighted.estimate <= max(rewards) + 1e-9


def test_the_estimates_are_as_computed_by_hand():
    def decision(action, reward):
        return RecordedDecision((0,), action, (True, True), (0.8, 0.2), reward)

    # Ratios: 0.5 for action 0, 3 for action 1.
    episodes = [[decision(0, 1.0), decision(1, 2.0)], [decision(1, 4.0)]]

    def value(**asked):
        return importance_sampling_value(episodes, lambda *_: (0.4, 0.6), **asked)

    numerator = 0.5 * 1 + 1.5 * 2 + 3 * 4
    assert value().estimate == pytest.approx(numerator / 3)
    assert value(weighted=True).estimate == pytest.approx(numerator / (0.5 + 1.5 + 3))
    returns = [0.5 * 1 + 0.5 * 1.5 * 2, 3 * 4]
    assert value(discount=0.5).estimate == pytest.approx(sum(returns) / 2)
    assert value(discount=0.5).standard_error == pytest.approx(
        np.std(returns, ddof=1) / math.sqrt(2)
    )
    by_step = (0.5 * 1 + 3 * 4) / 3.5 + 0.5 * (1.5 * 2 + 3 * 0) / 4.5
    assert value(discount=0.5, weighted=True).estimate == pytest.approx(by_step)
    assert value().effective_sample_size == pytest.approx(4.5**2 / (1.5**2 + 3**2))


def test_an_agents_policies_are_judged_by_what_it_recorded_while_it_explored():
    agent = DoubleQ(
        (1,), 3, Parameters(discount=0.0, exploration_end=0.5), np.random.default_rng(4)
    )
    earns, mask = (0.2, 0.9, 0.4), (True, False, True)
    made = []
    for _ in range(3000):
        choice = agent.choose((0,), mask)
        reward = earns[choice.action]
        made.append([RecordedDecision((0,), choice.action, mask, choice.probabilities, reward)])
        agent.learn(Transition((0,), choice.action, reward, None))
    best = importance_sampling_value(
        made, lambda state, permitted: agent.best(state, permitted).probabilities, weighted=True
    )
    assert best.estimate == pytest.approx(0.4)
    assert 1000 < best.effective_sample_size < 3000
    now = importance_sampling_value(made, agent.policy, weighted=True)
    assert abs(now.estimate - (0.75 * 0.4 + 0.25 * 0.2)) < 3 * now.standard_error


EPISODES = recorded(BEHAVIOUR, 20, 1, ends=0.0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("discount", [None, 0.9])
@pytest.mark.parametrize(
    "target",
    [
        policy((0.1, 0.4, 0.5), (0.0, 1.0, 0.0)),
        policy((0.1, 0.4, 0.5), (0.5, 1e-6, 0.5 - 1e-6)),
        policy((0.5, 0.5), (0.5, 0.5)),
        policy((0.5, 0.6, 0.5), (0.5, 0.0, 0.5)),
        policy((0.1, 0.1, 0.1), (0.5, 0.0, 0.5)),
        policy((-0.5, 1.0, 0.5), (0.5, 0.0, 0.5)),
        policy((math.nan, 0.5, 0.5), (0.5, 0.0, 0.5)),
    ],
    ids=["masked", "a little masked", "short", "above 1", "below 1", "negative", "nan"],
)
def test_a_policy_that_does_what_is_not_permitted_or_is_none_is_refused(target, discount, weighted):
    with pytest.raises(OffPolicyError, match=r"^state \(\d,\): the other policy's .*") as caught:
        importance_sampling_value(EPISODES, target, discount=discount, weighted=weighted)
    assert "\n" not in str(caught.value)


def test_a_policy_that_would_do_what_could_not_be_recorded_is_refused():
    greedy = [
        [RecordedDecision((0,), 0, (True, True, True), (1.0, 0.0, 0.0), 1.0)] for _ in range(3)
    ]
    with pytest.raises(OffPolicyError, match="0 where the recorded one is"):
        importance_sampling_value(greedy, TARGET)


def test_decisions_none_of_which_could_be_the_other_policys_tell_nothing():
    skipped = [
        [RecordedDecision((0,), 0, (True, True, True), (0.5, 0.3, 0.2), 1.0)] for _ in range(3)
    ]
    for weighted in (False, True):
        with pytest.raises(OffPolicyError, match="none of 3 episodes could have been"):
            importance_sampling_value(skipped, FIXED, weighted=weighted)


def test_episodes_so_long_that_their_weights_overflow_are_refused():
    rare = RecordedDecision((0,), 0, (True, True), (0.01, 0.99), 1.0)
    for decisions, refused in [(100, False), (200, True)]:
        episodes = [[rare] * decisions] * 2
        if refused:
            with pytest.raises(OffPolicyError, match="up to 200 decisions"):
                importance_sampling_value(episodes, lambda *_: (1.0, 0.0))
        else:
            told = importance_sampling_value(episodes, lambda *_: (1.0, 0.0), weighted=True)
            assert told.estimate == pytest.approx(1.0)
            assert told.effective_sample_size == 2.0


@pytest.mark.parametrize("episodes", [[], EPISODES[:1], [*EPISODES, []]])
def test_too_few_episodes_or_empty_ones_are_refused(episodes):
    with pytest.raises(OffPolicyError, match="expected two at least"):
        importance_sampling_value(episodes, TARGET)


@pytest.mark.parametrize("discount", [-0.1, 1.1, math.nan, math.inf])
def test_a_discount_out_of_range_is_refused(discount):
    with pytest.raises(OffPolicyError, match="expected 0 to 1"):
        importance_sampling_value(EPISODES, TARGET, discount=discount)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"probabilities": (0.0, 0.5, 0.5)}, "expected one that could be chosen"),
        ({"action": 3}, "expected one that could be chosen"),
        ({"action": -1}, "expected one that could be chosen"),
        ({"permitted": (False, True, True)}, "0 where not permitted"),
        ({"permitted": (True, True)}, "expected one each"),
        ({"probabilities": (0.5, 0.5)}, "expected one each"),
        ({"probabilities": (0.5, 0.5, 0.5)}, "that sum to 1"),
        ({"probabilities": (math.nan, 0.5, 0.5)}, "that sum to 1"),
        ({"probabilities": (1.5, -0.5, 0.0)}, "that sum to 1"),
        ({"permitted": (), "probabilities": ()}, "that sum to 1"),
        ({"reward": math.nan}, "reward nan, expected a finite number"),
        ({"reward": math.inf}, "reward inf, expected a finite number"),
    ],
)
def test_a_decision_that_cannot_have_been_made_is_refused(changed, message):
    made = RecordedDecision((0,), 0, (True, True, True), (0.5, 0.3, 0.2), 1.0)
    with pytest.raises(OffPolicyError, match=message) as caught:
        replace(made, **changed)
    assert "\n" not in str(caught.value)
