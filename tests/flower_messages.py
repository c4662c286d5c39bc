"""Flower messages with the ids that they have on their way.

In a test module: ``pytestmark = pytest.mark.usefixtures("flower_task")``.
"""

import itertools

import pytest
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.supercore.task_identity import TaskIdentity

#: The coordinator's node id, in these tests.
COORDINATOR = 1

_ids = itertools.count(1)


@pytest.fixture
def flower_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a ServerApp's process: without an identity, Flower makes no message."""
    for name, value in (("_task_id", 1), ("_run_id", 1), ("_node_id", COORDINATOR)):
        monkeypatch.setattr(TaskIdentity, name, value)


def sent(message: Message) -> Message:
    """A message with the id that the SuperLink gives it, in place as Flower does it."""
    message.metadata.__dict__["_message_id"] = f"message-{next(_ids)}"
    return message


def reply_to(message: Message, answer: RecordDict | Error, *, node: int | None = None) -> Message:
    """The reply to a message; from another node than the one asked, if that is given."""
    asked = message.metadata
    metadata = Metadata(
        run_id=asked.run_id,
        message_id=f"reply-{next(_ids)}",
        src_node_id=asked.dst_node_id if node is None else node,
        dst_node_id=asked.src_node_id,
        reply_to_message_id=asked.message_id,
        group_id=asked.group_id,
        created_at=asked.created_at,
        ttl=asked.ttl,
        message_type=asked.message_type,
    )
    return Message(answer, metadata=metadata)


def invitation_message(node: int) -> Message:
    """A message to a node, empty."""
    return sent(Message(RecordDict(), dst_node_id=node, message_type="train", ttl=60.0))
