"""The training set, committed to record by record, so that what was in it and what is not is shown.

Each record id has a leaf of its own for good: a salted commitment to the id and the content. A
data-set record states the root over all leaves; where a record was taken out, one fixed leaf stands
in its place. So between two roots with the same siblings, one record has gone and nothing else has
changed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, select

from blockchain.canonical import canonical_json
from blockchain.growing_tree import GrowingTree
from blockchain.private import sealing
from blockchain.private.drafts import Draft, NewEntry
from blockchain.private.encoding import TOMBSTONE_LEAF, entry_commitment
from blockchain.private.errors import EntryBarredError, InvalidLedgerError, LedgerError
from blockchain.private.history import CommittedSet, History
from blockchain.private.keyring import entry_place
from blockchain.private.ledger import Ledger
from blockchain.private.policy import EVERYBODY
from blockchain.private.record_fields import Hash
from blockchain.private.record_types import (
    DataSet,
    DataSetKey,
    Tombstone,
    TombstoneDetails,
)
from blockchain.private.schema import entry_secrets
from blockchain.private.sealing import SealError
from blockchain.transparency_log import leaf_hash

#: Stands for the request where a record left the data without one.
NO_REQUEST: Final = bytes(32)

#: Records of one tombstone at most: its payload, which has a limit, names each by 64 characters.
_TOMBSTONE_RECORDS: Final = 10_000


class _Secret(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1, max_length=200)]
    digest: Hash
    salt: Hash


@dataclass(frozen=True)
class Entry:
    """A leaf of the data set, opened.

    Parameters
    ----------
    position : int
        Which leaf.
    id : str
        Id of its record.
    digest : bytes
        Hash of the record's content, 32 bytes.
    salt : bytes
        Of the commitment, 32 bytes.
    """

    position: int
    id: str
    digest: bytes
    salt: bytes


@dataclass(frozen=True)
class TrainingSet:
    """The training set as committed to.

    Parameters
    ----------
    record : int
        Number of the record that commits to it.
    positions : mapping of str to int
        Leaves by the records' ids.
    """

    record: int
    positions: Mapping[str, int]


def commit(ledger: Ledger, source: str, records: Mapping[str, bytes]) -> TrainingSet:
    """Commit to a training set, if it is another than the one committed to last.

    Records that are new get a leaf. Those that are gone, or have another content, get a tombstone,
    and those with another content a new leaf.

    Parameters
    ----------
    ledger : Ledger
        By a member who may write data sets and read them.
    source : str
        Where the records come from.
    records : mapping of str to bytes
        By id, the hash of each record's content, 32 bytes.

    Raises
    ------
    EntryBarredError
        One of them was forgotten.
    """
    for _ in range(100):
        before = ledger.history
        seen = (len(before.data_sets), len(before.removed))
        back = barred(ledger, records)
        if back:
            raise EntryBarredError(
                f"{len(back)} of the records were forgotten and must not come back: take them out "
                f"of {source}"
            )
        standing = {
            entry.id: entry
            for entry in open_entries(ledger, "to commit to the training set")
            if entry.position not in before.removed
        }
        added = {
            name: digest
            for name, digest in sorted(records.items())
            if name not in standing or standing[name].digest != digest
        }
        gone = sorted(
            entry.position
            for name, entry in standing.items()
            if name not in records or records[name] != entry.digest
        )
        with ledger.decided() as writer:
            state = writer.history
            if (len(state.data_sets), len(state.removed)) != seen:
                # Another process committed meanwhile.
                continue
            last = state.data_sets[-1] if state.data_sets else None
            # Records may have been forgotten since: that is another set.
            if last and not added and not gone and last.root == state.entries.root():
                return TrainingSet(last.record, _positions(standing, gone, added, 0))
            first = state.entries.size
            drafts = _drafts(state, source, gone, added)
            number = writer.append(*drafts)[-1]
        return TrainingSet(number, _positions(standing, gone, added, first))
    raise LedgerError("other processes kept committing to other training sets")


def bury(
    ledger: Ledger,
    record_ids: Collection[str],
    *,
    request: bytes,
    task: bytes = bytes(32),
    since_round: int = 0,
) -> list[int]:
    """Take records out of the training set for good: their ids are barred from then on.

    Parameters
    ----------
    ledger : Ledger
        By a member who may write tombstones.
    record_ids : collection of str
        Ids of records that are in it.
    request : bytes
        Id of the request to forget them, 32 bytes.
    task : bytes
        The task of the first round that they are barred from, 32 bytes.
    since_round : int
        That round.

    Returns
    -------
    list of int
        Their positions.

    Raises
    ------
    LedgerError
        One is not in the training set.
    """
    removed = ledger.history.removed
    standing = {
        entry.id: entry.position
        for entry in open_entries(ledger, "to take records out of the training set")
        if entry.position not in removed
    }
    unknown = sorted(set(record_ids) - standing.keys())
    if unknown:
        raise LedgerError(f"not in the training set: {', '.join(unknown)[:200]}")
    buried = {name: standing[name] for name in record_ids}
    ledger.append(*burial(ledger, buried, request=request, task=task, since_round=since_round))
    return sorted(buried.values())


def burial(
    ledger: Ledger,
    buried: Mapping[str, int],
    *,
    request: bytes,
    task: bytes = bytes(32),
    since_round: int = 0,
) -> list[Draft]:
    """Draw up the tombstones of `bury`, to be written in one block with what they follow from.

    Parameters
    ----------
    ledger : Ledger
        By a member who may write tombstones.
    buried : mapping of str to int
        By the ids of records that are in the training set, their leaves.
    request : bytes
        Id of the request to forget them, 32 bytes.
    task : bytes
        The task of the first round that they are barred from, 32 bytes.
    since_round : int
        That round.

    Returns
    -------
    list of Draft
        Several where one payload cannot hold all of the records, none where there are none.
    """
    key = ledger.history.members.role_keys[EVERYBODY]
    ordered = sorted(buried, key=buried.__getitem__)
    drafts = []
    for first in range(0, len(ordered), _TOMBSTONE_RECORDS):
        names = ordered[first : first + _TOMBSTONE_RECORDS]
        details = TombstoneDetails(
            request=request.hex(),
            task=task.hex(),
            since_round=since_round,
            generation=key.generation,
            suppressed=tuple(sorted(ledger.keyring.keyed_id(key, name).hex() for name in names)),
        )
        drafts.append(Draft(Tombstone(positions=tuple(buried[name] for name in names)), details))
    return drafts


def barred(ledger: Ledger, record_ids: Collection[str]) -> set[str]:
    """Return which of some ids are of records that were forgotten."""
    return set(barring(ledger, record_ids))


def barring(ledger: Ledger, record_ids: Collection[str]) -> dict[str, bytes]:
    """Return, for those of some ids whose records were forgotten, the request that it was by."""
    suppressed: dict[int, dict[str, bytes]] = {}
    for _, details in tombstones(ledger, "to bar forgotten records"):
        known = suppressed.setdefault(details.generation, {})
        known.update(dict.fromkeys(details.suppressed, bytes.fromhex(details.request)))
    found = {}
    for generation, known in suppressed.items():
        for name in record_ids if known else ():
            for keyed in ledger.keyring.keyed_ids(generation, name):
                if keyed.hex() in known:
                    found[name] = known[keyed.hex()]
    return found


def tombstones(ledger: Ledger, purpose: str) -> list[tuple[Tombstone, TombstoneDetails]]:
    """Open all tombstones that count, oldest first; it is logged as a read of them."""
    numbers = [
        leaf.record
        for leaf in ledger.leaves(Tombstone.record_type)
        if ledger.status(leaf.record) == "effective"
    ]
    return [
        (opened.body, opened.payload)
        for opened in ledger.read_all(numbers, purpose)
        if isinstance(opened.body, Tombstone) and isinstance(opened.payload, TombstoneDetails)
    ]


def open_entries(ledger: Ledger, purpose: str) -> list[Entry]:
    """Open all entries that were not erased; it is logged as a read of their data sets.

    Raises
    ------
    InvalidLedgerError
        One is not what its leaf commits to.
    """
    history = ledger.history
    opened = ledger.read_all([known.record for known in history.data_sets], purpose)
    keys = [bytes.fromhex(one.payload.key) for one in opened if isinstance(one.payload, DataSetKey)]
    with ledger.files.secrets.reading() as connection:
        return read_entries(connection, history, keys)


def read_entries(connection: Connection, history: History, keys: list[bytes]) -> list[Entry]:
    """Decrypt entries by the keys of their data sets, and hold them against their leaves.

    Parameters
    ----------
    connection : Connection
        To ``secrets.sqlite``.
    history : History
        The ledger's.
    keys : list of bytes
        Of each data set of the history, 32 bytes each.

    Raises
    ------
    InvalidLedgerError
        One is missing and was not erased, is there and was, or is not what its leaf commits to.
    """
    found = {row.position: row for row in connection.execute(select(entry_secrets))}
    entries = []
    for key, known in zip(keys, history.data_sets, strict=True):
        for position in range(known.first, known.size):
            row = found.get(position)
            missing = row is None and not history.entry_may_miss(position)
            if missing or (row is not None and history.entry_must_miss(position)):
                raise InvalidLedgerError(
                    "entry_secrets.position",
                    f"entry {position} {'is missing and was not' if missing else 'was'} erased",
                    record=known.record,
                )
            if row is not None and not history.entry_may_miss(position):
                entries.append(_opened(history, known, position, key, row))
    return entries


def tree_of(history: History, known: CommittedSet) -> GrowingTree:
    """Return the tree of a training set as it was when it was committed to."""
    tombstone = leaf_hash(TOMBSTONE_LEAF)
    return GrowingTree(
        tombstone
        if history.removed.get(position, known.record) < known.record
        else leaf_hash(history.commitments[position])
        for position in range(known.size)
    )


def _opened(history: History, known: CommittedSet, position: int, key: bytes, row: Any) -> Entry:
    where = f"entry_secrets of entry {position}"
    try:
        content = sealing.decrypt(
            key,
            row.nonce,
            row.ciphertext,
            entry_place(history.ledger, position),
        )
        secret = _Secret.model_validate_json(content)
    except (SealError, ValidationError) as error:
        raise InvalidLedgerError(
            where, "it does not open: it was altered", record=known.record
        ) from error
    digest, salt = bytes.fromhex(secret.digest), bytes.fromhex(secret.salt)
    if entry_commitment(salt, secret.id, digest) != history.commitments[position]:
        raise InvalidLedgerError(where, "it is not what its leaf commits to", record=known.record)
    return Entry(position, secret.id, digest, salt)


def _drafts(
    state: History, source: str, gone: list[int], added: Mapping[str, bytes]
) -> list[Draft]:
    key, new = sealing.random_key(), []
    for name, digest in added.items():
        salt = sealing.random_key()
        secret = {"id": name, "digest": digest.hex(), "salt": salt.hex()}
        commitment = entry_commitment(salt, name, digest)
        new.append(NewEntry(commitment, canonical_json(secret), key))
    body = DataSet(
        added=len(new),
        size=state.entries.size + len(new),
        root=state.entries_root_with([entry.commitment for entry in new], gone).hex(),
    )
    data_set = Draft(body, DataSetKey(source=source, key=key.hex()), tuple(new))
    if not gone:
        return [data_set]
    details = TombstoneDetails(
        request=NO_REQUEST.hex(), task="00" * 32, since_round=0, generation=0, suppressed=()
    )
    return [Draft(Tombstone(positions=tuple(gone)), details), data_set]


def _positions(
    standing: Mapping[str, Entry], gone: list[int], added: Mapping[str, bytes], first: int
) -> dict[str, int]:
    left = set(gone)
    kept = {name: one.position for name, one in standing.items() if one.position not in left}
    return {**kept, **{name: first + i for i, name in enumerate(added)}}
