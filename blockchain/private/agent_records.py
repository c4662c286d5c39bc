"""What the participation agent writes: what it began with, each decision, and what that brought.

Together they make the agent again: whoever replays them in order ends with the same tables.
"""

from math import prod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from blockchain.private.record_fields import Hash, Number, Part, Real, Slug, Wei


class AgentParameters(Part):
    """How an agent learns and explores: see `client_app.agent.double_q.Parameters`."""

    discount: Real
    learning_rate_floor: Real
    learning_rate_power: Real
    exploration_start: Real
    exploration_end: Real
    exploration_steps: Number
    optimism: Real


class AgentFounding(Part):
    """What an agent began with; stands in its first decision.

    Parameters
    ----------
    fingerprint : str
        Hash of what its states and actions are, 32 bytes.
    shape : tuple of int
        Values of each of the state's coordinates.
    parameters : AgentParameters
        How it learns and explores.
    seed : str
        What its random numbers begin with, 32 bytes.
    tables, visits : tuple of str, tuple of int
        The two tables of estimates and how often each entry was updated, in C order: two times
        the states times the actions.
    """

    fingerprint: Hash
    shape: Annotated[tuple[Number, ...], Field(min_length=1, max_length=16)]
    parameters: AgentParameters
    seed: Hash
    tables: Annotated[tuple[Real, ...], Field(max_length=10_000)]
    visits: Annotated[tuple[Number, ...], Field(max_length=10_000)]


class AgentDecision(Part):
    """What the participation agent chose in a round, and from what.

    Parameters
    ----------
    task : str
        The task's id, 32 bytes.
    round, rounds : int
        The round, and how many the task has.
    mode : {"learn", "evaluate"}
        Whether the agent learns from it.
    state : tuple of int
        The state's coordinates.
    actions : tuple of str
        All actions, in the agent's order; the first one is to stay away.
    costs : tuple of int
        Tokens that each would take; the last one's are those of full effort.
    price : str
        What a token costs the organization, in wei.
    permitted : tuple of bool
        Which of them the budget allowed.
    probabilities : tuple of str
        With which each was chosen.
    action : int
        Which was.
    tables : str
        Hash of the agent's tables when it chose, 32 bytes.
    founding : AgentFounding or None
        What the agent began with, where this is its first decision.
    put_back : int or None
        Number of the record before which the agent was put back to decide this: what it decided and
        learned since is as if it had never been.
    """

    record_type: ClassVar[str] = "agent-decision"
    added_later: ClassVar[tuple[str, ...]] = ("put_back",)

    task: Hash
    round: Number
    rounds: Number
    mode: Literal["learn", "evaluate"]
    state: Annotated[tuple[Number, ...], Field(max_length=16)]
    actions: Annotated[tuple[Slug, ...], Field(min_length=1, max_length=64)]
    costs: tuple[Number, ...]
    price: Wei
    permitted: tuple[bool, ...]
    probabilities: tuple[Real, ...]
    action: Number
    tables: Hash
    founding: AgentFounding | None
    put_back: Number | None = None

    @model_validator(mode="after")
    def _one_of_each_action(self) -> Self:
        count = len(self.actions)
        if not len(self.permitted) == len(self.probabilities) == len(self.costs) == count:
            raise ValueError(
                "permitted, probabilities, costs: expected one for each of the actions"
            )
        if self.action >= count:
            raise ValueError(f"action: expected one of {count}, from 0")
        if not self.permitted[self.action]:
            raise ValueError("action: expected one that was permitted")
        return self

    @model_validator(mode="after")
    def _tables_of_their_size(self) -> Self:
        if self.founding is not None:
            size = 2 * prod(self.founding.shape) * len(self.actions)
            if not len(self.founding.tables) == len(self.founding.visits) == size:
                raise ValueError(f"tables, visits: expected {size} each")
        return self


class AgentReward(Part):
    """What a decision brought.

    Parameters
    ----------
    decision : int
        Number of the decision's record.
    paid : str
        What arrived, in wei.
    cost : int
        Tokens processed.
    failed : bool
        Whether the organization trained and the round did not count it.
    reward : str
        What the agent learned from, in units of the cost of full effort.
    """

    record_type: ClassVar[str] = "agent-reward"

    decision: Number
    paid: Wei
    cost: Number
    failed: bool
    reward: Real
