"""Which rounds each request is about: asked of the organizations, held against their keys."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from llm.json_nesting import check_nesting
from strategies import protocol
from strategies.protocol import ProtocolError
from strategies.reply_errors import error_of
from unlearning.replay_plan import Method, SignedPlan


@dataclass(frozen=True)
class Plan:
    """The rounds that a request is about.

    Parameters
    ----------
    rounds : tuple of int
        Logical rounds, ascending; empty where nothing is to forget.
    signed : SignedPlan or None
        The organization's word on it; ``None`` for a whole organization, whose rounds the
        manifests show.
    """

    rounds: tuple[int, ...]
    signed: SignedPlan | None

    @property
    def first(self) -> int:
        """The first affected round; 0 where there is none."""
        return self.rounds[0] if self.rounds else 0

    @property
    def method(self) -> Method:
        """How it is to be forgotten."""
        return "exact" if self.signed is None else self.signed.plan.method

    def to_json(self) -> dict[str, Any]:
        """Lay the plan out."""
        return {
            "rounds": list(self.rounds),
            "signed": None if self.signed is None else self.signed.to_json(),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Plan":
        """Read it back; `ValueError`, `KeyError` or `TypeError` if it was altered."""
        signed = entry["signed"]
        return cls(
            tuple(int(one) for one in entry["rounds"]),
            None if signed is None else SignedPlan.from_json(signed),
        )


def ask_for_plans(
    grid: Grid,
    asked: Mapping[str, tuple[int, Sequence[bytes]]],
    *,
    task: bytes,
    run: str,
    rounds: int,
    deadline: float,
    chain: PublicChain,
) -> dict[bytes, SignedPlan | str]:
    """Ask organizations which rounds their requests are about.

    Parameters
    ----------
    grid : Grid
        The connection.
    asked : mapping of str to (int, sequence of bytes)
        Node and ids of requests, by organization.
    task : bytes
        The run's task, 32 bytes.
    run : str
        The run's name.
    rounds : int
        The last logical round that it came to.
    deadline : float
        Seconds to wait.
    chain : PublicChain
        Knows the organizations' keys.

    Returns
    -------
    dict of bytes to SignedPlan or str
        By request; where there is no plan, why.
    """
    messages = {
        name: _message(name, one, task, run, rounds, deadline) for name, one in asked.items()
    }
    replies = {
        reply.metadata.reply_to_message_id: reply
        for reply in grid.send_and_receive(list(messages.values()), timeout=deadline)
    }
    found: dict[bytes, SignedPlan | str] = {}
    for name, message in messages.items():
        identifiers = asked[name][1]
        reply = replies.get(message.metadata.message_id)
        if reply is None or reply.has_error():
            found |= dict.fromkeys(identifiers, f"{name} did not say: {error_of(reply)}")
            continue
        try:
            answers = _read(reply.content, name, task, rounds, chain)
        except ValueError as error:
            found |= dict.fromkeys(identifiers, f"{name} did not say in order: {error}")
            continue
        for identifier in identifiers:
            found[identifier] = answers.get(identifier, f"{name} said nothing of it")
    return found


def _message(
    name: str,
    asked: tuple[int, Sequence[bytes]],
    task: bytes,
    run: str,
    rounds: int,
    deadline: float,
) -> Message:
    header = protocol.header_record(
        {
            "organization": name,
            "task": task,
            "run": run,
            "rounds": rounds,
            "requests": list(asked[1]),
        }
    )
    return Message(
        content=RecordDict({protocol.HEADER: header}),
        message_type=protocol.FORGET,
        dst_node_id=asked[0],
        group_id="forget",
        ttl=deadline,
    )


def _read(
    content: RecordDict, name: str, task: bytes, rounds: int, chain: PublicChain
) -> dict[bytes, SignedPlan | str]:
    """Read an organization's plans and reasons; `ValueError` for the first that is not in order."""
    header = content.config_records.get(protocol.HEADER)
    if header is None:
        raise ProtocolError("an answer without a header")
    found: dict[bytes, SignedPlan | str] = {}
    identity = organization_id(name)
    refused = _document(protocol.data(header, "refused"))
    if not isinstance(refused, dict):
        raise ProtocolError("refused: expected reasons by request")
    for identifier, reason in refused.items():
        found[bytes.fromhex(identifier)] = str(reason)[:500]
    plans = _document(protocol.data(header, "plans"))
    if not isinstance(plans, list):
        raise ProtocolError("plans: expected a list")
    for entry in plans:
        signed = SignedPlan.from_json(entry)
        signed.check(chain.unlearning_domain, chain.members.key_of(identity))
        plan = signed.plan
        if (plan.organization, plan.task) != (identity, task):
            raise ProtocolError("a plan of another organization or task")
        if plan.rounds and plan.rounds[-1] > rounds:
            raise ProtocolError(f"round {plan.rounds[-1]}, the run came to {rounds}")
        found[plan.id] = signed
    return found


def _document(content: bytes) -> Any:
    text = content.decode("utf-8")
    check_nesting(text)
    return json.loads(text)
