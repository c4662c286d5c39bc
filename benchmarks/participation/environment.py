"""The participation game as a PettingZoo environment: who joins a round, and with how much effort.

One step is one round. Whoever joins pays for the tokens it trains on; its update is lost with some
probability; those that arrive move the public validation loss (:mod:`.response`), are scored
(:mod:`.scoring`) and paid by the rule of the chain itself
(:func:`strategies.rewards.round_rewards`).

Every round draws the same random numbers whatever anybody does, so that two policies under one
seed meet the same luck.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from gymnasium.spaces import Dict, Discrete, MultiBinary, MultiDiscrete, Space
from pettingzoo import ParallelEnv

from benchmarks.participation.federation import Federation, FreeRider, Organization
from benchmarks.participation.scoring import Update, scores
from client_app.agent.action_space import ACTIONS, SKIP, STATE_SHAPE
from client_app.agent.double_q import State
from client_app.agent.situation import REMEMBERED_ROUNDS, Outcome, Situation, reward_of
from strategies.rewards import round_rewards

#: Rounds after which a reward is known: those of round r travel with the seal of round r + 1.
REWARD_DELAY: Final = 1

Observation = dict[str, Any]


@dataclass(frozen=True)
class PlayedRound:
    """What came of a round.

    Parameters
    ----------
    actions : dict of str to int
        What each organization did; 0 where it could not do what it wanted.
    costs, paid : dict of str to int
        Wei that each spent, and that each received. Free riders are in ``paid``.
    scores : dict of str to int
        Micro-nats of those whose updates arrived.
    loss : float
        Public validation loss after it, nats.
    """

    actions: dict[str, int]
    costs: dict[str, int]
    paid: dict[str, int]
    scores: dict[str, int]
    loss: float


@dataclass(frozen=True)
class View:
    """What an organization knows before a round, and what follows from it.

    Parameters
    ----------
    situation : Situation
        The organization's own.
    state : tuple of int
        Its coordinates.
    permitted : tuple of bool
        What the budget allows, (actions,).
    """

    situation: Situation
    state: State
    permitted: tuple[bool, ...]

    def largest(self, action: int) -> int:
        """Return the largest permitted action up to one."""
        return max(index for index in range(action + 1) if self.permitted[index])


class ParticipationEnvironment(ParallelEnv[str, Observation, int]):
    """Organizations decide round by round whether to join, and with how much effort.

    Parameters
    ----------
    federation : Federation
        Who takes part, on which terms.

    Attributes
    ----------
    played : list of PlayedRound
        This task's rounds so far.
    progress : float
        What :meth:`.Response.loss` is taken at.
    views : dict of str to View
        What each organization knows before the coming round.

    Notes
    -----
    Observations hold ``observation``, the coordinates of
    :class:`client_app.agent.situation.Situation`, and ``action_mask``. Rewards are those of
    :func:`client_app.agent.situation.reward_of`; they are returned at once, for learning, while
    observations know them a round later.
    """

    metadata: dict[str, Any] = {"name": "foedus_participation_v1", "render_modes": []}  # noqa: RUF012

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.possible_agents = [o.name for o in federation.organizations]
        self.render_mode = None
        actions = len(ACTIONS)
        self._observed: dict[str, Space[Any]] = {
            name: Dict(
                observation=MultiDiscrete(np.array(STATE_SHAPE)), action_mask=MultiBinary(actions)
            )
            for name in self.possible_agents
        }
        self._actions: dict[str, Space[Any]] = {
            name: Discrete(actions) for name in self.possible_agents
        }
        self._random = np.random.default_rng(0)
        self.reset()

    def observation_space(self, agent: str) -> Space[Any]:
        """Return the agent's space of observations, always the same object."""
        return self._observed[agent]

    def action_space(self, agent: str) -> Space[Any]:
        """Return the agent's space of actions, always the same object."""
        return self._actions[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Begin a task; without a seed, luck goes on where it was."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self.organizations = {o.name: o for o in self.federation.organizations}
        self.agents = list(self.possible_agents)
        self.round = 1
        self.played: list[PlayedRound] = []
        self.progress = self.federation.terms.start
        self._part = dict.fromkeys(self.possible_agents, 0.0)
        self._spent = dict.fromkeys(self.possible_agents, 0)
        self._joined: dict[str, list[tuple[int, Outcome]]] = {n: [] for n in self.possible_agents}
        self._last = dict.fromkeys(self.possible_agents, SKIP)
        return self._observe(self.agents), {name: {} for name in self.agents}

    def _view(self, agent: str) -> View:
        organization, terms = self.organizations[agent], self.federation.terms
        known = self.round - REWARD_DELAY
        joined = self._joined[agent][-REWARD_DELAY - REMEMBERED_ROUNDS :]
        situation = Situation(
            round=self.round,
            rounds=terms.rounds,
            budget=organization.budget,
            spent=self._spent[agent],
            outcomes=[outcome for joined_in, outcome in joined if joined_in < known],
            last_action=self._last[agent],
            costs=organization.costs,
        )
        return View(situation, situation.state(), situation.permitted())

    @property
    def loss(self) -> float:
        """Public validation loss now, nats."""
        return float(self.federation.calibration.response.loss(self.progress))

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Play a round."""
        playing = self.agents
        done = {name: self._possible(name, int(actions[name])) for name in playing}
        lost, z = self._draw()
        arrived = [name for name in playing if done[name] != SKIP and not lost[name]]
        found = self._score(arrived, done, z)
        paid = round_rewards(
            found, pool=self.federation.terms.pool, constant=self.federation.terms.constant
        )
        played = PlayedRound(
            done,
            {n: self.organizations[n].costs[done[n]] * self.organizations[n].price for n in done},
            paid,
            found,
            self.loss,
        )
        self.played.append(played)
        rewards = {name: self._settle(name, played, lost=lost[name]) for name in playing}
        self.round += 1
        over = self.round > self.federation.terms.rounds
        leaving = self._shocks()
        self.agents = [] if over else [name for name in playing if name not in leaving]
        infos = {
            name: {"paid": paid.get(name, 0), "spent": played.costs[name], "loss": played.loss}
            for name in playing
        }
        return (
            self._observe(playing),
            rewards,
            {name: name in leaving for name in playing},
            {name: over and name not in leaving for name in playing},
            infos,
        )

    def _possible(self, name: str, action: int) -> int:
        return action if self.views[name].permitted[action] else SKIP

    def _draw(self) -> tuple[dict[str, bool], dict[str, float]]:
        """Draw whose update is lost, and how far each gain is measured off."""
        names = [*self.possible_agents, *(rider.name for rider in self.federation.free_riders)]
        drawn = self._random.random(len(self.possible_agents))
        z = self._random.standard_normal(len(names))
        lost = {
            name: bool(value < self.organizations[name].dropout)
            for name, value in zip(self.possible_agents, drawn, strict=True)
        }
        return lost, dict(zip(names, map(float, z), strict=True))

    def _score(
        self, arrived: list[str], done: dict[str, int], z: dict[str, float]
    ) -> dict[str, int]:
        """Score the updates that arrived, and move the progress by them."""
        federation = self.federation
        efforts = {name: self.organizations[name].efforts[done[name]] for name in arrived}
        updates = {
            name: Update(effort, self.organizations[name].group or name, z[name])
            for name, effort in efforts.items()
        }
        for rider in federation.free_riders:
            sent = _sent(rider, updates, self.organizations, z[rider.name])
            if sent is not None:
                updates[rider.name] = sent
        if len(updates) < federation.terms.minimum:
            return dict.fromkeys(updates, 0)
        response = federation.calibration.response
        found = scores(
            updates, self.progress, response, federation.calibration.noise, federation.terms.limits
        )
        whole = sum(efforts.values())
        gained = float(response.progress(whole))
        for name, effort in efforts.items():
            self._part[name] += gained * effort / whole
        self.progress += gained
        return found

    def _settle(self, name: str, played: PlayedRound, *, lost: bool) -> float:
        """Note what a round brought an organization; return what its agent learns from."""
        organization, action = self.organizations[name], played.actions[name]
        cost, paid = organization.costs[action], played.paid.get(name, 0)
        self._last[name] = action
        self._spent[name] += cost
        if action != SKIP:
            self._joined[name].append((self.round, Outcome(paid, played.costs[name])))
        if self.round % self.federation.terms.epoch == 0:
            self._spent[name] = 0
        return reward_of(
            paid=paid,
            cost=cost,
            full_cost=organization.costs[-1],
            price=organization.price,
            failed=action != SKIP and lost,
            penalty=self.federation.terms.penalty,
        )

    def _shocks(self) -> set[str]:
        """Apply what happens before the coming round; return who leaves."""
        leaving = set()
        for shock in self.federation.shocks:
            if shock.round != self.round or shock.organization not in self.agents:
                continue
            name = shock.organization
            if shock.price_factor:
                organization = self.organizations[name]
                price = organization.price * shock.price_factor
                self.organizations[name] = replace(organization, price=price)
            else:
                leaving.add(name)
                self.progress -= self._part[name]
                self._part[name] = 0.0
        return leaving

    def _observe(self, names: list[str]) -> dict[str, Observation]:
        self.views = {name: self._view(name) for name in names}
        return {
            name: {
                "observation": np.array(view.state, dtype=np.int64),
                "action_mask": np.array(view.permitted, dtype=np.int8),
            }
            for name, view in self.views.items()
        }


def _sent(
    rider: FreeRider,
    updates: dict[str, Update],
    organizations: dict[str, Organization],
    z: float,
) -> Update | None:
    """Return a free rider's update; none where it counts for nothing.

    Zeros take no part in the comparison. A copy of an update that did not arrive is none. Noise is
    measured like any other update.
    """
    if rider.sends == "noise":
        return Update(0.0, rider.name, z)
    if rider.sends == "copy" and rider.of in updates:
        return Update(updates[rider.of].effort, organizations[rider.of].group or rider.of, z)
    return None
