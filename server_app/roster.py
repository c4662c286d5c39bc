"""Who is there: asks every connected node which organizations it answers for."""

import time
from collections.abc import Sequence

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from strategies import protocol
from strategies.reply_errors import error_of

_POLL_SECONDS = 1.0


class RosterError(RuntimeError):
    """An organization of the run did not come, or two nodes claim the same one."""


def find_organizations(
    grid: Grid, organizations: Sequence[str], *, timeout: float = 120.0
) -> dict[str, int]:
    """Wait until every organization has a node.

    In a simulation a node may answer for several organizations.

    Parameters
    ----------
    grid : Grid
        Flower's connection to the nodes.
    organizations : sequence of str
        Who takes part.
    timeout : float
        Seconds to wait for nodes to connect and answer.

    Returns
    -------
    dict of str to int
        The node of each organization.

    Raises
    ------
    RosterError
        If one is missing after ``timeout``, or claimed by two nodes.
    """
    deadline = time.monotonic() + timeout
    nodes: dict[str, int] = {}
    asked: set[int] = set()
    while not set(organizations) <= nodes.keys():
        left = deadline - time.monotonic()
        if left <= 0:
            missing = [name for name in organizations if name not in nodes]
            raise RosterError(
                f"no node answers for {', '.join(missing)} after {timeout:.0f} s; "
                f"{len(asked)} nodes are connected"
            )
        new = set(grid.get_node_ids()) - asked
        if not new:
            time.sleep(_POLL_SECONDS)
            continue
        replies = grid.send_and_receive(
            [
                Message(
                    content=RecordDict({protocol.HEADER: ConfigRecord({})}),
                    message_type=protocol.HELLO,
                    dst_node_id=node,
                    group_id="hello",
                    ttl=left,
                )
                for node in sorted(new)
            ],
            timeout=left,
        )
        for reply in replies:
            node = reply.metadata.src_node_id
            asked.add(node)
            for name in _served(reply):
                if name in nodes and nodes[name] != node:
                    raise RosterError(f"nodes {nodes[name]} and {node} both answer for {name!r}")
                nodes[name] = node
    return {name: nodes[name] for name in organizations}


def _served(reply: Message) -> list[str]:
    if reply.has_error():
        raise RosterError(
            f"node {reply.metadata.src_node_id} failed at its first message: {error_of(reply)}"
        )
    header = reply.content.get(protocol.HEADER)
    names = header.get(protocol.ORGANIZATIONS) if isinstance(header, ConfigRecord) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RosterError(
            f"node {reply.metadata.src_node_id} does not say which organizations it answers for"
        )
    return [str(name) for name in names]
