"""Policies that play the game on the real model: who joins a round, and how hard."""

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from client_app.agent.action_space import ACTIONS, SKIP, ActionSpace
from client_app.agent.agent_file import learner_of, seeded_random
from client_app.agent.agent_start import agent_start
from client_app.agent.double_q import DoubleQ, State, Transition
from client_app.agent.replay import FAILURE_PENALTY
from client_app.agent.situation import Outcome, Situation, reward_of
from llm.keyed_hash import encoded, keyed_hash
from strategies.rewards import WEI_PER_GWEI
from strategies.settings import RunSettings

_PURPOSE: Final = "foedus/participation-on-models/v1"


class Policy(Protocol):
    """Decides for every organization."""

    def decide(self, round: int, organization: str, costs: tuple[int, ...]) -> int:
        """Return the action, given what each would cost in this round, tokens."""
        ...

    def told(self, organization: str, paid: int, *, counted: bool) -> None:
        """Learn, after a round, what it paid (wei) and whether it counted."""
        ...

    def describe(self) -> dict[str, Any]:
        """Lay out the settings of its own."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same action always."""

    action: int

    def decide(self, round: int, organization: str, costs: tuple[int, ...]) -> int:
        """Return it."""
        return self.action

    def told(self, organization: str, paid: int, *, counted: bool) -> None:
        """Take no notice."""

    def describe(self) -> dict[str, Any]:
        """Return nothing: the name says all."""
        return {}


@dataclass(frozen=True)
class Mixed:
    """Any of the actions, drawn for each organization and round by a keyed hash of the seed."""

    seed: int

    def decide(self, round: int, organization: str, costs: tuple[int, ...]) -> int:
        """Return what is drawn."""
        drawn = keyed_hash(encoded(_PURPOSE, self.seed), _PURPOSE, "mixed", round, organization)
        return int.from_bytes(drawn, "big") % len(ACTIONS)

    def told(self, organization: str, paid: int, *, counted: bool) -> None:
        """Take no notice."""

    def describe(self) -> dict[str, Any]:
        """Return nothing: the seed says all."""
        return {}


@dataclass
class _Learner:
    """One organization's agent, and what it remembers."""

    agent: DoubleQ
    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    spent: int = 0
    round: int = 0
    state: State = ()
    action: int = SKIP
    costs: tuple[int, ...] = ()
    reward: float | None = None


class Learned:
    """The agents that a run would begin with, each learning on.

    What a round earned is known two rounds later, as in a run; it is learned from at once, for in a
    run the same transitions are learned in the same order, only later.

    Parameters
    ----------
    settings : RunSettings
        The run's, with prices and budget.
    """

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        space = ActionSpace(settings.effort)
        self._learners = {}
        for name in settings.organization_names:
            start = agent_start(space, seed=settings.seed, organization=name)
            agent = learner_of(start.parameters, start.tables, start.visits)
            agent.random = seeded_random(start.seed)
            self._learners[name] = _Learner(agent)

    def decide(self, round: int, organization: str, costs: tuple[int, ...]) -> int:
        """Learn from the round before, and choose."""
        learner, settings = self._learners[organization], self._settings
        if (round - 1) % settings.budget_epoch == 0:
            learner.spent = 0
        situation = Situation(
            round=round,
            rounds=settings.rounds,
            budget=settings.token_budget,
            spent=learner.spent,
            outcomes=[outcome for number, outcome in learner.outcomes if number < round - 1],
            last_action=learner.action,
            costs=costs,
        )
        state, permitted = situation.state(), situation.permitted()
        if learner.reward is not None:
            learner.agent.learn(
                Transition(learner.state, learner.action, learner.reward, state, permitted)
            )
        learner.round, learner.state, learner.costs = round, state, costs
        learner.action = learner.agent.choose(state, permitted).action
        learner.spent += costs[learner.action]
        return learner.action

    def told(self, organization: str, paid: int, *, counted: bool) -> None:
        """Note what the round brought; that too few others joined is no failure."""
        learner = self._learners[organization]
        price = self._settings.token_price_of(organization) * WEI_PER_GWEI
        cost = learner.costs[learner.action]
        if learner.action != SKIP:
            learner.outcomes.append((learner.round, Outcome(paid, cost * price)))
        learner.reward = reward_of(
            paid=paid,
            cost=cost,
            full_cost=learner.costs[-1],
            price=price,
            failed=False,
            penalty=FAILURE_PENALTY,
        )

    def describe(self) -> dict[str, Any]:
        """Return prices and budget."""
        return {
            "price_gwei": self._settings.token_price,
            "budget": self._settings.token_budget,
            "epoch_rounds": self._settings.budget_epoch,
        }
