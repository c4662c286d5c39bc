"""How a disclosure package is made of a ledger: records, proofs, and nothing else."""

import time
from collections.abc import Sequence
from typing import Any

from eth_account.signers.local import LocalAccount

from blockchain.canonical import canonical_json, hash_json
from blockchain.private.data_sets import Entry, open_entries, tree_of
from blockchain.private.errors import LedgerError
from blockchain.private.history import CommittedSet, History
from blockchain.private.ledger import Ledger
from blockchain.private.package import (
    FORMAT,
    AnchoredRoot,
    DisclosedEntry,
    DisclosedRecord,
    Package,
)
from blockchain.private.record_types import (
    DataSet,
    TrainingRun,
)
from blockchain.typed_data import sign_digest


def make_package(
    ledger: Ledger,
    anchored: AnchoredRoot,
    numbers: Sequence[int],
    record_ids: Sequence[str] = (),
    purpose: str = "to disclose",
) -> Package:
    """Lay out records, and the history of records of the training set, for somebody else.

    Parameters
    ----------
    ledger : Ledger
        By a member who may read them.
    anchored : AnchoredRoot
        An anchor that covers them.
    numbers : sequence of int
        Numbers of the records.
    record_ids : sequence of str
        Ids of records that are or were in the training set, and were not erased.
    purpose : str
        What for; goes into the log of reads.

    Raises
    ------
    LedgerError
        A record is not covered by the anchor, or an id is not known.
    """
    history = ledger.history
    if anchored.size > history.size or history.tree.root(anchored.size).hex() != anchored.root:
        raise LedgerError(f"the anchor of size {anchored.size} is not of this ledger")
    entries = [_entry(ledger, history, one) for one in _chosen(ledger, record_ids, purpose)]
    wanted = {0, *numbers}
    for entry in entries:
        wanted |= {entry.data_set, *(() if entry.without is None else (entry.without,))}
    wanted |= _training_runs(ledger, history, entries, purpose)
    beyond = [number for number in sorted(wanted) if number >= anchored.size]
    if beyond:
        raise LedgerError(
            f"record {beyond[0]} is not anchored yet: the anchor covers {anchored.size} records"
        )
    records = [_record(ledger, history, n, anchored.size, purpose) for n in sorted(wanted)]
    unsigned = {
        "format": FORMAT,
        "ledger": history.ledger.hex(),
        "organization": history.organization.hex(),
        "time": int(time.time()),
        "anchor": anchored.model_dump(mode="json"),
        "records": [record.model_dump(mode="json") for record in records],
        "entries": [entry.model_dump(mode="json") for entry in entries],
        "discloser": ledger.account.address,
    }
    return _signed(unsigned, ledger.account)


def _chosen(ledger: Ledger, record_ids: Sequence[str], purpose: str) -> list[Entry]:
    if not record_ids:
        return []
    opened = open_entries(ledger, purpose)
    by_id: dict[str, list[Entry]] = {}
    for entry in opened:
        by_id.setdefault(entry.id, []).append(entry)
    unknown = sorted(set(record_ids) - by_id.keys())
    if unknown:
        raise LedgerError(f"in no training set, or erased since: {', '.join(unknown)[:200]}")
    return [entry for name in sorted(set(record_ids)) for entry in by_id[name]]


def _entry(ledger: Ledger, history: History, entry: Entry) -> DisclosedEntry:
    holding = [
        known
        for known in history.data_sets
        if entry.position < known.size and not _is_without(history, known, entry.position)
    ]
    without = next(
        (known for known in history.data_sets if _is_without(history, known, entry.position)), None
    )
    if not holding:
        raise LedgerError(f"no training set was committed to with {entry.id!r:.80}")
    last = holding[-1]
    return DisclosedEntry(
        position=entry.position,
        id=entry.id,
        digest=entry.digest.hex(),
        salt=entry.salt.hex(),
        data_set=last.record,
        proof=_hexed(tree_of(history, last).inclusion_proof(entry.position)),
        without=None if without is None else without.record,
        proof_without=()
        if without is None
        else _hexed(tree_of(history, without).inclusion_proof(entry.position)),
    )


def _is_without(history: History, known: CommittedSet, position: int) -> bool:
    buried = history.removed.get(position)
    return position < known.size and buried is not None and buried < known.record


def _training_runs(
    ledger: Ledger, history: History, entries: Sequence[DisclosedEntry], purpose: str
) -> set[int]:
    """Return the last training run on a set with each entry, and the first on one without."""
    if not entries or not ledger.may_read(TrainingRun.record_type):
        return set()
    numbers = ledger.payloads_left(TrainingRun.record_type)
    runs = [
        (opened.leaf.record, opened.payload.data_set)
        for opened in ledger.read_all(numbers, purpose)
        if isinstance(opened.payload, TrainingRun)
    ]
    found = set()
    for entry in entries:
        first = next(known for known in history.data_sets if entry.position < known.size)
        on_it = [record for record, data_set in runs if first.record <= data_set <= entry.data_set]
        after = [
            record
            for record, data_set in runs
            if entry.without is not None and data_set >= entry.without
        ]
        found |= {*on_it[-1:], *after[:1]}
    return found


def _record(
    ledger: Ledger, history: History, number: int, size: int, purpose: str
) -> DisclosedRecord:
    leaf = ledger.leaf(number)
    proof = _hexed(history.tree.inclusion_proof(number, size))
    gone = leaf.sealed is None or number in history.erased_records
    # A data set's payload opens every entry.
    if gone or leaf.type == DataSet.record_type:
        return DisclosedRecord(leaf=leaf.encoded().decode(), proof=proof, payload=None, salt=None)
    opened = ledger.read(number, purpose)
    return DisclosedRecord(
        leaf=leaf.encoded().decode(),
        proof=proof,
        payload=None if opened.payload is None else opened.payload.checked(),
        salt=opened.salt.hex(),
    )


def _signed(unsigned: dict[str, Any], account: LocalAccount) -> Package:
    signature = sign_digest(hash_json(unsigned), account)
    return Package.model_validate_json(canonical_json({**unsigned, "signature": signature.hex()}))


def _hexed(proof: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(node.hex() for node in proof)
