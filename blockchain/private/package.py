"""Disclosure packages: chosen records, with what opens them and proofs that the ledger holds them.

Whoever gets one checks it with nothing but the package and an anchor on the public chain: each
leaf is under the anchored root, each payload is what its leaf committed to, and nothing else of the
ledger is shown. For a record id it shows that it was in the training set, and, once forgotten, that
its leaf is gone from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blockchain import transparency_log
from blockchain.anchors import Anchor
from blockchain.canonical import canonical_json, hash_json
from blockchain.private.encoding import (
    TOMBSTONE_LEAF,
    Leaf,
    entry_commitment,
    ledger_id,
    payload_commitment,
    read_leaf,
)
from blockchain.private.errors import InvalidLedgerError, RecordRefusedError
from blockchain.private.record_fields import Address, Hash, Number, Part, Signature
from blockchain.private.record_types import (
    DataSet,
    Genesis,
    first_fault,
    read_payload,
)
from blockchain.typed_data import SignatureError, check_signer

FORMAT: Final = "foedus.ledger.package.v1"

#: Largest package that is read, in bytes.
MAX_PACKAGE_BYTES: Final = 64 << 20

_Proof = Annotated[tuple[Hash, ...], Field(max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AnchoredRoot(_Strict):
    """The anchor that all proofs lead to.

    Parameters
    ----------
    size, root : int, str
        As anchored.
    chain_id, contract, block : int, str, int
        Where.
    """

    size: Annotated[int, Field(ge=1, lt=2**53)]
    root: Hash
    chain_id: Number
    contract: Address
    block: Number


class DisclosedRecord(_Strict):
    """A record, its proof, and, unless it has none or it was erased, its payload and salt."""

    leaf: str
    proof: _Proof
    payload: dict[str, Any] | None
    salt: Hash | None


class DisclosedEntry(_Strict):
    """A record of the training set.

    Parameters
    ----------
    position, id, digest, salt : int, str, str, str
        The leaf, and what opens it.
    data_set : int
        Number of a disclosed data-set record with it.
    proof : tuple of str
        That it is under that data set's root.
    without : int or None
        Number of a disclosed data-set record in which it is replaced by the fixed leaf.
    proof_without : tuple of str
        Proof of that; empty where there is none.
    """

    position: Number
    id: Annotated[str, Field(min_length=1, max_length=200)]
    digest: Hash
    salt: Hash
    data_set: Number
    proof: _Proof
    without: Number | None
    proof_without: _Proof


class Package(_Strict):
    """What is disclosed, signed by who discloses it."""

    format: Literal["foedus.ledger.package.v1"]
    ledger: Hash
    organization: Hash
    time: Number
    anchor: AnchoredRoot
    records: Annotated[tuple[DisclosedRecord, ...], Field(min_length=1, max_length=100_000)]
    entries: Annotated[tuple[DisclosedEntry, ...], Field(max_length=100_000)]
    discloser: Address
    signature: Signature

    def encoded(self) -> bytes:
        """Return the package's file."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"


@dataclass(frozen=True)
class Shown:
    """What a package shows.

    Parameters
    ----------
    package : Package
        The package.
    leaves : dict of int to Leaf
        Its records by number.
    payloads : dict of int to Part
        Payloads, by record.
    """

    package: Package
    leaves: dict[int, Leaf]
    payloads: dict[int, Part]

    @property
    def anchor(self) -> Anchor:
        """The anchor that it has to be held against."""
        stated = self.package.anchor
        return Anchor(stated.size, bytes.fromhex(stated.root), stated.block)


def read_package(content: bytes) -> Shown:
    """Read a package and check all of it but its anchor.

    Parameters
    ----------
    content : bytes
        The package's file.

    Raises
    ------
    InvalidLedgerError
        Naming the first thing that does not hold.
    """
    if len(content) > MAX_PACKAGE_BYTES:
        raise InvalidLedgerError(
            "package", f"{len(content):,} bytes, expected at most {MAX_PACKAGE_BYTES:,}"
        )
    try:
        package = Package.model_validate_json(content)
    except ValidationError as error:
        where, _, said = first_fault(error, "package").partition(": ")
        raise InvalidLedgerError(where, said) from None
    unsigned = package.model_dump(mode="json", exclude={"signature"})
    try:
        if package.encoded() != content:
            raise InvalidLedgerError("package", "not in canonical form")
        check_signer(hash_json(unsigned), bytes.fromhex(package.signature), package.discloser)
    except (SignatureError, TypeError, ValueError) as error:
        raise InvalidLedgerError("signature", str(error)) from error
    leaves: dict[int, Leaf] = {}
    payloads: dict[int, Part] = {}
    for record in package.records:
        leaf = _checked_leaf(package, record)
        if leaf.record in leaves:
            raise InvalidLedgerError("record", "it is there twice", record=leaf.record)
        leaves[leaf.record] = leaf
        payload = _checked_payload(leaf, record)
        if payload is not None:
            payloads[leaf.record] = payload
    _check_genesis(package, leaves)
    positions: set[int] = set()
    for entry in package.entries:
        if entry.position in positions:
            raise InvalidLedgerError("entries", f"entry {entry.position} is there twice")
        positions.add(entry.position)
        _check_entry(entry, leaves)
    return Shown(package, leaves, payloads)


def _checked_leaf(package: Package, record: DisclosedRecord) -> Leaf:
    encoded = record.leaf.encode()
    try:
        leaf = read_leaf(encoded)
    except RecordRefusedError as error:
        raise InvalidLedgerError("leaf", str(error)) from error
    if leaf.ledger != package.ledger:
        raise InvalidLedgerError(
            "ledger", f"0x{leaf.ledger}, expected 0x{package.ledger}", record=leaf.record
        )
    if not transparency_log.verify_inclusion(
        encoded,
        leaf.record,
        package.anchor.size,
        bytes.fromhex(package.anchor.root),
        _hashes(record.proof),
    ):
        raise InvalidLedgerError(
            "proof", "it does not lead to the anchored root", record=leaf.record
        )
    return leaf


def _checked_payload(leaf: Leaf, record: DisclosedRecord) -> Part | None:
    if record.payload is None and record.salt is None:
        return None
    if leaf.sealed is None or record.payload is None or record.salt is None:
        raise InvalidLedgerError(
            "payload", "it has none, or one of payload and salt is missing", record=leaf.record
        )
    try:
        content = canonical_json(record.payload)
        committed = payload_commitment(bytes.fromhex(record.salt), content)
        if committed.hex() != leaf.sealed.commitment:
            raise InvalidLedgerError(
                "payload", "it is not the one committed to", record=leaf.record
            )
        return read_payload(leaf.type, content)
    except (RecordRefusedError, TypeError, ValueError) as error:
        raise InvalidLedgerError("payload", str(error), record=leaf.record) from error


def _check_genesis(package: Package, leaves: dict[int, Leaf]) -> None:
    genesis = leaves[0].part() if 0 in leaves else None
    if not isinstance(genesis, Genesis):
        raise InvalidLedgerError("genesis", "it is missing", record=0)
    if ledger_id(genesis).hex() != package.ledger:
        raise InvalidLedgerError("genesis", "it begins another ledger", record=0)
    if genesis.organization != package.organization:
        raise InvalidLedgerError(
            "organization",
            f"0x{package.organization}, the ledger is of 0x{genesis.organization}",
            record=0,
        )


def _check_entry(entry: DisclosedEntry, leaves: dict[int, Leaf]) -> None:
    commitment = entry_commitment(bytes.fromhex(entry.salt), entry.id, bytes.fromhex(entry.digest))
    _check_in_set(entry, leaves, entry.data_set, commitment, entry.proof)
    if entry.without is not None:
        if entry.without <= entry.data_set:
            raise InvalidLedgerError(
                "without", f"record {entry.without} is older than {entry.data_set}"
            )
        _check_in_set(entry, leaves, entry.without, TOMBSTONE_LEAF, entry.proof_without)
    elif entry.proof_without:
        raise InvalidLedgerError(
            "proof_without", f"entry {entry.position} is stated to be in every data set since"
        )


def _check_in_set(
    entry: DisclosedEntry,
    leaves: dict[int, Leaf],
    record: int,
    committed: bytes,
    proof: Sequence[str],
) -> None:
    body = leaves[record].part() if record in leaves else None
    if not isinstance(body, DataSet):
        raise InvalidLedgerError(
            "entries", f"record {record} is no data set of the package", record=record
        )
    root = bytes.fromhex(body.root)
    if not transparency_log.verify_inclusion(
        committed, entry.position, body.size, root, _hashes(proof)
    ):
        raise InvalidLedgerError(
            "entries",
            f"the proof of entry {entry.position} does not lead to the data set's root",
            record=record,
        )


def _hashes(proof: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(node) for node in proof]
