"""An agent from record to record of its private ledger, without touching a file.

What happens live and what a replay does is one code: decisions draw from the agent's random state,
rewards move its tables, in the order of their records.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from blockchain.canonical import canonical_float, hash_arrays
from blockchain.private.agent_records import (
    AgentDecision,
    AgentFounding,
    AgentParameters,
    AgentReward,
)
from client_app.agent.action_space import ACTIONS, STATE_SHAPE, ActionSpace
from client_app.agent.agent_file import (
    MOST_OPEN,
    AgentError,
    AgentMismatchError,
    OpenDecision,
    SavedAgent,
    learner_of,
    parameters_from_json,
    parameters_to_json,
    seeded_random,
)
from client_app.agent.agent_start import AgentStart
from client_app.agent.double_q import Choice, DoubleQ, State, Transition
from client_app.agent.situation import reward_of

Mode = Literal["learn", "evaluate"]

#: A record's number, and what it holds.
Numbered = tuple[int, AgentDecision | AgentReward]

#: What training for nothing costs beside the tokens, in units of the cost of full effort.
FAILURE_PENALTY: Final = 0.25


@dataclass(frozen=True)
class Brought:
    """What a decision brought.

    Parameters
    ----------
    paid : int
        Wei that arrived.
    failed : bool
        Whether the organization trained and the round did not count it.
    """

    paid: int
    failed: bool


def begun(start: AgentStart, ledger: str) -> SavedAgent:
    """Return a new agent, which its ledger does not know yet.

    Parameters
    ----------
    start : AgentStart
        What it begins with.
    ledger : str
        Id of the private ledger, hexadecimal.
    """
    learner = learner_of(start.parameters, start.tables, start.visits)
    learner.random = seeded_random(start.seed)
    return SavedAgent(learner, seed=start.seed.hex(), ledger=ledger)


def founding_of(agent: SavedAgent, space: ActionSpace) -> AgentFounding:
    """Return what a new agent's first decision says of its beginning."""
    learner = agent.learner
    return AgentFounding(
        fingerprint=space.fingerprint().hex(),
        shape=STATE_SHAPE,
        parameters=AgentParameters(**parameters_to_json(learner.parameters)),
        seed=agent.seed,
        tables=tuple(canonical_float(float(value)) for value in learner.tables.ravel()),
        visits=tuple(int(value) for value in learner.visits.ravel()),
    )


def founded(founding: AgentFounding, space: ActionSpace, ledger: str) -> SavedAgent:
    """Return an agent as its first decision says that it began.

    Raises
    ------
    AgentError
        If it is an agent of other actions.
    """
    if founding.fingerprint != space.fingerprint().hex():
        raise AgentMismatchError(
            f"the ledger's agent has actions of fingerprint 0x{founding.fingerprint[:16]}…, these "
            f"terms 0x{space.fingerprint().hex()[:16]}…: begin a new one with `foedus agent reset`"
        )
    shape = (2, *STATE_SHAPE, len(ACTIONS))
    tables = np.array([float.fromhex(value) for value in founding.tables], dtype=np.float64)
    visits = np.array(founding.visits, dtype=np.int64)
    parameters = parameters_from_json(founding.parameters.model_dump())
    learner = learner_of(parameters, tables.reshape(shape), visits.reshape(shape))
    learner.random = seeded_random(bytes.fromhex(founding.seed))
    return SavedAgent(learner, seed=founding.seed, ledger=ledger, founded=True)


def choose(learner: DoubleQ, state: State, permitted: tuple[bool, ...], mode: Mode) -> Choice:
    """Decide; evaluating changes neither tables nor random state."""
    return learner.choose(state, permitted) if mode == "learn" else learner.best(state, permitted)


def note_decision(agent: SavedAgent, number: int, payload: AgentDecision) -> OpenDecision:
    """Add a decision that was made to those that wait for what they bring; it follows the last."""
    learning = payload.mode == "learn"
    if learning:
        agent.open = [
            one
            if one.followed
            else replace(one, following=payload.state, permitted=payload.permitted)
            for one in agent.open
        ]
    decision = OpenDecision(
        record=number,
        task=payload.task,
        round=payload.round,
        learning=learning,
        last=payload.round >= payload.rounds,
        state=payload.state,
        action=payload.action,
        costs=payload.costs,
        price=int(payload.price),
    )
    agent.open = [*agent.open, decision][-MOST_OPEN:]
    return decision


def reward_for(decision: OpenDecision, brought: Brought) -> AgentReward:
    """Return the record of what a decision brought."""
    cost = decision.costs[decision.action]
    reward = reward_of(
        paid=brought.paid,
        cost=cost,
        # With no records at all there was nothing to decide, and nothing to count in.
        full_cost=max(1, decision.costs[-1]),
        price=decision.price,
        failed=brought.failed,
        penalty=FAILURE_PENALTY,
    )
    return AgentReward(
        decision=decision.record,
        paid=str(brought.paid),
        cost=cost,
        failed=brought.failed,
        reward=canonical_float(reward),
    )


def learn(agent: SavedAgent, reward: AgentReward) -> None:
    """Learn from a reward; its decision waits no longer.

    Raises
    ------
    AgentError
        If no decision waits for it.
    """
    decision = _waiting(agent, reward)
    if decision.learning:
        agent.learner.learn(
            Transition(
                decision.state,
                decision.action,
                float.fromhex(reward.reward),
                decision.following,
                decision.permitted,
            )
        )
    agent.open = [one for one in agent.open if one.record != reward.decision]


def take_in(
    agent: SavedAgent, number: int, payload: AgentDecision | AgentReward, space: ActionSpace
) -> SavedAgent:
    """Do again what a record says was done, and return the agent after it.

    Raises
    ------
    AgentError
        If it comes to something else than the record says.
    """
    if isinstance(payload, AgentReward):
        decision = _waiting(agent, payload)
        if reward_for(decision, Brought(int(payload.paid), payload.failed)) != payload:
            raise AgentError(f"record {number}: its reward is not what was paid less the cost")
        learn(agent, payload)
    else:
        if payload.founding is not None:
            agent = founded(payload.founding, space, agent.ledger)
        elif not agent.founded:
            raise AgentError(
                f"record {number}: nothing before it says what the agent began with: was it erased?"
            )
        tables = tables_hash(agent.learner)
        choice = choose(agent.learner, payload.state, payload.permitted, payload.mode)
        if (tables, choice.action, written(choice)) != (
            bytes.fromhex(payload.tables),
            payload.action,
            payload.probabilities,
        ):
            raise AgentError(
                f"record {number}: replayed, the agent chose {ACTIONS[choice.action]!r} by tables "
                f"0x{tables.hex()[:16]}…, the record says {payload.actions[payload.action]!r} by "
                f"0x{payload.tables[:16]}…"
            )
        note_decision(agent, number, payload)
    agent.position = number + 1
    return agent


def replayed(records: Iterable[Numbered], space: ActionSpace, ledger: str) -> SavedAgent | None:
    """Make the newest agent from its records alone; ``None`` where there are none.

    Parameters
    ----------
    records : iterable of (int, AgentDecision or AgentReward)
        Numbers and payloads, in order, from an agent's first decision on.
    space : ActionSpace
        What its actions must be.
    ledger : str
        Id of the private ledger, hexadecimal.

    Raises
    ------
    AgentError
        If a record is not what the agent would have done.
    """
    following = since_founding(effective(records))
    if not following:
        return None
    number, first = following[0]
    if isinstance(first, AgentReward) or first.founding is None:
        raise AgentError(
            f"record {number}: nothing before it says what the agent began with: was it erased?"
        )
    agent = founded(first.founding, space, ledger)
    for number, payload in following:
        agent = take_in(agent, number, payload, space)
    return agent


def effective(records: Iterable[Numbered]) -> list[Numbered]:
    """Return the records that count: of those that an agent was put back before, none does."""
    counted: list[Numbered] = []
    for number, payload in records:
        if isinstance(payload, AgentDecision) and payload.put_back is not None:
            counted = [one for one in counted if one[0] < payload.put_back]
        counted.append((number, payload))
    return counted


def put_back(
    records: Iterable[Numbered], before: int, space: ActionSpace, ledger: str
) -> SavedAgent:
    """Return the agent as it was before a record; to decide anew, and not to be kept as it is.

    Parameters
    ----------
    records : iterable of (int, AgentDecision or AgentReward)
        All of the ledger's, in order.
    before : int
        Number of a decision that counts.
    space : ActionSpace
        What its actions must be.
    ledger : str
        Id of the private ledger, hexadecimal.

    Raises
    ------
    AgentError
        If a record is not what the agent would have done.
    """
    counted = effective(records)
    agent = replayed([one for one in counted if one[0] < before], space, ledger)
    first = dict(counted).get(before)
    if isinstance(first, AgentDecision) and first.founding is not None:
        # What it began with is said by a decision that no longer counts: the next one says it.
        agent = replace(founded(first.founding, space, ledger), founded=False)
    if agent is None:
        raise AgentError(f"record {before}: no decision that the agent could be put back before")
    return agent


def since_founding(records: Sequence[Numbered]) -> Sequence[Numbered]:
    """Return the records of the newest agent: those from the last founding on, or all."""
    starts = [
        index
        for index, (_, payload) in enumerate(records)
        if isinstance(payload, AgentDecision) and payload.founding is not None
    ]
    return records[starts[-1] :] if starts else records


def differences(kept: SavedAgent | None, made: SavedAgent | None) -> list[str]:
    """Say in what the agent that was kept is not the one that its ledger makes.

    Parameters
    ----------
    kept : SavedAgent or None
        As its file has it. One that never decided is in no ledger.
    made : SavedAgent or None
        As its records make it.
    """
    if kept is None or not kept.founded:
        return []
    if made is None:
        return ["the ledger knows of no decision of the agent"]
    values = [
        {
            "tables": agent.learner.tables.tobytes(),
            "visits": agent.learner.visits.tobytes(),
            "step": agent.learner.step,
            "random state": agent.learner.random.bit_generator.state,
            "parameters": agent.learner.parameters,
            "waiting decisions": agent.open,
        }
        for agent in (kept, made)
    ]
    return [
        f"its {name}: another than its ledger makes"
        for name in values[0]
        if values[0][name] != values[1][name]
    ]


def tables_hash(learner: DoubleQ) -> bytes:
    """Return the hash of an agent's tables and counts, 32 bytes."""
    return hash_arrays({"tables": learner.tables, "visits": learner.visits})


def written(choice: Choice) -> tuple[str, ...]:
    """Return a choice's probabilities, exactly, as text."""
    return tuple(canonical_float(probability) for probability in choice.probabilities)


def _waiting(agent: SavedAgent, reward: AgentReward) -> OpenDecision:
    for decision in agent.open:
        if decision.record == reward.decision:
            return decision
    raise AgentError(f"a reward for the decision of record {reward.decision}, which waits for none")
