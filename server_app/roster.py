"""Who is there: asks every connected node which organizations it answers for."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

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
    enough: int | None = None,
    absent: Callable[[str, str], None] = lambda _, __: None,
) -> dict[str, int]:
    """Wait until every organization has a node: on separate machines, the registry's.

    Parameters
    ----------
    settings : RunSettings
        The run's.
    chain : PublicChain
        A connection that can read.
    grid, organizations, timeout, enough, absent
        See :func:`find_organizations`, also for what is returned and raised.
    """
    try:
        known = member_nodes(settings, chain, organizations) if settings.bundle else None
    except (MembersError, JoinedError) as error:
        raise RosterError(str(error)) from None
    return find_organizations(
        grid, organizations, timeout=timeout, known=known, enough=enough, absent=absent
    )


def find_organizations(
    grid: Grid,
    organizations: Sequence[str],
    *,
    timeout: float = 120.0,
    known: Mapping[str, int] | None = None,
    enough: int | None = None,
    absent: Callable[[str, str], None] = lambda _, __: None,
) -> dict[str, int]:
    """Wait until every organization has a node.

    In a simulation a node may answer for several organizations. On separate machines the registry
    says which node is whose, and no other is asked: what it would call itself does not matter.
    One machine that is off, or answers for another's name, does not keep the others from work:
    its node is known all the same, and is invited to each round as everybody's.

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
    enough : int, optional
        How many of those with a known node have to answer; all of them unless told otherwise.
    absent : callable
        Told name and reason of each that did not, where enough did.

    Returns
    -------
    dict of str to int
        The node of each organization.

    Raises
    ------
    RosterError
        If too few have answered after ``timeout`` or can any more, or one is claimed by two nodes.
    """
    deadline = time.monotonic() + timeout
    if known is not None:
        return _known(grid, {n: known[n] for n in organizations}, deadline, enough, absent)
    nodes: dict[str, int] = {}
    asked: set[int] = set()
    while not set(organizations) <= nodes.keys():
        if time.monotonic() > deadline:
            missing = [name for name in organizations if name not in nodes]
            raise RosterError(
                f"no node answers for {', '.join(missing)} after {timeout:.0f} s; "
                f"{len(asked)} nodes are connected"
            )
        for reply in _greeted(grid, set(grid.get_node_ids()) - asked, deadline):
            node = reply.metadata.src_node_id
            asked.add(node)
            for name in _served(reply):
                if name in nodes and nodes[name] != node:
                    raise RosterError(f"nodes {nodes[name]} and {node} both answer for {name!r}")
                nodes[name] = node
    return {name: nodes[name] for name in organizations}


def _known(
    grid: Grid,
    known: dict[str, int],
    deadline: float,
    enough: int | None,
    absent: Callable[[str, str], None],
) -> dict[str, int]:
    """Wait for nodes that the registry names; see :func:`find_organizations`."""
    needed = len(known) if enough is None else enough
    names = {node: name for name, node in known.items()}
    answered: set[str] = set()
    refused: dict[str, str] = {}
    while len(answered) + len(refused) < len(known) and time.monotonic() < deadline:
        waiting = {known[name] for name in known.keys() - answered - refused.keys()}
        for reply in _greeted(grid, set(grid.get_node_ids()) & waiting, deadline):
            name = names[reply.metadata.src_node_id]
            try:
                served = _served(reply)
            except RosterError as error:
                refused[name] = str(error)
                continue
            if name in served:
                answered.add(name)
            else:
                refused[name] = "its node answers for another name than the registry says"
        if len(known) - len(refused) < needed:
            break
    missing = {name: refused.get(name, "no answer") for name in known if name not in answered}
    if len(answered) < needed:
        said = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise RosterError(f"{len(answered)} of {needed} that it takes are there ({said})")
    for name, reason in missing.items():
        absent(name, reason)
    return known


def _greeted(grid: Grid, nodes: Collection[int], deadline: float) -> Iterable[Message]:
    """Ask nodes whom they answer for, or wait a while where there are none."""
    if not nodes:
        time.sleep(_POLL_SECONDS)
        return []
    left = max(1.0, deadline - time.monotonic())
    messages = [
        Message(
            content=RecordDict({protocol.HEADER: ConfigRecord({})}),
            message_type=protocol.HELLO,
            dst_node_id=node,
            group_id="hello",
            ttl=left,
        )
        for node in sorted(nodes)
    ]
    return grid.send_and_receive(messages, timeout=left)


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
