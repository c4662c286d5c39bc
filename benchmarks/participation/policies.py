"""Policies that play the game: the learned agents, and what they are held against.

All but :class:`Planned` see only what an organization of its own would know.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from benchmarks.participation.environment import ParticipationEnvironment, PlayedRound, View
from client_app.agent.action_space import ACTIONS, SKIP, STATE_SHAPE
from client_app.agent.double_q import DoubleQ, Parameters, State, Transition

HIGH = len(ACTIONS) - 1


class Policy(Protocol):
    """Decides for everybody in a task."""

    def act(self, environment: ParticipationEnvironment) -> dict[str, int]:
        """Return what each organization that still takes part does in the coming round."""

    def see(self, environment: ParticipationEnvironment, rewards: Mapping[str, float]) -> None:
        """Note what the round brought, in units of the cost of full effort."""


def play(
    environment: ParticipationEnvironment, policy: Policy, seed: int | None = None
) -> list[PlayedRound]:
    """Play a task to its end, and return its rounds."""
    environment.reset(seed=seed)
    while environment.agents:
        rewards = environment.step(policy.act(environment))[1]
        policy.see(environment, rewards)
    return environment.played


class _Blind:
    """A policy that notes nothing."""

    def see(self, environment: ParticipationEnvironment, rewards: Mapping[str, float]) -> None:
        """Note nothing."""


class Fixed(_Blind):
    """The same action always, or the largest below that the budget permits."""

    def __init__(self, action: int) -> None:
        self.action = action

    def act(self, environment: ParticipationEnvironment) -> dict[str, int]:
        """See :class:`Policy`."""
        return {name: environment.views[name].largest(self.action) for name in environment.agents}


class Random(_Blind):
    """Any permitted action, all equally likely."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random

    def act(self, environment: ParticipationEnvironment) -> dict[str, int]:
        """See :class:`Policy`."""
        return {
            name: int(self.random.choice(np.flatnonzero(environment.views[name].permitted)))
            for name in environment.agents
        }


class Threshold(_Blind):
    """Full effort while the last rounds joined earned what they cost, or nothing is known."""

    def act(self, environment: ParticipationEnvironment) -> dict[str, int]:
        """See :class:`Policy`."""
        return {
            name: environment.views[name].largest(HIGH)
            if environment.views[name].state[1] >= 1
            else SKIP
            for name in environment.agents
        }


class Myopic(_Blind):
    """The action of the largest expected net in one round.

    With the share ``s`` of the pool that the last rounds joined earned at the mean effort ``x``,
    effort ``a`` is expected to earn ``pool o a / (1 + o a)``, ``o = s / ((1 - s) x)``: the others
    and their scores stay as they are. Where nothing is known, full effort.
    """

    def act(self, environment: ParticipationEnvironment) -> dict[str, int]:
        """See :class:`Policy`."""
        pool = environment.federation.terms.pool
        return {
            name: _myopic(
                environment.views[name], pool, environment.organizations[name].price
            )
            for name in environment.agents
        }  # fmt: skip


def _myopic(view: View, pool: int, price: int) -> int:
    known = view.situation.outcomes[-4:]
    if not known:
        return view.largest(HIGH)
    costs = np.array(view.situation.costs, dtype=np.float64) * price
    spent = sum(outcome.cost for outcome in known) / len(known)
    share = min(0.99, sum(outcome.earned for outcome in known) / len(known) / max(1, pool))
    odds = share / (1.0 - share) * costs / spent
    net = np.where(view.permitted, pool * odds / (1.0 + odds) - costs, -np.inf)
    return int(net.argmax())


class Planned(_Blind):
    """A joint plan, round by round: the optimum's, or what was played before.

    Parameters
    ----------
    rounds : sequence of mapping
        Each round's actions by organization.
    """

    def __init__(self, rounds: Sequence[Mapping[str, int]]) -> None:
        self.rounds = rounds

    def act(self, environment: ParticipationEnvironment) -> dict[str, int]:
        """See :class:`Policy`."""
        planned = self.rounds[environment.round - 1]
        return {name: planned[name] for name in environment.agents}


class Learned:
    """One double Q-learning agent an organization.

    An agent learns of a round as soon as it decides on the next one; in a real run, when the reward
    is known, one round later: the same transitions, in the same order.

    Parameters
    ----------
    agents : mapping of str to DoubleQ
        By organization.
    learning : bool
        Whether they explore and go on learning, or do what they hold to be best.
    """

    def __init__(self, agents: Mapping[str, DoubleQ], *, learning: bool) -> None:
        self.agents = agents
        self.learning = learning
        self._open: dict[str, tuple[State, int]] = {}

    def act(self, environment: ParticipationEnvironment) -> dict[str, int]:
        """See :class:`Policy`."""
        actions = {}
        for name in environment.agents:
            view, agent = environment.views[name], self.agents[name]
            decide = agent.choose if self.learning else agent.best
            actions[name] = decide(view.state, view.permitted).action
            self._open[name] = (view.state, actions[name])
        return actions

    def see(self, environment: ParticipationEnvironment, rewards: Mapping[str, float]) -> None:
        """See :class:`Policy`."""
        if not self.learning:
            return
        for name, reward in rewards.items():
            state, action = self._open.pop(name)
            if name in environment.agents:
                view = environment.views[name]
                following = Transition(state, action, reward, view.state, view.permitted)
            else:
                following = Transition(state, action, reward, None)
            self.agents[name].learn(following)


def started_agents(
    names: Sequence[str], tables: DoubleQ, parameters: Parameters, seed: int
) -> dict[str, DoubleQ]:
    """Return an agent for each organization that starts from the same tables."""
    agents = {}
    for index, name in enumerate(names):
        agent = DoubleQ(STATE_SHAPE, len(ACTIONS), parameters, np.random.default_rng([seed, index]))
        agent.tables[...] = tables.tables
        agent.visits[...] = tables.visits
        agents[name] = agent
    return agents
