"""An organization's agent beside its private ledger: every decision and reward is a record.

The ledger comes first. A decision is written before anything is done about it, a reward before it
is learned from; the agent's file follows. Cut short in between, the file is behind, and the next
opening takes in the records that it lacks.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from blockchain.private.agent_records import AgentDecision, AgentReward
from blockchain.private.drafts import Draft
from blockchain.private.ledger import Ledger
from blockchain.private.open_ledger import OpenLedger
from client_app.agent import replay
from client_app.agent.action_space import ACTIONS, SKIP, ActionSpace
from client_app.agent.agent_file import (
    AgentError,
    OpenDecision,
    SavedAgent,
    load_agent,
    save_agent,
)
from client_app.agent.agent_start import AgentStart
from client_app.agent.replay import Brought, Mode
from client_app.agent.situation import Situation

AGENT_FILE: Final = "agent.safetensors"


class OwnAgent:
    """One organization's agent, beside its open ledger.

    Parameters
    ----------
    folder : Path
        The organization's folder.
    ledger : Ledger
        Its private ledger, open as a trainer.
    space : ActionSpace
        The actions under the task's terms.
    start : AgentStart
        What a new agent begins with.

    Raises
    ------
    AgentError
        The agent is another ledger's, of other actions, or not what its ledger says.
    LedgerError
        The ledger cannot be read.
    """

    def __init__(self, folder: Path, ledger: Ledger, space: ActionSpace, start: AgentStart) -> None:
        self._path = folder / AGENT_FILE
        self._ledger = ledger
        self._space = space
        name = ledger.history.ledger.hex()
        saved = load_agent(self._path, space)
        if saved is not None and saved.ledger != name:
            raise AgentError(
                f"{self._path}: the agent of ledger 0x{saved.ledger[:16]}…, this one is "
                f"0x{name[:16]}…"
            )
        self._agent = saved or replay.begun(start, name)
        self._catch_up()

    @property
    def state(self) -> SavedAgent:
        """The agent as it stands; not to be changed."""
        return self._agent

    def decide(
        self,
        task: bytes,
        situation: Situation,
        *,
        price: int,
        mode: Mode,
        put_back: int | None = None,
    ) -> OpenDecision:
        """Decide about a round, once: asked again, the decision is the same.

        Parameters
        ----------
        task : bytes
            Id of the task, 32 bytes.
        situation : Situation
            What is known.
        price : int
            Wei a token.
        mode : {"learn", "evaluate"}
            Whether the agent explores and learns from it; evaluating changes neither its tables
            nor its random state.
        put_back : int, optional
            Number of a decision's record: the agent decides as it was before that, and what it
            decided and learned since no longer counts.
        """
        if put_back is not None:
            records = read_records(self._ledger, agent_records(self._ledger))
            name = self._ledger.history.ledger.hex()
            self._agent = replay.put_back(records, put_back, self._space, name)
        agent = self._agent
        for decision in agent.open:
            if (decision.task, decision.round) == (task.hex(), situation.round):
                return decision
        founding = None if agent.founded else replay.founding_of(agent, self._space)
        state, permitted = situation.state(), situation.permitted()
        tables = replay.tables_hash(agent.learner)
        choice = replay.choose(agent.learner, state, permitted, mode)
        payload = AgentDecision(
            task=task.hex(),
            round=situation.round,
            rounds=situation.rounds,
            mode=mode,
            state=state,
            actions=ACTIONS,
            costs=situation.costs,
            price=str(price),
            permitted=permitted,
            probabilities=replay.written(choice),
            action=choice.action,
            tables=tables.hex(),
            founding=founding,
            put_back=put_back,
        )
        [number] = self._ledger.append(Draft(payload=payload))
        agent.founded = True
        decision = replay.note_decision(agent, number, payload)
        self._save(number + 1)
        return decision

    def settle(self, brought: Callable[[OpenDecision], Brought | None]) -> list[int]:
        """Write, and learn from, what decisions have brought by now.

        Parameters
        ----------
        brought : callable
            What a decision to join a round brought; ``None`` where that is not known yet.

        Returns
        -------
        list of int
            Numbers of the records.
        """
        rewards = []
        for decision in self._agent.open:
            if not decision.followed:
                continue
            came = Brought(0, failed=False) if decision.action == SKIP else brought(decision)
            if came is not None:
                rewards.append(replay.reward_for(decision, came))
        if not rewards:
            return []
        numbers = self._ledger.append(*(Draft(payload=reward) for reward in rewards))
        for reward in rewards:
            replay.learn(self._agent, reward)
        self._save(numbers[-1] + 1)
        return numbers

    def _catch_up(self) -> None:
        """Take in the records of decisions and rewards that the file does not know."""
        size = self._ledger.history.size
        if self._agent.position > size:
            raise AgentError(
                f"{self._path}: it has taken in {self._agent.position} records, the ledger has "
                f"{size}: one of the two was put back. Move the agent's file away, and the ledger "
                "makes it again"
            )
        numbers = [n for n in agent_records(self._ledger) if n >= self._agent.position]
        records = read_records(self._ledger, numbers)
        if any(isinstance(one, AgentDecision) and one.put_back is not None for _, one in records):
            everything = read_records(self._ledger, agent_records(self._ledger))
            name = self._ledger.history.ledger.hex()
            self._agent = replay.replayed(everything, self._space, name) or self._agent
            records = []
        for number, payload in replay.since_founding(records):
            self._agent = replay.take_in(self._agent, number, payload, self._space)
        if numbers:
            self._save(numbers[-1] + 1)

    def _save(self, position: int) -> None:
        self._agent.position = position
        save_agent(self._path, self._agent, self._space)


def begin_anew(folder: Path, ledger: OpenLedger, space: ActionSpace, start: AgentStart) -> None:
    """Put a new agent in the place of the old one, which stays in the ledger.

    Parameters
    ----------
    folder : Path
        The organization's folder.
    ledger : OpenLedger
        Its private ledger: the new agent takes in no record that is there by now.
    space : ActionSpace
        The actions under the task's terms.
    start : AgentStart
        What the new agent begins with.
    """
    agent = replay.begun(start, ledger.history.ledger.hex())
    agent.position = ledger.history.size
    save_agent(folder / AGENT_FILE, agent, space)


def agent_records(ledger: OpenLedger) -> list[int]:
    """Return the numbers of a ledger's records of decisions and rewards, in order."""
    return sorted(
        number
        for record_type in (AgentDecision.record_type, AgentReward.record_type)
        for number in ledger.payloads_left(record_type)
    )


def read_records(ledger: OpenLedger, numbers: Iterable[int]) -> list[replay.Numbered]:
    """Read an agent's records, in order."""
    return [
        (opened.leaf.record, opened.payload)
        for opened in ledger.read_all(list(numbers), "agent")
        if isinstance(opened.payload, AgentDecision | AgentReward)
    ]
