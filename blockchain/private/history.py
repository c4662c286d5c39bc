"""What a ledger's blocks say, block by block: the one set of rules by which they are valid.

Writers, readers and the audit all come by their state here, from the raw leaves: a block is applied
whole or refused, and the first thing that does not hold is named. Nothing of it is stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from blockchain.growing_tree import GrowingTree
from blockchain.private.encoding import (
    TOMBSTONE_LEAF,
    VERSION,
    Block,
    Leaf,
    endorsement_digest,
    ledger_domain,
    ledger_id,
    read_leaf,
)
from blockchain.private.errors import InvalidLedgerError, NotPermittedError, RecordRefusedError
from blockchain.private.policy import Policy
from blockchain.private.record_types import (
    PAYLOADS,
    DataSet,
    Endorsement,
    Erased,
    ErasePending,
    Genesis,
    KeyRotation,
    MembershipChange,
    PolicyChange,
    ReadsSoFar,
    Role,
    Tombstone,
)
from blockchain.transparency_log import leaf_hash
from blockchain.typed_data import Domain, SignatureError, check_signer

_TOMBSTONE_HASH: Final = leaf_hash(TOMBSTONE_LEAF)
_NO_BLOCK: Final = bytes(32)


@dataclass
class Pending:
    """A record that lacks endorsements.

    Parameters
    ----------
    leaf : Leaf
        The record.
    policy : Policy
        In force when it was written: what it needs.
    endorsers : list of (str, Role)
        Who stands behind it, its author first.
    """

    leaf: Leaf
    policy: Policy
    endorsers: list[tuple[str, Role]]

    @property
    def missing(self) -> dict[Role, int]:
        """How many members of each role are lacking."""
        return self.policy.missing(self.leaf.type, self.endorsers)


@dataclass(frozen=True)
class CommittedSet:
    """A state of the training set.

    Parameters
    ----------
    record : int
        Number of the record that commits to it.
    first : int
        First leaf that it added.
    size : int
        Leaves in all.
    root : bytes
        Root over them, 32 bytes.
    """

    record: int
    first: int
    size: int
    root: bytes


@dataclass
class History:
    """The state of a ledger after some of its blocks.

    Once `apply` has raised, the object is of no more use.
    """

    ledger: bytes = b""
    organization: bytes = b""
    domain: Domain = field(default_factory=lambda: ledger_domain("0x" + "00" * 20))
    #: In force for the next block.
    policy: Policy | None = None
    tree: GrowingTree = field(default_factory=GrowingTree)
    #: Blocks so far.
    height: int = 0
    #: Digest of the last block.
    head: bytes = _NO_BLOCK
    time: int = 0
    #: By record number.
    types: list[str] = field(default_factory=list)
    #: By record number: lacking endorsements, or never to count because another change came first.
    pending: dict[int, Pending] = field(default_factory=dict)
    void: dict[int, str] = field(default_factory=dict)
    #: Changes of the policy that count from a height on.
    scheduled: list[tuple[int, Leaf]] = field(default_factory=list)
    #: Addresses that members went on under another key from.
    retired: set[str] = field(default_factory=set)
    entries: GrowingTree = field(default_factory=GrowingTree)
    #: By position: what the entry commits to its record by, whether or not it is still in the set.
    commitments: list[bytes] = field(default_factory=list)
    #: By position: the tombstone's record.
    removed: dict[int, int] = field(default_factory=dict)
    data_sets: list[CommittedSet] = field(default_factory=list)
    #: Erasures begun and not finished, by the record that begins them.
    erasing: dict[int, ErasePending] = field(default_factory=dict)
    #: What was or is being erased: payloads by record, entries by position; what by.
    erased_records: dict[int, int] = field(default_factory=dict)
    erased_entries: dict[int, int] = field(default_factory=dict)
    reads: ReadsSoFar = field(default_factory=lambda: ReadsSoFar(count=0, head="00" * 32))

    @property
    def size(self) -> int:
        """Records so far."""
        return self.tree.size

    @property
    def members(self) -> Policy:
        """The policy in force; there is one once the genesis was applied."""
        if self.policy is None:
            raise InvalidLedgerError("genesis", "there is none", block=0)
        return self.policy

    def status(self, record: int) -> str:
        """Return how a record stands: ``effective``, ``pending``, ``void`` or ``erased``."""
        if record in self.pending:
            return "pending"
        if record in self.void:
            return "void"
        return "erased" if record in self.erased_records else "effective"

    def may_miss(self, record: int) -> bool:
        """Whether a payload need not be there: its erasure has begun."""
        return record in self.erased_records

    def must_miss(self, record: int) -> bool:
        """Whether a payload must not be there: its erasure is finished."""
        return self.erased_records.get(record, -1) not in {-1, *self.erasing}

    def entry_may_miss(self, position: int) -> bool:
        """Whether what opens an entry need not be there: its erasure has begun."""
        return position in self.erased_entries

    def entry_must_miss(self, position: int) -> bool:
        """Whether what opens an entry must not be there: its erasure is finished."""
        return self.erased_entries.get(position, -1) not in {-1, *self.erasing}

    def root_with(self, leaves: Sequence[bytes]) -> bytes:
        """Return the root that the ledger would have with some leaves more, 32 bytes."""
        size = self.tree.size
        self.tree.extend(leaf_hash(leaf) for leaf in leaves)
        root = self.tree.root()
        self.tree.truncate(size)
        return root

    def entries_root_with(self, added: Sequence[bytes], gone: Sequence[int]) -> bytes:
        """Return the root of the data set with some entries more and others out, 32 bytes."""
        size, kept = self.entries.size, [self.entries.leaf(position) for position in gone]
        for position in gone:
            self.entries.replace(position, _TOMBSTONE_HASH)
        self.entries.extend(leaf_hash(entry) for entry in added)
        root = self.entries.root()
        self.entries.truncate(size)
        for position, leaf in zip(gone, kept, strict=True):
            self.entries.replace(position, leaf)
        return root

    def apply(
        self,
        block: Block,
        signature: bytes,
        leaves: Sequence[bytes],
        entries: Callable[[int], Sequence[bytes]],
    ) -> list[Leaf]:
        """Check the next block against all before it, and take it in.

        Parameters
        ----------
        block : Block
            The block.
        signature : bytes
            Its author's, 65 bytes.
        leaves : sequence of bytes
            Its records' leaves, in order.
        entries : callable
            By the number of a data-set record, the commitments that it added, in order.

        Returns
        -------
        list of Leaf
            The records.

        Raises
        ------
        InvalidLedgerError
            Naming the first thing that does not hold.
        """
        read = [self._read(block, self.size + i, leaf) for i, leaf in enumerate(leaves)]
        if self.height == 0:
            self._begin(block, read)
        head = self._check(block, signature, leaves)
        for leaf, encoded in zip(read, leaves, strict=True):
            try:
                self._take(block, leaf, entries)
            except (RecordRefusedError, NotPermittedError, SignatureError) as error:
                raise InvalidLedgerError(
                    leaf.type, str(error), block=block.height, record=leaf.record
                ) from error
            self.tree.extend([leaf_hash(encoded)])
            self.types.append(leaf.type)
        self.height += 1
        self.head = head
        self.time = block.time
        self._change_policy()
        return read

    # Parts of apply

    def _read(self, block: Block, record: int, encoded: bytes) -> Leaf:
        try:
            return read_leaf(encoded)
        except RecordRefusedError as error:
            raise InvalidLedgerError(
                "leaf", str(error), block=block.height, record=record
            ) from error

    def _begin(self, block: Block, leaves: Sequence[Leaf]) -> None:
        genesis = leaves[0].part() if leaves else None
        if not isinstance(genesis, Genesis):
            raise InvalidLedgerError("genesis", "the first record is none", block=0, record=0)
        try:
            self.policy = Policy.of(genesis)
        except RecordRefusedError as error:
            raise InvalidLedgerError("genesis", str(error), block=0, record=0) from error
        self.ledger = ledger_id(genesis)
        self.organization = bytes.fromhex(genesis.organization)
        self.domain = ledger_domain(genesis.address)
        if block.author != genesis.address:
            raise InvalidLedgerError(
                "author", f"{block.author}, expected the organization {genesis.address}", block=0
            )
        if leaves[0].role != Role.OPERATOR:
            raise InvalidLedgerError(
                "role", f"{leaves[0].role}, expected {Role.OPERATOR}", block=0, record=0
            )

    def _check(self, block: Block, signature: bytes, leaves: Sequence[bytes]) -> bytes:
        """Check all of a block but what its records say; its digest."""
        expected = {
            "version": VERSION,
            "ledger": self.ledger,
            "height": self.height,
            "previous": self.head,
            "size": self.size + len(leaves),
            "policy": self.members.hash,
        }
        for name, value in expected.items():
            found = getattr(block, name)
            if found != value:
                raise InvalidLedgerError(
                    name, f"{_shown(found)}, expected {_shown(value)}", block=self.height
                )
        if not leaves:
            raise InvalidLedgerError("size", "a block without records", block=self.height)
        if block.time < self.time:
            raise InvalidLedgerError(
                "time", f"{block.time}, expected {self.time} or later", block=self.height
            )
        root = self.root_with(leaves)
        if block.root != root:
            raise InvalidLedgerError(
                "root",
                f"0x{block.root.hex()}, the records make 0x{root.hex()}",
                block=self.height,
            )
        try:
            digest = block.digest(self.domain)
            check_signer(digest, signature, block.author)
        except (SignatureError, ValueError) as error:
            raise InvalidLedgerError("signature", str(error), block=self.height) from error
        return digest

    def _take(self, block: Block, leaf: Leaf, entries: Callable[[int], Sequence[bytes]]) -> None:
        for name, found, expected in (
            ("ledger", leaf.ledger, self.ledger.hex()),
            ("record", leaf.record, self.size),
            ("time", leaf.time, block.time),
            ("author", leaf.author, block.author),
        ):
            if found != expected:
                raise RecordRefusedError(f"{name}: {found}, expected {expected}")
        if leaf.record == 0:
            return
        self.members.check_writer(leaf.author, leaf.role, leaf.type)
        body = leaf.part()
        if isinstance(body, Endorsement):
            self._endorse(leaf.record, body)
        elif isinstance(body, DataSet):
            self._commit(leaf.record, body, entries(leaf.record))
        elif isinstance(body, Erased):
            if self.erasing.pop(body.pending, None) is None:
                raise RecordRefusedError(f"record {body.pending} is no erasure under way")
        elif isinstance(body, ReadsSoFar):
            if body.count < self.reads.count:
                raise RecordRefusedError(
                    f"count: {body.count}, expected {self.reads.count} or more"
                )
            self.reads = body
        waiting = Pending(leaf, self.members, [(leaf.author, leaf.role)])
        if waiting.missing:
            self.pending[leaf.record] = waiting
        else:
            self._effect(leaf)

    def _endorse(self, record: int, body: Endorsement) -> None:
        if body.record >= record:
            raise RecordRefusedError(f"of record {body.record}, which is not there yet")
        if body.leaf != self.tree.leaf(body.record).hex():
            raise RecordRefusedError(f"leaf: 0x{body.leaf} is not record {body.record}")
        if body.role not in self.members.roles_of(body.member):
            raise RecordRefusedError(f"{body.member} is no {body.role}")
        digest = endorsement_digest(
            self.domain, self.ledger, body.record, bytes.fromhex(body.leaf), body.role
        )
        check_signer(digest, bytes.fromhex(body.signature), body.member)
        waiting = self.pending.get(body.record)
        if waiting is None:
            raise RecordRefusedError(f"record {body.record} needs no endorsement")
        if any(body.member == address for address, _ in waiting.endorsers):
            raise RecordRefusedError(f"{body.member} stands behind record {body.record} already")
        if body.role not in waiting.missing:
            raise RecordRefusedError(f"record {body.record} lacks no {body.role}")
        waiting.endorsers.append((body.member, body.role))
        if not waiting.missing:
            del self.pending[body.record]
            self._effect(waiting.leaf)

    def _commit(self, record: int, body: DataSet, added: Sequence[bytes]) -> None:
        if len(added) != body.added:
            raise RecordRefusedError(f"added: {body.added}, there are {len(added)} entries of it")
        first = self.entries.size
        self.entries.extend(leaf_hash(entry) for entry in added)
        self.commitments.extend(added)
        if body.size != self.entries.size:
            raise RecordRefusedError(f"size: {body.size}, expected {self.entries.size}")
        root = self.entries.root()
        if body.root != root.hex():
            raise RecordRefusedError(f"root: 0x{body.root}, the entries make 0x{root.hex()}")
        self.data_sets.append(CommittedSet(record, first, body.size, root))

    def _effect(self, leaf: Leaf) -> None:
        """Let a record count that has all endorsements it needs."""
        body = leaf.part()
        if isinstance(body, MembershipChange | PolicyChange):
            self.scheduled.append((max(body.valid_from, self.height + 1), leaf))
        elif isinstance(body, KeyRotation):
            self.scheduled.append((self.height + 1, leaf))
        elif isinstance(body, Tombstone):
            self._bury(leaf.record, body)
        elif isinstance(body, ErasePending):
            self._begin_erasure(leaf.record, body)

    def _bury(self, record: int, body: Tombstone) -> None:
        for position in body.positions:
            if position >= self.entries.size or position in self.removed:
                raise RecordRefusedError(
                    f"positions: {position} is not in the data set of {self.entries.size} entries"
                )
            self.removed[position] = record
            self.entries.replace(position, _TOMBSTONE_HASH)

    def _begin_erasure(self, record: int, body: ErasePending) -> None:
        if not body.records and not body.entries:
            raise RecordRefusedError("it names nothing to erase")
        for number in body.records:
            if number >= self.size or self.types[number] not in PAYLOADS:
                raise RecordRefusedError(f"records: {number} has no payload")
            # Its payload opens the entries, of which others may be there to stay.
            if self.types[number] == DataSet.record_type:
                raise RecordRefusedError(f"records: {number} is a data set: erase its entries")
            # Its payload bars what was forgotten from coming back.
            if self.types[number] == Tombstone.record_type:
                raise RecordRefusedError(f"records: {number} is a tombstone: it has to stay")
            if number in self.erased_records:
                raise RecordRefusedError(f"records: {number} is erased already")
        for position in body.entries:
            if position >= self.entries.size or position in self.erased_entries:
                raise RecordRefusedError(f"entries: {position} is no entry, or erased already")
        self.erased_records.update(dict.fromkeys(body.records, record))
        self.erased_entries.update(dict.fromkeys(body.entries, record))
        self.erasing[record] = body

    def _change_policy(self) -> None:
        """Let the changes count that are due for the next block."""
        due = sorted(
            (change for change in self.scheduled if change[0] <= self.height),
            key=lambda change: (change[0], change[1].record),
        )
        self.scheduled = [change for change in self.scheduled if change[0] > self.height]
        for _, leaf in due:
            body = leaf.part()
            try:
                if isinstance(body, MembershipChange):
                    self.policy = self._with_change(body)
                elif isinstance(body, PolicyChange):
                    self.policy = self.members.ruled_by(body)
                elif isinstance(body, KeyRotation):
                    self.policy = self.members.succeeded(leaf.author, body)
                    self.retired.add(leaf.author)
            except RecordRefusedError as error:
                self.void[leaf.record] = str(error)

    def _with_change(self, body: MembershipChange) -> Policy:
        if body.member.address in self.retired:
            # Said of a key before it was replaced, and endorsed after.
            raise RecordRefusedError(f"membership: {body.member.address} was replaced by another")
        return self.members.changed_by(body)


def _shown(value: object) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
