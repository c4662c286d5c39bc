"""An agent's decisions for people, one line each."""

from collections.abc import Sequence
from typing import Any

from blockchain.private.agent_records import AgentDecision, AgentReward


def decision_lines(
    records: Sequence[tuple[int, AgentDecision | AgentReward]],
) -> list[dict[str, Any]]:
    """Return one entry for each decision, with what it brought where that is known.

    Parameters
    ----------
    records : sequence of (int, AgentDecision or AgentReward)
        Of the ledger, in order, each with its number.
    """
    rewards = {
        payload.decision: payload for _, payload in records if isinstance(payload, AgentReward)
    }
    lines = []
    for number, payload in records:
        if isinstance(payload, AgentReward):
            continue
        brought, tokens = rewards.get(number), payload.costs[payload.action]
        lines.append(
            {
                "record": number,
                "task": payload.task,
                "round": payload.round,
                "mode": payload.mode,
                "state": list(payload.state),
                "permitted": list(payload.permitted),
                "action": payload.actions[payload.action],
                "probability": float.fromhex(payload.probabilities[payload.action]),
                "tokens": tokens,
                "cost_gwei": tokens * int(payload.price) // 10**9,
                "paid_wei": None if brought is None else brought.paid,
                "failed": None if brought is None else brought.failed,
                "reward": None if brought is None else float.fromhex(brought.reward),
            }
        )
    return lines
