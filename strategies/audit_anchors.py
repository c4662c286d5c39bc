"""Whether the anchors of the organizations' private ledgers are as the chain's events tell."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from blockchain.anchors import Anchor, AnchorEvent
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from strategies.audit_check import Check


def check_anchors(
    organizations: Sequence[str], chain: PublicChain, first_block: int
) -> Iterator[Check]:
    """Check, for each organization that has anchored its ledger, that no anchor was tampered with.

    The contract accepts an anchor only where the ledger is proven to begin with the last one. Who
    can write a node's storage can put another anchor in its place; the events then tell of it.

    Parameters
    ----------
    organizations : sequence of str
        Names.
    chain : PublicChain
        A connection that can read.
    first_block : int
        Where to begin looking: the block in which the task was opened.
    """
    for name in organizations:
        organization = organization_id(name)
        last = chain.anchors.last(organization)
        history = chain.anchors.history(organization, first_block)
        if last.size or history:
            problem = anchor_problem(last, history, first_block)
            yield Check(0, f"anchors of {name}", not problem, problem)


def anchor_problem(last: Anchor, history: Sequence[AnchorEvent], first_block: int) -> str:
    """Say what is wrong with an organization's anchors; empty where nothing is.

    Parameters
    ----------
    last : Anchor
        What the contract says stands.
    history : sequence of AnchorEvent
        What its events since a block say was anchored, in order.
    first_block : int
        That block.
    """
    for before, after in pairwise(history):
        if after.previous_size != before.anchor.size:
            return (
                f"the anchor of size {after.anchor.size} follows size {after.previous_size}, "
                f"expected {before.anchor.size}"
            )
    for event in history:
        if event.anchor.size <= event.previous_size:
            return f"size {event.anchor.size} was anchored after size {event.previous_size}"
    if not history:
        # Made before the run, it is none of the run's.
        return "" if last.block < first_block else f"{_shown(last)}, but no event tells of it"
    told = history[-1].anchor
    return "" if last == told else f"{_shown(last)}, the events tell of {_shown(told)}"


def _shown(anchor: Anchor) -> str:
    return f"size {anchor.size} with root 0x{anchor.root.hex()} in block {anchor.block}"
