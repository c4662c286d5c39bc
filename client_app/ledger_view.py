"""What a ledger holds, for people: its records, its training set, and what no anchor covers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockchain.anchors import Anchor
from blockchain.private.anchoring import Stretch, unanchored
from blockchain.private.data_sets import open_entries
from blockchain.private.encoding import Leaf
from blockchain.private.files import LEDGER_FILE
from blockchain.private.ledger import Ledger
from blockchain.private.payloads import Opened
from blockchain.private.record_types import TrainingRun


@dataclass(frozen=True)
class Overview:
    """A ledger in a few figures.

    Parameters
    ----------
    blocks, records : int
        How many there are.
    training_set : int
        Records of the training set now.
    pending : tuple of int
        Records that lack endorsements.
    erasing : tuple of int
        Erasures that were begun and not finished.
    stretch : Stretch or None
        What no anchor covers; None where the chain does not answer.
    """

    blocks: int
    records: int
    training_set: int
    pending: tuple[int, ...]
    erasing: tuple[int, ...]
    stretch: Stretch | None


def overview(ledger: Ledger, last: Anchor | None) -> Overview:
    """Return a ledger's figures.

    Parameters
    ----------
    ledger : Ledger
        The ledger.
    last : Anchor or None
        Its last anchor, where the chain could be asked.
    """
    history = ledger.history
    return Overview(
        blocks=history.height,
        records=history.size,
        training_set=history.entries.size - len(history.removed),
        pending=tuple(sorted(history.pending)),
        erasing=tuple(sorted(history.erasing)),
        stretch=None if last is None else unanchored(ledger, last),
    )


def ledgers_here(home: Path) -> list[str]:
    """Return the organizations whose ledgers lie under a home, sorted."""
    found = (home / "organizations").glob(f"*/ledger/{LEDGER_FILE}")
    return sorted(path.parents[1].name for path in found)


def training_ids(ledger: Ledger, count: int) -> list[str]:
    """Return ids of records of the training set, those that rounds trained on first.

    Parameters
    ----------
    ledger : Ledger
        By a member who may read training runs and data sets.
    count : int
        How many at most.
    """
    purpose = "to name records of the training set"
    removed = ledger.history.removed
    standing = {
        entry.position: entry.id
        for entry in open_entries(ledger, purpose)
        if entry.position not in removed
    }
    readable = ledger.payloads_left(TrainingRun.record_type)
    drawn = [
        position
        for opened in ledger.read_all(readable, purpose)
        if isinstance(opened.payload, TrainingRun)
        for position in opened.payload.drawn
    ]
    order = dict.fromkeys([*drawn, *sorted(standing)])
    return [standing[position] for position in order if position in standing][:count]


def record_line(ledger: Ledger, leaf: Leaf) -> dict[str, Any]:
    """Lay a record out for a list."""
    return {
        "record": leaf.record,
        "time": leaf.time,
        "type": leaf.type,
        "author": leaf.author,
        "role": str(leaf.role),
        "status": ledger.status(leaf.record),
    }


def record_whole(ledger: Ledger, opened: Opened) -> dict[str, Any]:
    """Lay a record out with all that it holds."""
    return {
        **record_line(ledger, opened.leaf),
        "leaf": opened.leaf.model_dump(mode="json"),
        "payload": None if opened.payload is None else opened.payload.model_dump(mode="json"),
    }
