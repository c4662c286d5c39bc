"""Who is there: asks every connected node which organizations it answers for."""

import time
from collections.abc import Mapping, Sequence

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from blockchain.public_chain import PublicChain
from strategies import protocol
from strategies.deployed_members import MembersError, member_nodes
from strategies.joined import JoinedError
from strategies.reply_errors import error_of
from strategies.settings import RunSettings

_POLL_SECONDS = 1.0


class RosterError(RuntimeError):
    """An organization of the run did not come, or two nodes claim the same one."""


def find_members(
    grid: Grid,
    organizations: Sequence[str],
    settings: RunSettings,
    chain: PublicChain,
    *,
    timeout: float = 120.0,
) -> dict[str, int]:
    """Wait until every organization has a node: on separate machines, the registry's.

    Parameters
    ----------
    settings : RunSettings
        The run's.
    chain : PublicChain
        A connection that can read.
    grid, organizations, timeout
        See :func:`find_organizations`, also for what is returned and raised.
    """
    try:
        known = member_nodes(settings, chain, organizations) if settings.bundle else None
    except (MembersError, JoinedError) as error:
        raise RosterError(str(error)) from None
    return find_organizations(grid, organizations, timeout=timeout, known=known)


def find_organizations(
    grid: Grid,
    organizations: Sequence[str],
    *,
    timeout: float = 120.0,
    known: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Wait until every organization has a node.

    In a simulation a node may answer for several organizations. On separate machines the registry
    says which node is whose, and no other is asked: what it would call itself does not matter.

    Parameters
    ----------
    grid : Grid
        Flower's connection to the nodes.
    organizations : sequence of str
        Who takes part.
    timeout : float
        Seconds to wait for nodes to connect and answer.
    known : mapping of str to int, optional
        The node of each organization.

    Returns
    -------
    dict of str to int
        The node of each organization.

    Raises
    ------
    RosterError
        If one is missing after ``timeout``, claimed by two nodes, or a known node does not answer
        for its organization.
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
        if known is not None:
            new &= {known[name] for name in organizations}
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
            served = _served(reply)
            if known is not None:
                served = [name for name in served if known.get(name) == node]
                if not served:
                    raise RosterError(f"node {node} does not answer for whom the registry says")
            for name in served:
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
