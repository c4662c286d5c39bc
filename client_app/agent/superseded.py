"""What an agent decided in rounds that are made again: from where, and what it knew by then.

A run that unlearns makes rounds again as if the forgotten data had never been. The agent decides
anew, as it was before the first of them. When a reward arrived is taken from the record: how soon a
round became final says nothing of the data. What it came to is not: scores are made again.
"""

from collections.abc import Callable, Sequence

from blockchain.private.agent_records import AgentDecision, AgentReward
from client_app.agent.agent_file import OpenDecision
from client_app.agent.replay import Numbered, effective
from strategies.lineage import Lineage


def first_superseded(records: Sequence[Numbered], kept: Lineage) -> int | None:
    """Return the record of the first decision, of those that count, about a round made again.

    Parameters
    ----------
    records : sequence of (int, AgentDecision or AgentReward)
        All of the ledger's, in order.
    kept : Lineage
        Which rounds stand as they are.
    """
    tasks = {span.task.hex() for span in kept.spans}
    numbers = [
        number
        for number, payload in effective(records)
        if isinstance(payload, AgentDecision)
        and payload.task in tasks
        and payload.round > kept.after
    ]
    return min(numbers, default=None)


def learned_before(
    records: Sequence[Numbered], kept: Lineage, task: bytes, round: int
) -> Callable[[OpenDecision], bool] | None:
    """Return whether a decision's reward had been learned from before a round, in the first run.

    Parameters
    ----------
    records : sequence of (int, AgentDecision or AgentReward)
        All of the ledger's, in order.
    kept : Lineage
        Which rounds stand as they are.
    task : bytes
        The task that makes the others again, 32 bytes.
    round : int
        The logical round that is about to be decided.

    Returns
    -------
    callable or None
        ``None`` where the first run did not come so far: then the record says nothing.
    """
    replaced = (kept.replaced or b"").hex()
    decided = {
        payload.round: number
        for number, payload in records
        if isinstance(payload, AgentDecision) and payload.task == replaced
    }
    if round not in decided:
        return None
    learned = {
        payload.decision: number for number, payload in records if isinstance(payload, AgentReward)
    }

    def known(decision: OpenDecision) -> bool:
        again = decision.task == task.hex()
        first = decided.get(decision.round) if again else decision.record
        return first in learned and learned[first] < decided[round]

    return known
