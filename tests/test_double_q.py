"""Double Q-learning: what it learns, how it explores, and what it refuses."""

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from client_app.agent.double_q import Choice, DoubleQ, Parameters, PolicyError, Transition

SHAPE = (2, 3)
ACTIONS = 4
EVERY = (True,) * ACTIONS
HERE, THERE = (1, 2), (0, 1)

seeds = st.integers(0, 2**32)
states = st.tuples(st.integers(0, 1), st.integers(0, 2))
masks = st.tuples(*[st.booleans()] * ACTIONS).filter(any)
shares = st.floats(0, 1)
# Few different values: equals are common.
values = st.integers(-3, 3).map(lambda third: third / 3) | st.floats(-1e6, 1e6)
tables = arrays(np.float64, (2, *SHAPE, ACTIONS), elements=values)
transitions = st.builds(
    Transition,
    state=states,
    action=st.integers(0, ACTIONS - 1),
    reward=st.floats(-10, 10),
    following=states,
    permitted=masks,
) | st.builds(
    Transition,
    state=states,
    action=st.integers(0, ACTIONS - 1),
    reward=st.floats(-10, 10),
    following=st.none(),
)


def agent_of(seed=0, filled=None, shape=SHAPE, actions=ACTIONS, **parameters):
    made = DoubleQ(shape, actions, Parameters(**parameters), np.random.default_rng(seed))
    if filled is not None:
        made.tables[...] = filled
    return made


def saved(agent):
    """All that an agent is, besides its parameters: its own copy."""
    return (agent.tables.copy(), agent.visits.copy(), agent.step, agent.random.bit_generator.state)


def same(one, other):
    return (
        one[0].tobytes() == other[0].tobytes()
        and one[1].tobytes() == other[1].tobytes()
        and one[2:] == other[2:]
    )


def drawn_once(agent):
    """What the random state is after one more number of [0, 1)."""
    twin = np.random.default_rng()
    twin.bit_generator.state = agent.random.bit_generator.state
    twin.random()
    return twin.bit_generator.state


# What it chooses


@given(tables, states, masks, shares, seeds)
def test_what_is_not_permitted_is_never_chosen_also_when_exploring(
    filled, state, mask, explored, seed
):
    agent = agent_of(seed, filled, exploration_start=explored, exploration_steps=10**6)
    for _ in range(5):
        choice = agent.choose(state, mask)
        assert mask[choice.action]
        assert all(p == 0.0 for p, ok in zip(choice.probabilities, mask, strict=True) if not ok)
    assert mask[agent.best(state, mask).action]


@given(tables, states, masks, shares)
def test_probabilities_are_a_share_for_chance_and_the_rest_for_the_best(
    filled, state, mask, explored
):
    agent = agent_of(0, filled, exploration_start=explored, exploration_steps=10**6)
    probabilities = agent.policy(state, mask)
    assert math.isclose(sum(probabilities), 1.0)
    mean = [(agent.tables[0][state][a] + agent.tables[1][state][a]) / 2 for a in range(ACTIONS)]
    top = max(value for value, ok in zip(mean, mask, strict=True) if ok)
    best = [ok and value == top for value, ok in zip(mean, mask, strict=True)]
    for probability, ok, is_best in zip(probabilities, mask, best, strict=True):
        expected = explored / sum(mask) * ok + (1 - explored) / sum(best) * is_best
        assert math.isclose(probability, expected, abs_tol=1e-15)


@given(tables, states, masks, seeds)
def test_a_decision_tells_the_probabilities_it_was_made_with_and_takes_one_number(
    filled, state, mask, seed
):
    agent = agent_of(seed, filled, exploration_steps=3)
    before, after = saved(agent), drawn_once(agent)
    policy = agent.policy(state, mask)
    assert same(saved(agent), before)
    choice = agent.choose(state, mask)
    assert choice.probabilities == policy
    assert agent.random.bit_generator.state == after
    assert agent.step == before[2] + 1
    assert same((*saved(agent)[:2], 0, 0), (*before[:2], 0, 0))


@pytest.mark.parametrize(
    ("mask", "explored"),
    [(EVERY, 0.4), ((True, False, True, True), 0.4), ((False, True, True, False), 1.0)],
)
def test_actions_are_chosen_as_often_as_their_probabilities_say(mask, explored):
    agent = agent_of(7, exploration_start=explored, exploration_end=explored)
    agent.tables[:, 1, 2] = [0.0, 1.0, 0.5, 1.0]
    chosen = np.zeros(ACTIONS)
    for _ in range(4000):
        chosen[agent.choose(HERE, mask).action] += 1
    expected = 4000 * np.array(agent.policy(HERE, mask))
    possible = expected > 0
    assert chosen[~possible].sum() == 0
    assert chisquare(chosen[possible], expected[possible]).pvalue > 0.001


def test_equally_good_actions_are_chosen_equally_often_and_the_seed_says_which():
    def sequence(seed):
        agent = agent_of(seed, exploration_start=0.0, exploration_end=0.0)
        agent.tables[:, 1, 2] = [1.0, 0.0, 1.0, 1.0]
        return [agent.choose(HERE, EVERY).action for _ in range(1500)]

    chosen = sequence(3)
    counts = np.bincount(chosen, minlength=ACTIONS)
    assert counts[1] == 0
    assert chisquare(counts[[0, 2, 3]]).pvalue > 0.001
    assert chosen == sequence(3)
    assert chosen != sequence(4)


@given(tables, states, masks, seeds)
def test_the_best_action_is_the_first_of_equals_and_asking_for_it_changes_nothing(
    filled, state, mask, seed
):
    agent = agent_of(seed, filled)
    agent.step = 5
    before = saved(agent)
    action, probabilities = astuple(agent.best(state, mask))
    assert same(saved(agent), before)
    mean = agent.values(state)
    permitted = [a for a in range(ACTIONS) if mask[a]]
    assert action == max(permitted, key=lambda a: (mean[a], -a))
    assert probabilities == tuple(float(a == action) for a in range(ACTIONS))


def test_a_value_is_the_mean_of_both_estimates():
    agent = agent_of()
    agent.tables[:, 1, 2] = [[1.0, 0.0, -2.0, 4.0], [3.0, 0.0, 2.0, 5.0]]
    assert agent.values(HERE).tolist() == [2.0, 0.0, 0.0, 4.5]


# How it explores


@given(shares, shares, st.integers(1, 5000), st.integers(0, 10_000))
def test_exploration_is_linear_from_its_start_to_its_end_and_stays_there(start, end, steps, step):
    parameters = Parameters(exploration_start=start, exploration_end=end, exploration_steps=steps)
    assert parameters.exploration(0) == start
    assert parameters.exploration(steps) == parameters.exploration(steps + step) == end
    within = min(step, steps)
    expected = (start * (steps - within) + end * within) / steps
    assert math.isclose(parameters.exploration(within), expected, abs_tol=1e-12)


def test_without_steps_exploration_is_at_its_end_from_the_first_decision():
    parameters = Parameters(exploration_steps=0)
    assert parameters.exploration(0) == parameters.exploration_end == 0.05


def test_every_decision_is_made_with_the_exploration_of_its_step():
    agent = agent_of(exploration_start=1.0, exploration_end=0.2, exploration_steps=4)
    agent.tables[:, 1, 2, 3] = 9.0
    best = [agent.choose(HERE, EVERY).probabilities[3] for _ in range(6)]
    assert best == pytest.approx([1 - 0.75 * e for e in (1.0, 0.8, 0.6, 0.4, 0.2, 0.2)])


@given(masks, seeds)
def test_an_optimistic_start_tries_every_permitted_action_without_exploring(mask, seed):
    agent = agent_of(seed, discount=0.5, optimism=3.0, exploration_start=0.0, exploration_end=0.0)
    tried = set()
    # Every try of an action lowers its mean of both tables: below the optimism of the others.
    for _ in range(sum(mask)):
        action = agent.choose(HERE, mask).action
        tried.add(action)
        agent.learn(Transition(HERE, action, 1.0, HERE, mask))
    assert tried == {a for a in range(ACTIONS) if mask[a]}


# What it learns


@given(tables, transitions, seeds)
def test_an_update_moves_one_entry_of_one_table_towards_the_other_tables_value(filled, seen, seed):
    agent = agent_of(seed, filled, discount=0.5)
    agent.visits[0], agent.visits[1] = 3, 8
    before = saved(agent)
    agent.learn(seen)
    changed = np.argwhere(agent.visits != before[1])
    assert len(changed) == 1
    updated, entry = changed[0][0], tuple(changed[0])
    assert entry[1:] == (*seen.state, seen.action)
    assert agent.visits[entry] == before[1][entry] + 1
    target = seen.reward
    if seen.following is not None:
        mine, others = before[0][updated][seen.following], before[0][1 - updated][seen.following]
        permitted = [a for a in range(ACTIONS) if seen.permitted[a]]
        target += 0.5 * others[max(permitted, key=lambda a: (mine[a], -a))]
    rate = max(0.05, (4 if updated == 0 else 9) ** -0.8)
    was = before[0][entry]
    assert agent.tables[entry] == was + rate * (target - was)
    untouched = np.ones(agent.tables.shape, dtype=bool)
    untouched[entry] = False
    assert np.array_equal(agent.tables[untouched], before[0][untouched])
    assert agent.step == before[2]


def test_both_tables_are_updated_equally_often():
    agent = agent_of(5)
    for _ in range(2000):
        agent.learn(Transition(HERE, 1, 0.0, None))
    assert chisquare(agent.visits[:, 1, 2, 1]).pvalue > 0.001


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), seeds)
def test_with_power_one_and_no_floor_both_tables_hold_plain_means(rewards, seed):
    agent = agent_of(seed, learning_rate_floor=0.0, learning_rate_power=1.0, optimism=1e3)
    for reward in rewards:
        agent.learn(Transition(HERE, 1, reward, None))
    held, counts = agent.tables[:, 1, 2, 1], agent.visits[:, 1, 2, 1]
    assert counts.sum() == len(rewards)
    assert all(held[counts == 0] == 1e3)
    assert (held * counts)[counts > 0].sum() == pytest.approx(sum(rewards), abs=1e-9)


@given(shares, st.floats(0.5, 1, exclude_min=True), st.integers(1, 10**6))
def test_the_learning_rate_falls_by_its_power_to_its_floor(floor, power, update):
    parameters = Parameters(learning_rate_floor=floor, learning_rate_power=power)
    assert parameters.learning_rate(1) == 1.0
    assert parameters.learning_rate(update) == max(floor, update**-power)
    assert parameters.learning_rate(update + 1) <= parameters.learning_rate(update)


# A task of three states, where something is forbidden in two of them

PLACES = ((0, 0), (0, 1), (1, 0))
ALLOWED = {
    PLACES[0]: (True, True, True),
    PLACES[1]: (True, False, True),
    PLACES[2]: (False, True, True),
}


def known_process(seed, noisy):
    """What may follow each action: (probability, reward, next place or None for the end)."""
    random = np.random.default_rng(seed)
    process = {}
    for number, place in enumerate(PLACES):
        for action in range(3):
            mean = float(random.uniform())
            if noisy:
                share = float(random.uniform(0.2, 0.7))
                one, other = random.integers(3, size=2)
                process[place, action] = [
                    (share, mean + 0.2, PLACES[one]),
                    (0.9 - share, mean - 0.2, PLACES[other]),
                    (0.1, mean, None),
                ]
            else:
                process[place, action] = [(1.0, mean, PLACES[(number + action) % 3])]
    return process


def exact_values(process, discount):
    """Value iteration: what each permitted action is worth if the best follows."""
    best = dict.fromkeys(PLACES, 0.0)
    for _ in range(500):
        worth = {
            (place, action): sum(
                chance * (reward + (discount * best[then] if then else 0.0))
                for chance, reward, then in outcomes
            )
            for (place, action), outcomes in process.items()
            if ALLOWED[place][action]
        }
        best = {p: max(value for (at, _), value in worth.items() if at == p) for p in PLACES}
    return worth


def outcome_of(outcomes, drawn):
    for chance, reward, then in outcomes[:-1]:
        drawn -= chance
        if drawn < 0:
            return reward, then
    return outcomes[-1][1:]


def learned_in(process, agent, decisions, seed):
    place = PLACES[0]
    for drawn in np.random.default_rng(seed).random(decisions).tolist():
        action = agent.choose(place, ALLOWED[place]).action
        reward, then = outcome_of(process[place, action], drawn)
        agent.learn(Transition(place, action, reward, then, ALLOWED[then] if then else ()))
        place = then or PLACES[0]
    return agent


# Under noise the rate must go to zero: after 12,000 decisions the default floor leaves errors of
# 0.02 to 0.13 here. Without noise the floor is what makes it quick: with a discount of 0.9,
# 12,000 decisions without it leave errors above 1.
@pytest.mark.parametrize(
    ("noisy", "discount", "floor", "decisions"),
    [(True, 0.6, 0.0, 14_000), (False, 0.8, 0.05, 8_000)],
    ids=["noise, no floor", "no noise, default floor"],
)
@pytest.mark.parametrize("seed", [2, 3])
def test_values_come_within_a_twentieth_of_value_iteration(noisy, discount, floor, decisions, seed):
    process = known_process(seed, noisy)
    worth = exact_values(process, discount)
    agent = agent_of(
        seed,
        shape=(2, 2),
        actions=3,
        discount=discount,
        learning_rate_floor=floor,
        exploration_end=1.0,
    )
    learned_in(process, agent, decisions, seed + 100)
    for (place, action), value in worth.items():
        assert agent.values(place)[action] == pytest.approx(value, abs=0.05)
    for place in PLACES:
        # No action that is forbidden was ever tried, and none counts.
        forbidden = [not ok for ok in ALLOWED[place]]
        assert agent.visits[(slice(None), *place)][:, forbidden].sum() == 0


# Noise that is no value: Sutton and Barto, Reinforcement Learning, second edition, example 6.7


class SingleQ(DoubleQ):
    """The reference: one table both picks and values the next action."""

    def learn(self, transition):
        [table, _], [visits, _] = self.tables, self.visits
        target = transition.reward
        if transition.following is not None:
            following = table[transition.following]
            target += self.parameters.discount * following[list(transition.permitted)].max()
        entry = (*transition.state, transition.action)
        visits[entry] += 1
        rate = self.parameters.learning_rate(int(visits[entry]))
        table[entry] += rate * (target - table[entry])
        self.tables[1] = table


def share_of_left(kind, seed, episodes):
    """From A, right ends it; left leads to B, where each of ten actions earns -0.1, with noise."""
    start, noisy, left, right = (0,), (1,), 0, 1
    two, ten = (True, True) + (False,) * 8, (True,) * 10
    parameters = Parameters(
        discount=0.999,
        learning_rate_floor=0.1,
        learning_rate_power=1.0,
        exploration_start=0.1,
        exploration_end=0.1,
        optimism=0.0,
    )
    agent = kind((2,), 10, parameters, np.random.default_rng(seed))
    went_left = 0
    for reward in np.random.default_rng([seed, 1]).normal(-0.1, 1.0, episodes).tolist():
        if agent.choose(start, two).action == right:
            agent.learn(Transition(start, right, 0.0, None))
            continue
        went_left += 1
        agent.learn(Transition(start, left, 0.0, noisy, ten))
        agent.learn(Transition(noisy, agent.choose(noisy, ten).action, reward, None))
    return went_left / episodes


def test_noise_misleads_two_tables_far_less_than_one():
    runs = 50
    single = np.array([share_of_left(SingleQ, seed, 150) for seed in range(runs)])
    double = np.array([share_of_left(DoubleQ, seed, 150) for seed in range(runs)])
    # About 0.6 and 0.2; the best possible is 0.05.
    difference = single - double
    error = difference.std(ddof=1) / math.sqrt(runs)
    assert difference.mean() > 0.2
    assert difference.mean() > 5 * error


# Two that learn beside each other


def cournot(own, other):
    """Profit of a quantity in quarters, where both lower the price."""
    return own * (1.55 - (own + other) / 4)


def contest(own, other):
    """A prize of 8, shared by effort, less the effort."""
    return (8 * own / (own + other) if own else 0.0) - own


def crowding(own, other):
    """Effort pays less the more of it there is; two are best whatever the other does, or nearly."""
    return 1.8 * own - 0.45 * own**2 - 0.15 * own * other


def payoffs_of(game):
    return np.array([[game(own, other) for other in range(ACTIONS)] for own in range(ACTIONS)])


def equilibria(payoffs):
    best = payoffs == payoffs.max(axis=0)
    return [(int(one), int(two)) for one, two in np.argwhere(best & best.T)]


def gains(payoffs, one, two):
    """What each could earn more by its best response to the other's distribution of actions."""
    return (
        (payoffs @ two).max() - one @ payoffs @ two,
        (payoffs @ one).max() - two @ payoffs @ one,
    )


# A contest needs long exploration: both at effort 1 earn more than in equilibrium, and what effort
# 2 would bring against that is rarely tried later. With 1,500 steps most seeds stay there.
@pytest.mark.parametrize(
    ("game", "discount", "explored", "decisions"),
    [
        (cournot, 0.0, 1500, 2500),
        (cournot, 0.9, 3000, 5500),
        (contest, 0.0, 3000, 4000),
        (crowding, 0.9, 2000, 4000),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_independent_learners_end_where_neither_gains_much_by_another_action(
    game, discount, explored, decisions, seed
):
    payoffs = payoffs_of(game)
    assert equilibria(payoffs) == [(2, 2)]
    chance = np.full(ACTIONS, 1 / ACTIONS)
    assert min(gains(payoffs, chance, chance)) > 0.2
    agents = [
        agent_of([seed, player], shape=(1,), discount=discount, exploration_steps=explored)
        for player in range(2)
    ]
    gained = []
    for _ in range(decisions):
        choices = [agent.choose((0,), EVERY) for agent in agents]
        for agent, own, other in zip(agents, choices, reversed(choices), strict=True):
            reward = float(payoffs[own.action, other.action])
            agent.learn(Transition((0,), own.action, reward, (0,), EVERY))
        gained.append(gains(payoffs, *(np.array(choice.probabilities) for choice in choices)))
    assert np.mean(gained[-500:], axis=0).max() <= 0.05
    greedy = [np.array(agent.best((0,), EVERY).probabilities) for agent in agents]
    assert max(gains(payoffs, *greedy)) <= 0.05


# Saved and continued


def lived(agent, decisions, seen):
    for _ in range(decisions):
        choice = agent.choose(HERE, EVERY)
        then = (choice.action % 2, 2)
        agent.learn(Transition(HERE, choice.action, float(next(seen)), then, EVERY))
    return agent


@settings(max_examples=30)
@given(seeds, st.integers(0, 40), st.integers(1, 40))
def test_one_that_was_copied_and_continues_is_the_uninterrupted_one_bit_for_bit(
    seed, before, after
):
    rewards = np.random.default_rng(seed).normal(size=before + after)
    whole = lived(agent_of(seed), before + after, iter(rewards))
    first = lived(agent_of(seed), before, iter(rewards))
    kept = saved(first)
    second = agent_of(seed + 1)
    second.tables[...], second.visits[...], second.step = kept[:3]
    second.random.bit_generator.state = kept[3]
    lived(second, after, iter(rewards[before:]))
    assert same(saved(second), saved(whole))
    # The copy was one: the first did not move with it.
    assert same(saved(first), kept)


def test_half_of_a_drawn_number_is_kept_as_well():
    agent = agent_of(1)
    agent.learn(Transition(HERE, 0, 1.0, None))
    # Which table is drawn from 32 bits; the other 32 wait. A file must hold them.
    state = agent.random.bit_generator.state
    assert state["has_uint32"] == 1
    assert state["uinteger"] != 0


# What it refuses


def refused(call, *arguments, **named):
    with pytest.raises(PolicyError) as caught:
        call(*arguments, **named)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


nan, inf = math.nan, math.inf
MALFORMED_STATES = [
    (),
    (1,),
    (1, 2, 0),
    (2, 0),
    (0, 3),
    (-1, 0),
    (0, nan),
    (0, 0.5),
    (0.0, 0.0),
    (True, 0),
    [1, 2],
    np.array([1, 2]),
]
MALFORMED_MASKS = [
    (),
    (True,) * 3,
    (True,) * 5,
    (False,) * 4,
    (1, 1, 1, 1),
    (nan, False, False, False),
    ("no",) * 4,
    [[True] * 4],
    np.ones((4, 4), dtype=bool),
]


@pytest.mark.parametrize("state", MALFORMED_STATES, ids=repr)
def test_a_malformed_state_is_refused_and_leaves_no_trace(state):
    agent = agent_of()
    before = saved(agent)
    for ask in (agent.choose, agent.best, agent.policy):
        assert "(2, 3)" in refused(ask, state, EVERY)
    refused(agent.values, state)
    refused(agent.learn, Transition(state, 0, 1.0, None))
    refused(agent.learn, Transition(HERE, 0, 1.0, state, EVERY))
    assert same(saved(agent), before)


@pytest.mark.parametrize("mask", MALFORMED_MASKS, ids=repr)
def test_a_malformed_mask_is_refused_and_leaves_no_trace(mask):
    agent = agent_of()
    before = saved(agent)
    for ask in (agent.choose, agent.best, agent.policy):
        assert "expected 4 of true and false" in refused(ask, HERE, mask)
    refused(agent.learn, Transition(HERE, 0, 1.0, THERE, mask))
    assert same(saved(agent), before)


@pytest.mark.parametrize(
    ("action", "reward"),
    [(-1, 0.0), (4, 0.0), (1.0, 0.0), (True, 0.0), (nan, 0.0), (0, nan), (0, inf), (0, -inf)],
)
def test_an_unknown_action_or_a_reward_that_is_no_number_is_refused(action, reward):
    agent = agent_of()
    before = saved(agent)
    message = refused(agent.learn, Transition(HERE, action, reward, THERE, EVERY))
    assert repr(action) in message
    assert str(reward) in message
    assert same(saved(agent), before)


OUTSIDE = [-0.01, 1.01, nan, inf, -inf]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("learning_rate_floor", value) for value in OUTSIDE),
        *(("exploration_start", value) for value in OUTSIDE),
        *(("exploration_end", value) for value in OUTSIDE),
        *(("discount", value) for value in [*OUTSIDE, 1.0]),
        *(("learning_rate_power", value) for value in [*OUTSIDE, 0.5]),
        *(("exploration_steps", value) for value in [-1, 2.5, nan, inf, True]),
        *(("optimism", value) for value in [nan, inf, -inf]),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_its_name(name, value):
    message = refused(replace, Parameters(), **{name: value})
    assert message.startswith(f"{name} {value}")


def test_parameters_at_the_edges_of_their_ranges_are_taken():
    taken = Parameters(0.0, 0.0, 1.0, 0.0, 1.0, 0, -1e9)
    assert Parameters(**taken.to_json()) == taken
    assert Parameters(learning_rate_floor=1.0).learning_rate(10**6) == 1.0


def test_numbers_of_numpy_are_coordinates_actions_and_truths_as_well():
    agent = agent_of()
    state, mask = tuple(np.array(HERE)), np.array(EVERY)
    assert agent.best(state, mask) == Choice(0, (1.0, 0.0, 0.0, 0.0))
    agent.learn(Transition(state, np.int64(2), np.float64(3.0), THERE, mask))
    assert agent.visits.sum() == 1
