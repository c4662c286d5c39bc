"""A ledger against a model of it in memory: whatever its members do, both say the same."""

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from blockchain import transparency_log
from blockchain.private.audit import audit
from blockchain.private.data_sets import bury, commit, open_entries
from blockchain.private.drafts import Draft
from blockchain.private.encoding import TOMBSTONE_LEAF, member_of
from blockchain.private.errors import (
    EntryBarredError,
    ErasedError,
    LedgerError,
    NotPermittedError,
    RecordRefusedError,
)
from blockchain.private.ledger import Ledger
from blockchain.private.policy import DEFAULT_RULES
from blockchain.private.record_types import (
    PAYLOADS,
    Role,
)
from tests.ledger_cases import (
    AUDITOR,
    OFFICER,
    OPERATOR,
    digest,
    evidence,
    found_ledger,
    payload_samples,
    training_run,
)

RECEIPT = payload_samples()["receipt"]
REQUEST = payload_samples()["unlearning-request"]

#: Payloads that the operator, who also trains, may write.
payloads = st.one_of(
    st.builds(training_run, st.integers(1, 2**20)),
    st.builds(lambda n: RECEIPT.model_copy(update={"round": n}), st.integers(1, 2**20)),
    st.builds(lambda n: REQUEST.model_copy(update={"request": digest(n)}), st.text(max_size=3)),
    st.builds(evidence, st.text(max_size=3)),
)

#: Two processes of the operator's, each with the ledger open.
views = st.sampled_from([0, 1])

#: Ids of few records, each with one of two contents.
training_sets = st.dictionaries(
    st.sampled_from([f"record {i}" for i in range(6)]),
    st.sampled_from([bytes(32), b"\x01" * 32]),
    max_size=6,
)


@functools.cache
def founded():
    """The files of a ledger that has just begun."""
    with TemporaryDirectory() as folder:
        found_ledger(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).glob("*.sqlite")}


class LedgerMachine(RuleBasedStateMachine):
    """What members do, on a ledger and on lists and dictionaries."""

    def __init__(self):
        super().__init__()
        self.temporary = TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        for name, content in founded().items():
            (self.folder / name).write_bytes(content)
        self.operators = [Ledger(self.folder, OPERATOR) for _ in range(2)]
        self.officer = Ledger(self.folder, OFFICER)
        # By record: its leaf as it was when it was new, and what its payload holds.
        self.leaves = [self.officer.leaf(0).encoded()]
        self.payloads = {}
        self.pending = set()
        self.erased = set()
        # By position: id, content, commitment, and whether it is in the training set.
        self.entries = []
        self.erased_entries = set()
        self.data_set_root = None
        self.barred = set()
        self.has_auditor = False
        self.auditor_changes = 0

    def teardown(self):
        try:
            self.check_all()
        finally:
            for ledger in (*self.operators, self.officer):
                ledger.close()
            self.temporary.cleanup()

    # What the model says

    @property
    def standing(self):
        return {entry["id"]: i for i, entry in enumerate(self.entries) if entry["standing"]}

    @property
    def entry_leaves(self):
        return [
            entry["commitment"] if entry["standing"] else TOMBSTONE_LEAF for entry in self.entries
        ]

    @property
    def erasable(self):
        """Records whose payloads can be erased: no data sets, and nothing that bars ids."""
        return [
            number
            for number, payload in self.payloads.items()
            if number not in self.erased and payload.record_type not in ("data-set", "tombstone")
        ]

    @property
    def statuses(self):
        return [
            "pending" if number in self.pending
            else "erased" if number in self.erased
            else "effective"
            for number in range(len(self.leaves))
        ]  # fmt: skip

    def take_up(self, author, types, payloads=()):
        """Take records into the model that were written just now, by their types in order."""
        first = len(self.leaves)
        assert self.officer.history.size == first + len(types)
        for number, record_type in enumerate(types, start=first):
            leaf = self.officer.leaf(number)
            assert (leaf.record, leaf.type, leaf.author) == (number, record_type, author.address)
            assert (leaf.sealed is not None) == (record_type in PAYLOADS)
            self.leaves.append(leaf.encoded())
        self.payloads.update(payloads)
        return first

    # What members do

    @rule(view=views, written=st.lists(payloads, min_size=1, max_size=5))
    def append(self, view, written):
        numbers = self.operators[view].append(*[Draft(payload=payload) for payload in written])
        first = self.take_up(OPERATOR, [payload.record_type for payload in written])
        assert numbers == list(range(first, first + len(written)))
        self.payloads.update(zip(numbers, written, strict=True))
        self.pending.update(
            number
            for number, payload in zip(numbers, written, strict=True)
            if payload.record_type == "unlearning-evidence"
        )

    @rule(view=views)
    def append_what_is_not_permitted(self, view):
        with pytest.raises(NotPermittedError):
            self.officer.append(Draft(payload=REQUEST), Draft(payload=RECEIPT))
        with pytest.raises(RecordRefusedError):
            self.operators[view].append(Draft(payload=REQUEST), Draft())

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def endorse(self, data):
        number = data.draw(st.sampled_from(sorted(self.pending)))
        self.officer.endorse(number)
        self.take_up(OFFICER, ["endorsement"])
        self.pending.discard(number)
        with pytest.raises(NotPermittedError, match="needs no endorsement"):
            self.officer.endorse(number)

    @precondition(lambda self: self.erasable)
    @rule(view=views, data=st.data())
    def erase(self, view, data):
        numbers = data.draw(st.lists(st.sampled_from(self.erasable), min_size=1, unique=True))
        self.operators[view].erase("retention", record_numbers=numbers)
        self.take_up(OPERATOR, ["erase-pending", "erased"])
        self.erased.update(numbers)
        with pytest.raises(RecordRefusedError, match="erased already"):
            self.operators[view].erase("retention", record_numbers=numbers[:1])

    @precondition(lambda self: self.forgotten)
    @rule(view=views)
    def erase_what_opens_forgotten_entries(self, view):
        positions = self.forgotten
        self.operators[view].erase("unlearning", positions=positions)
        self.take_up(OPERATOR, ["erase-pending", "erased"])
        self.erased_entries.update(positions)

    @property
    def forgotten(self):
        return [
            i
            for i, entry in enumerate(self.entries)
            if not entry["standing"] and i not in self.erased_entries
        ]

    @rule(view=views, records=training_sets)
    def commit(self, view, records):
        ledger = self.operators[view]
        if self.barred & records.keys():
            with pytest.raises(EntryBarredError):
                commit(ledger, "records.jsonl", records)
            return
        standing = self.standing
        same = {
            name for name, i in standing.items() if records.get(name) == self.entries[i]["content"]
        }
        added = sorted(records.keys() - same)
        gone = standing.keys() - same
        training_set = commit(ledger, "records.jsonl", records)
        for name in gone:
            self.entries[standing[name]]["standing"] = False
        commitments = ledger.history.commitments[len(self.entries) :]
        for name, commitment in zip(added, commitments, strict=True):
            self.entries.append(
                {"id": name, "content": records[name], "commitment": commitment, "standing": True}
            )
        assert training_set.positions == self.standing
        root = transparency_log.root(self.entry_leaves)
        if root != self.data_set_root:
            first = self.take_up(OPERATOR, ["tombstone"] * bool(gone) + ["data-set"])
            self.payloads.update(dict.fromkeys(range(first, len(self.leaves))))
            self.data_set_root = root
            assert training_set.record == len(self.leaves) - 1
        assert ledger.history.data_sets[-1].root == root
        assert ledger.history.data_sets[-1].record == training_set.record
        self.keep_opened()

    @precondition(lambda self: self.standing)
    @rule(view=views, data=st.data())
    def bury(self, view, data):
        names = data.draw(st.lists(st.sampled_from(sorted(self.standing)), min_size=1, unique=True))
        with pytest.raises(LedgerError, match="not in the training set: nobody's"):
            bury(self.operators[view], [*names, "nobody's"], request=bytes(32))
        positions = bury(self.operators[view], names, request=bytes(32))
        assert positions == sorted(self.standing[name] for name in names)
        for position in positions:
            self.entries[position]["standing"] = False
        self.barred.update(names)
        first = self.take_up(OPERATOR, ["tombstone"])
        self.payloads[first] = None
        self.keep_opened()

    # Admitted, revoked and admitted again: more often it would be half of all that is done here.
    @precondition(lambda self: self.auditor_changes < 3)
    @rule(view=views)
    def admit_or_revoke_the_auditor(self, view):
        ledger = self.operators[view]
        roles = () if self.has_auditor else (Role.AUDITOR,)
        self.officer.endorse(ledger.change_member(member_of(AUDITOR, *roles)))
        number = len(self.leaves)
        assert self.officer.history.size == number + 2
        self.leaves += [self.officer.leaf(number + i).encoded() for i in range(2)]
        self.has_auditor = not self.has_auditor
        self.auditor_changes += 1
        # Whoever kept the role's key for want of an auditor hands it on when it opens the ledger.
        self.reopen(view)
        if not self.has_auditor:
            with pytest.raises(NotPermittedError, match="is no member"):
                Ledger(self.folder, AUDITOR)

    @rule(view=views)
    def reopen(self, view):
        self.operators[view].close()
        self.operators[view] = Ledger(self.folder, OPERATOR)

    @precondition(lambda self: self.payloads)
    @rule(view=views, data=st.data())
    def read(self, view, data):
        number = data.draw(st.sampled_from(sorted(self.payloads)))
        self.check_readable(self.operators[view], number, (Role.OPERATOR, Role.TRAINER))
        self.check_readable(self.officer, number, (Role.OFFICER,))

    @precondition(lambda self: self.payloads and self.has_auditor)
    @rule(data=st.data())
    def read_as_auditor(self, data):
        with Ledger(self.folder, AUDITOR) as ledger:
            for number in data.draw(st.lists(st.sampled_from(sorted(self.payloads)))):
                self.check_readable(ledger, number, (Role.AUDITOR,))

    # What has to hold

    @invariant()
    def ledger_and_model_have_the_same_records(self):
        for ledger in (*self.operators, self.officer):
            state = ledger.history
            assert state.size == len(self.leaves)
            assert [state.status(number) for number in range(state.size)] == self.statuses
            assert state.tree.root() == transparency_log.root(self.leaves)
            assert state.entries.root() == transparency_log.root(self.entry_leaves)

    def check_readable(self, ledger, number, roles):
        """Hold what a member gets of a record against the model."""
        before = len(ledger.reads())
        record_type = self.payloads[number].record_type
        if number in self.erased:
            with pytest.raises(ErasedError, match=f"record {number} was erased"):
                ledger.read(number, "to see")
        elif set(roles) & set(DEFAULT_RULES.readers[record_type]):
            assert ledger.read(number, "to see").payload == self.payloads[number]
            before += 1
        else:
            with pytest.raises(NotPermittedError, match=f"record {number}"):
                ledger.read(number, "to see")
        assert len(ledger.reads()) == before

    def keep_opened(self):
        """Note what new payloads hold that were made by the ledger itself."""
        for number, payload in self.payloads.items():
            if payload is None:
                self.payloads[number] = self.officer.read(number, "to note it").payload
        opened = {entry.position: entry for entry in open_entries(self.officer, "to compare")}
        assert opened.keys() == set(range(len(self.entries))) - self.erased_entries
        for position, entry in opened.items():
            known = self.entries[position]
            assert (entry.id, entry.digest) == (known["id"], known["content"])

    def check_all(self):
        """Hold all there is against the model, and the ledger against itself."""
        assert [leaf.encoded() for leaf in self.officer.leaves()] == self.leaves
        for number in self.payloads:
            self.check_readable(self.operators[0], number, (Role.OPERATOR, Role.TRAINER))
        tree, roots = self.officer.history.tree, {}
        for size in range(1, len(self.leaves) + 1):
            roots[size] = transparency_log.root(self.leaves[:size])
            for old_size in range(1, size + 1):
                proof = tree.consistency_proof(old_size, size)
                assert transparency_log.verify_consistency(
                    old_size, size, roots[old_size], roots[size], proof
                )
        whole = audit(self.folder, OPERATOR)
        assert (whole.opened, whole.closed) == (len(self.payloads) - len(self.erased), 0)
        assert whole.reads == len(self.officer.reads())
        assert audit(self.folder, OFFICER).closed == sum(
            Role.OFFICER not in DEFAULT_RULES.readers[payload.record_type]
            for number, payload in self.payloads.items()
            if number not in self.erased
        )


def test_a_ledger_is_what_its_model_is_whatever_its_members_do():
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=15,
            deadline=None,
            # To shrink a failure of few steps takes longer than to read it.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            # What else the machine does decides how long a step takes.
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
