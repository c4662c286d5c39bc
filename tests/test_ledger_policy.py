"""Who may do what in a real ledger: roles, keys, endorsements, members that come, go and rotate."""

import copy
import functools
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from blockchain import transparency_log
from blockchain.merkle import organization_id
from blockchain.private.audit import audit
from blockchain.private.data_sets import commit
from blockchain.private.drafts import Draft
from blockchain.private.encoding import (
    VERSION,
    Block,
    Leaf,
    Sealed,
    endorsement_digest,
    ledger_id,
    member_of,
)
from blockchain.private.errors import InvalidLedgerError, NotPermittedError, RecordRefusedError
from blockchain.private.files import LedgerFiles
from blockchain.private.founding import found
from blockchain.private.history import History
from blockchain.private.keyring import Keyring
from blockchain.private.ledger import Ledger
from blockchain.private.policy import DEFAULT_RULES, EVERYBODY, Policy
from blockchain.private.record_types import (
    PAYLOADS,
    TYPES,
    DataSet,
    DataSetKey,
    Endorsement,
    Erased,
    ErasePending,
    KeyRotation,
    MembershipChange,
    PolicyChange,
    ReadsSoFar,
    Role,
    Tombstone,
    TombstoneDetails,
)
from blockchain.private.schema import keys, role_keys
from blockchain.typed_data import sign_digest
from tests.ledger_cases import (
    AUDITOR,
    OFFICER,
    OPERATOR,
    STRANGER,
    digest,
    evidence,
    found_ledger,
    payload_samples,
    training_run,
)
from tests.make_ledger_vectors import GENESIS
from tests.signing_cases import account_of

TRAINER = account_of("trainer")
SUCCESSOR = account_of("successor")

#: A member for each role, and one role for each member.
BY_ROLE = {
    Role.OPERATOR: OPERATOR,
    Role.TRAINER: TRAINER,
    Role.AUDITOR: AUDITOR,
    Role.OFFICER: OFFICER,
}


def found_with_four(folder, rules=DEFAULT_RULES):
    """Begin a ledger with one member in each role."""
    others = [member_of(one, role) for role, one in BY_ROLE.items() if one is not OPERATOR]
    found(folder, organization_id("shop"), OPERATOR, others, roles=(Role.OPERATOR,), rules=rules)
    return folder


@functools.cache
def files_of(begin):
    """The files of a ledger that has just begun: made once, for making them is most of the work."""
    with TemporaryDirectory() as folder:
        begin(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).glob("*.sqlite")}


def ledger_of_two(folder):
    """A ledger with an operator, who also trains, and an officer."""
    for name, content in files_of(found_ledger).items():
        (folder / name).write_bytes(content)
    return folder


def ledger_of_four(folder):
    """A ledger with one member in each role."""
    for name, content in files_of(found_with_four).items():
        (folder / name).write_bytes(content)
    return folder


def ruled(**changes):
    """The default rules, with some of their entries replaced."""
    return DEFAULT_RULES.model_copy(
        update={name: {**getattr(DEFAULT_RULES, name), **new} for name, new in changes.items()}
    )


def write(folder, account, *drafts):
    with Ledger(folder, account) as ledger:
        return ledger.append(*drafts)[-1]


def endorse(folder, account, record):
    with Ledger(folder, account) as ledger:
        return ledger.endorse(record)


def change_member(folder, account, *roles, valid_from=0):
    """Have a change of members written and endorsed; the record's number."""
    with Ledger(folder, OPERATOR) as ledger:
        number = ledger.change_member(member_of(account, *roles), valid_from)
    endorse(folder, OFFICER, number)
    return number


def state_of(folder, account=OPERATOR):
    """The ledger's state, apart from any open ledger's."""
    with Ledger(folder, account) as ledger:
        return copy.deepcopy(ledger.history)


def key_holders(folder):
    """Who was given which role's key: (role, generation) by holder."""
    files = LedgerFiles(folder, read_only=True)
    try:
        with files.secrets.reading() as connection:
            rows = connection.execute(select(role_keys)).all()
    finally:
        files.close()
    held = {}
    for row in rows:
        held.setdefault(row.holder, set()).add((row.role, row.generation))
    return held


def reads(folder, account, record):
    """Whether a member gets a record's payload."""
    with Ledger(folder, account) as ledger:
        return is_read(ledger, record)


def is_read(ledger, record):
    """Whether a member gets a record's payload; it has the key exactly if it does."""
    with ledger.files.secrets.reading() as connection:
        rows = connection.execute(select(keys).where(keys.c.record == record)).all()
    has_key = any(ledger.keyring.open_payload_key(row) is not None for row in rows)
    try:
        assert ledger.read(record, "to see").payload is not None
    except NotPermittedError:
        assert not has_key
        return False
    assert has_key
    return True


@contextmanager
def opened_by_all(folder):
    """The ledger as each of four members has it open, by role."""
    with ExitStack() as stack:
        yield {
            role: stack.enter_context(Ledger(folder, account)) for role, account in BY_ROLE.items()
        }


# Writing and reading, by role


def rotation_to(account):
    member = member_of(account)
    return KeyRotation(successor=member.address, encryption=member.encryption, proof=member.proof)


def endorsement_of(ledger, record, account, role, **changes):
    """An endorsement as a member signs it, with some of its fields replaced."""
    state = ledger.history
    leaf = state.tree.leaf(record)
    signed = endorsement_digest(state.domain, state.ledger, record, leaf, role)
    values = {
        "record": record,
        "leaf": leaf.hex(),
        "member": account.address,
        "role": role,
        "signature": sign_digest(signed, account).hex(),
    }
    return Endorsement(**{**values, **changes})


def draft_of(ledger, record_type, position, run):
    """A record of a type that only the policy can be against.

    Parameters
    ----------
    ledger : Ledger
        Whose operator prepares what the record is about.
    position : int
        Of an entry that is in the data set.
    run : int
        Number of a training run's record that was not erased.
    """
    state = ledger.history
    if record_type in payload_samples():
        return Draft(payload=payload_samples()[record_type])
    if record_type == "data-set":
        body = DataSet(added=0, size=state.entries.size, root=state.entries.root().hex())
        return Draft(body, DataSetKey(source="nowhere", key=digest("key")))
    if record_type == "tombstone":
        details = TombstoneDetails(
            request=digest("request"), task=digest("task"), since_round=1, generation=0,
            suppressed=(),
        )  # fmt: skip
        return Draft(Tombstone(positions=(position,)), details)
    if record_type == "endorsement":
        [number] = ledger.append(Draft(payload=evidence()))
        return Draft(endorsement_of(ledger, number, OFFICER, Role.OFFICER))
    if record_type == "erased":
        begun = ErasePending(records=(run,), entries=(), reason="retention")
        return Draft(Erased(pending=ledger.append(Draft(begun))[0]))
    newcomer = member_of(account_of(f"newcomer {position}"), Role.TRAINER)
    bodies = {
        "erase-pending": ErasePending(records=(run,), entries=(), reason="retention"),
        "genesis": GENESIS,
        "key-rotation": rotation_to(account_of(f"successor {position}")),
        "membership": MembershipChange(member=newcomer, role_keys={}, valid_from=0),
        "policy": PolicyChange(rules=DEFAULT_RULES, valid_from=0),
        "reads": ReadsSoFar(count=0, head="00" * 32),
    }
    return Draft(bodies[record_type])


def forged_block(state, account, role, draft):
    """A block with one record, well made but for who writes it as what; with signature and leaf."""
    now = state.time
    sealed = Sealed(commitment=digest("commitment"), ciphertext=digest("ciphertext"))
    leaf = Leaf(
        version=VERSION,
        ledger=state.ledger.hex(),
        record=state.size,
        type=draft.type,
        time=now,
        author=account.address,
        role=role,
        body=None if draft.body is None else draft.body.checked(),
        sealed=None if draft.payload is None else sealed,
    ).encoded()
    block = Block(
        version=VERSION,
        ledger=state.ledger,
        height=state.height,
        previous=state.head,
        size=state.size + 1,
        root=state.root_with([leaf]),
        policy=state.members.hash,
        time=now,
        author=account.address,
    )
    return block, sign_digest(block.digest(state.domain), account), [leaf]


@pytest.mark.parametrize("record_type", TYPES)
def test_a_type_of_record_is_written_by_the_roles_that_may_and_refused_from_others(
    record_type, tmp_path
):
    with opened_by_all(ledger_of_four(tmp_path)) as ledgers:
        operator, trainer = ledgers[Role.OPERATOR], ledgers[Role.TRAINER]
        commit(operator, "records.jsonl", {f"id {i}": bytes(32) for i in range(4)})
        runs = trainer.append(*[Draft(payload=training_run(i)) for i in range(4)])
        # Who rotates is no member afterwards: the operator, who prepares the records, goes last.
        for position, (role, ledger) in enumerate(reversed(ledgers.items())):
            draft = draft_of(operator, record_type, position, runs[position])
            before = ledger.history.size
            if role in DEFAULT_RULES.writers[record_type]:
                [number] = ledger.append(draft)
                assert (number, ledger.leaf(number).role) == (before, role)
                assert ledger.leaf(number).author == BY_ROLE[role].address
                continue
            with pytest.raises(NotPermittedError, match=f"may not write {record_type} records"):
                ledger.append(draft)
            # Nor does anybody take it from a member that does not ask.
            state = copy.deepcopy(ledger.history)
            assert state.size == before
            for claimed in Role:
                block = forged_block(state, BY_ROLE[role], claimed, draft)
                with pytest.raises(InvalidLedgerError, match=r"may not write|is no"):
                    copy.deepcopy(state).apply(*block, lambda _: [])


def test_every_type_of_record_is_written_in_some_role_but_the_genesis():
    allowed = {name for name, roles in DEFAULT_RULES.writers.items() if roles}
    assert allowed == set(TYPES) - {"genesis"}


def test_a_payload_is_read_by_the_roles_that_may_and_others_lack_its_key(tmp_path):
    with opened_by_all(ledger_of_four(tmp_path)) as ledgers:
        operator = ledgers[Role.OPERATOR]
        commit(operator, "records.jsonl", {"id": bytes(32)})
        for record_type in sorted(PAYLOADS):
            writer = ledgers[DEFAULT_RULES.writers[record_type][0]]
            [number] = writer.append(draft_of(operator, record_type, 0, 0))
            for role, ledger in ledgers.items():
                may = role in DEFAULT_RULES.readers[record_type]
                assert is_read(ledger, number) == may, (record_type, role)
                assert ledger.may_read(record_type) == may


def test_reads_are_logged_with_who_read_what_as_what_and_refused_ones_are_not(tmp_path):
    folder = ledger_of_four(tmp_path)
    numbers = [write(folder, TRAINER, Draft(payload=training_run(n))) for n in (1, 2, 3)]
    for account, chosen in ((AUDITOR, numbers), (OPERATOR, numbers[:1]), (TRAINER, numbers[::2])):
        with Ledger(folder, account) as ledger:
            ledger.read_all(chosen, f"for {account.address[:6]}")
    with Ledger(folder, OFFICER) as ledger:
        with pytest.raises(NotPermittedError, match=r"can be read by: auditor, operator, trainer"):
            ledger.read_all(numbers, "out of curiosity")
        # A record without a payload is everybody's to read.
        assert ledger.read(0, "to see").body is not None
        said = [
            (one.number, one.member, one.role, one.records, one.purpose) for one in ledger.reads()
        ]
    assert said == [
        (1, AUDITOR.address, "auditor", "1-3", f"for {AUDITOR.address[:6]}"),
        (2, OPERATOR.address, "operator", "1", f"for {OPERATOR.address[:6]}"),
        (3, TRAINER.address, "trainer", "1,3", f"for {TRAINER.address[:6]}"),
    ]
    assert audit(folder, OFFICER).reads == 3


def test_a_stranger_opens_nothing(tmp_path):
    folder = ledger_of_four(tmp_path)
    for refuse in (lambda: Ledger(folder, STRANGER), lambda: audit(folder, STRANGER)):
        with pytest.raises(NotPermittedError, match=f"{STRANGER.address} is no member"):
            refuse()
    block = forged_block(state_of(folder), STRANGER, Role.TRAINER, Draft(payload=training_run()))
    with pytest.raises(InvalidLedgerError, match=f"{STRANGER.address} .no member. is no trainer"):
        state_of(folder).apply(*block, lambda _: [])


# Endorsements


def test_evidence_is_pending_until_the_officer_endorses_it(tmp_path):
    folder = ledger_of_two(tmp_path)
    number = write(folder, OPERATOR, Draft(payload=evidence()))
    state = state_of(folder)
    assert state.status(number) == "pending"
    assert state.pending[number].missing == {Role.OFFICER: 1}
    endorse(folder, OFFICER, number)
    assert state_of(folder).status(number) == "effective"


def test_evidence_of_a_trainer_lacks_operator_and_officer(tmp_path):
    folder = ledger_of_four(tmp_path)
    number = write(folder, TRAINER, Draft(payload=evidence()))
    endorse(folder, OFFICER, number)
    state = state_of(folder)
    assert state.pending[number].missing == {Role.OPERATOR: 1}
    endorse(folder, OPERATOR, number)
    assert state_of(folder).status(number) == "effective"


def test_an_endorsement_may_be_put_on_the_ledger_by_another_than_who_signed_it(tmp_path):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        [number] = ledger.append(Draft(payload=evidence()))
        ledger.append(Draft(endorsement_of(ledger, number, OFFICER, Role.OFFICER)))
        assert ledger.status(number) == "effective"


def test_nobody_stands_behind_a_record_twice_or_behind_its_own_again(tmp_path):
    two_officers = ruled(endorsements={"unlearning-evidence": {Role.OPERATOR: 1, Role.OFFICER: 2}})
    folder = found_with_four(tmp_path, two_officers)
    number = write(folder, OPERATOR, Draft(payload=evidence()))
    endorse(folder, OFFICER, number)
    for account in (OPERATOR, OFFICER):
        with pytest.raises(NotPermittedError, match=f"{account.address} stands behind record"):
            endorse(folder, account, number)
    with Ledger(folder, TRAINER) as ledger:
        for account, role in ((OFFICER, Role.OFFICER), (OPERATOR, Role.OPERATOR)):
            again = endorsement_of(ledger, number, account, role)
            with pytest.raises(RecordRefusedError, match=f"{account.address} stands behind record"):
                ledger.append(Draft(again))
        assert ledger.history.pending[number].missing == {Role.OFFICER: 1}


def test_a_record_that_counts_takes_no_endorsement(tmp_path):
    folder = ledger_of_two(tmp_path)
    run = write(folder, OPERATOR, Draft(payload=training_run()))
    number = write(folder, OPERATOR, Draft(payload=evidence()))
    endorse(folder, OFFICER, number)
    with Ledger(folder, OFFICER) as ledger:
        for record in (0, run, number):
            with pytest.raises(NotPermittedError, match=f"record {record} needs no endorsement"):
                ledger.endorse(record)
            with pytest.raises(RecordRefusedError, match=f"record {record} needs no endorsement"):
                ledger.append(Draft(endorsement_of(ledger, record, OFFICER, Role.OFFICER)))


def test_a_member_of_no_role_that_is_lacking_is_told_which_is(tmp_path):
    folder = ledger_of_four(tmp_path)
    number = write(folder, OPERATOR, Draft(payload=evidence()))
    with pytest.raises(NotPermittedError, match=r"of data-protection-officer; 0x\w+ is auditor"):
        endorse(folder, AUDITOR, number)


def wrong_endorsements(ledger, number):
    """Endorsements of a pending record that do not count, and what is said."""
    right = endorsement_of(ledger, number, OFFICER, Role.OFFICER)
    strange = endorsement_of(ledger, number, STRANGER, Role.OFFICER)
    genesis = ledger.history.tree.leaf(0).hex()
    yield strange, f"{STRANGER.address} is no data-protection-officer"
    yield right.model_copy(update={"signature": strange.signature}), "signed by 0x"
    yield right.model_copy(update={"signature": "00" * 65}), "a signature with v = 0"
    yield right.model_copy(update={"leaf": genesis}), f"is not record {number}"
    yield right.model_copy(update={"record": 0}), "is not record 0"
    yield right.model_copy(update={"record": number + 1}), "not there yet"
    yield right.model_copy(update={"member": AUDITOR.address}), f"{AUDITOR.address} is no data"
    yield right.model_copy(update={"role": Role.OPERATOR}), f"{OFFICER.address} is no operator"
    as_auditor = endorsement_of(ledger, number, AUDITOR, Role.AUDITOR)
    yield as_auditor.model_copy(update={"signature": right.signature}), "signed by 0x"
    yield as_auditor, f"record {number} lacks no auditor"
    elsewhere = copy.deepcopy(ledger.history)
    signed = endorsement_digest(
        elsewhere.domain, bytes(32), number, elsewhere.tree.leaf(number), Role.OFFICER
    )
    other = sign_digest(signed, OFFICER).hex()
    yield right.model_copy(update={"signature": other}), "signed by 0x"


def test_an_endorsement_that_is_not_the_members_of_this_record_is_refused(tmp_path):
    folder = ledger_of_four(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        [number] = ledger.append(Draft(payload=evidence()))
        wrong = list(wrong_endorsements(ledger, number))
        for endorsement, said in wrong:
            with pytest.raises(RecordRefusedError, match=said) as caught:
                ledger.append(Draft(endorsement))
            assert len(str(caught.value).splitlines()) == 1
        assert len(wrong) == 11
        assert ledger.status(number) == "pending"
        assert ledger.history.size == number + 1


def test_two_of_several_trainers_have_to_stand_behind_a_run_where_the_rules_say_so(tmp_path):
    rules = ruled(endorsements={"training-run": {Role.TRAINER: 2}})
    trainers = [account_of(f"trainer {i}") for i in range(3)]
    others = [member_of(OFFICER, Role.OFFICER), *(member_of(t, Role.TRAINER) for t in trainers)]
    found(tmp_path, organization_id("shop"), OPERATOR, others, roles=(Role.OPERATOR,), rules=rules)
    number = write(tmp_path, trainers[0], Draft(payload=training_run()))
    assert state_of(tmp_path).pending[number].missing == {Role.TRAINER: 1}
    for nobody in (OPERATOR, OFFICER):
        with pytest.raises(NotPermittedError, match="needs the endorsement of trainer"):
            endorse(tmp_path, nobody, number)
    endorse(tmp_path, trainers[2], number)
    assert state_of(tmp_path).status(number) == "effective"
    with pytest.raises(NotPermittedError, match="needs no endorsement"):
        endorse(tmp_path, trainers[1], number)


@settings(max_examples=100)
@given(
    needed=st.dictionaries(st.sampled_from(Role), st.integers(1, 4)),
    endorsers=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(Role)), max_size=12),
)
def test_each_member_counts_once_for_the_role_it_stood_for_first(needed, endorsers):
    policy = Policy({}, {}, ruled(endorsements={"receipt": needed}))
    first = {}
    for name, role in endorsers:
        first.setdefault(name, role)
    lacking = {role: n - sum(one == role for one in first.values()) for role, n in needed.items()}
    expected = {role: n for role, n in lacking.items() if n > 0}
    assert policy.missing("receipt", endorsers) == expected


# Changes of members and rules


def test_a_member_is_admitted_once_endorsed_and_not_before_its_height(tmp_path):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        height = ledger.history.height + 4
        number = ledger.change_member(member_of(TRAINER, Role.TRAINER), height)
    for step in ("not endorsed", "endorsed", "and a block later"):
        assert not state_of(folder).members.roles_of(TRAINER.address), step
        with pytest.raises(NotPermittedError, match="is no member"):
            Ledger(folder, TRAINER)
        if step == "not endorsed":
            assert state_of(folder).status(number) == "pending"
            endorse(folder, OFFICER, number)
        else:
            write(folder, OPERATOR, Draft(payload=training_run()))
        assert state_of(folder).height <= height
    assert state_of(folder).height == height
    assert write(folder, TRAINER, Draft(payload=training_run()))


def test_rules_count_once_endorsed_and_from_their_height(tmp_path):
    folder = ledger_of_two(tmp_path)
    rules = ruled(
        writers={"training-run": (Role.OFFICER,)}, readers={"training-run": (Role.AUDITOR,)}
    )
    with Ledger(folder, OPERATOR) as ledger:
        height = ledger.history.height + 3
        before = ledger.history.members.hash
        [number] = ledger.append(Draft(PolicyChange(rules=rules, valid_from=height)))
    assert state_of(folder).status(number) == "pending"
    endorse(folder, OFFICER, number)
    assert state_of(folder).members.hash == before
    with pytest.raises(NotPermittedError, match="may not write training-run"):
        write(folder, OFFICER, Draft(payload=training_run()))
    write(folder, OPERATOR, Draft(payload=training_run()))
    assert state_of(folder).members.rules == rules
    with pytest.raises(NotPermittedError, match="data-protection-officer may"):
        write(folder, OPERATOR, Draft(payload=training_run()))
    number = write(folder, OFFICER, Draft(payload=training_run()))
    # Not even its author reads it; the operators keep the key of a role that nobody has.
    assert not reads(folder, OFFICER, number)
    assert reads(folder, OPERATOR, number)


def test_a_change_that_is_never_endorsed_changes_nothing(tmp_path):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        before = ledger.history.members.hash
        ledger.change_member(member_of(OFFICER))
        ledger.append(Draft(PolicyChange(rules=ONLY_AUDITORS, valid_from=0)))
        ledger.append(Draft(payload=training_run()))
        assert ledger.history.members.hash == before
    assert reads(folder, OPERATOR, 3)


def test_of_two_competing_changes_of_members_the_second_is_void_and_says_why(tmp_path):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        first = ledger.change_member(member_of(AUDITOR, Role.AUDITOR))
        second = ledger.change_member(member_of(STRANGER, Role.AUDITOR))
    for number in (first, second):
        endorse(folder, OFFICER, number)
    state = state_of(folder)
    assert (state.status(first), state.status(second)) == ("effective", "void")
    assert state.void[second].startswith("membership: role_keys: expected new keys of nobody")
    assert state.members.with_role(Role.AUDITOR) == [AUDITOR.address]
    assert STRANGER.address not in state.members.members
    audit(folder, OPERATOR)
    audit(folder, AUDITOR)


def test_of_two_members_revoked_at_once_the_second_is_void_for_want_of_newer_keys(tmp_path):
    folder = ledger_of_four(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        numbers = [ledger.change_member(member_of(one)) for one in (TRAINER, AUDITOR)]
    for number in numbers:
        endorse(folder, OFFICER, number)
    state = state_of(folder)
    assert [state.status(number) for number in numbers] == ["effective", "void"]
    assert "generation 1, expected 2: another change came first" in state.void[numbers[1]]
    assert AUDITOR.address in state.members.members
    # Once more, on top of the first.
    change_member(folder, AUDITOR)
    assert set(state_of(folder).members.members) == {OPERATOR.address, OFFICER.address}
    write(folder, OPERATOR, Draft(payload=payload_samples()["receipt"]))
    audit(folder, OFFICER)


ONLY_AUDITORS = ruled(readers={"receipt": (Role.AUDITOR,)})


def test_the_first_auditor_takes_the_key_of_its_role_over_and_reads_old_and_new(tmp_path):
    receipt = Draft(payload=payload_samples()["receipt"])
    found(tmp_path, organization_id("shop"), OPERATOR, [member_of(OFFICER, Role.OFFICER)],
          rules=ONLY_AUDITORS)  # fmt: skip
    old = write(tmp_path, OPERATOR, receipt)
    # Where a role has no member, the operators keep its key.
    assert reads(tmp_path, OPERATOR, old)
    assert ("auditor", 0) in key_holders(tmp_path)[OPERATOR.address]
    change_member(tmp_path, AUDITOR, Role.AUDITOR)
    new = write(tmp_path, OPERATOR, receipt)
    for number in (old, new):
        assert reads(tmp_path, AUDITOR, number)
        assert not reads(tmp_path, OPERATOR, number)
        assert not reads(tmp_path, OFFICER, number)
    held = key_holders(tmp_path)
    assert held[AUDITOR.address] == {("auditor", 0), ("auditor", 1), (EVERYBODY, 0)}
    assert not {role for role, _ in held[OPERATOR.address]} & {"auditor"}
    key = state_of(tmp_path).members.role_keys["auditor"]
    with Ledger(tmp_path, OPERATOR) as ledger, pytest.raises(NotPermittedError, match="auditor"):
        ledger.keyring.private("auditor", key)
    assert audit(tmp_path, AUDITOR).opened == 2


def test_a_second_auditor_shares_the_key_of_the_first(tmp_path):
    folder = ledger_of_four(tmp_path)
    old = write(folder, OPERATOR, Draft(payload=payload_samples()["receipt"]))
    change_member(folder, STRANGER, Role.AUDITOR)
    # Nobody who has just signed has the auditors' key: one of them hands it on.
    assert not reads_or_opens(folder, STRANGER, old)
    with Ledger(folder, AUDITOR):
        pass
    assert reads(folder, STRANGER, old)
    assert state_of(folder).members.role_keys["auditor"].generation == 0


def reads_or_opens(folder, account, record):
    """Whether a member, who may wait for keys, gets a record's payload."""
    with suppress(NotPermittedError):
        return reads(folder, account, record)
    return False


def test_a_member_that_left_neither_opens_nor_writes_nor_holds_newer_keys(tmp_path):
    folder = ledger_of_four(tmp_path)
    old = write(folder, TRAINER, Draft(payload=training_run()))
    held, leaving = key_holders(folder)[TRAINER.address], Ledger(folder, TRAINER)
    change_member(folder, TRAINER)
    change_member(folder, STRANGER, Role.TRAINER)
    new = write(folder, STRANGER, Draft(payload=training_run(2)))
    with leaving:
        with pytest.raises(NotPermittedError, match=r"no member. may not write training-run"):
            leaving.append(Draft(payload=training_run(3)))
        with pytest.raises(NotPermittedError, match=r"needs no endorsement"):
            leaving.endorse(old)
        with leaving.files.secrets.reading() as connection:
            rows = connection.execute(select(keys).where(keys.c.record == new)).all()
        assert {row.role for row in rows} == {"auditor", "operator", "trainer"}
        assert all(leaving.keyring.open_payload_key(row) is None for row in rows)
        with pytest.raises(NotPermittedError, match="can be read by"):
            leaving.read(new, "to see")
    with pytest.raises(NotPermittedError, match=f"{TRAINER.address} is no member"):
        Ledger(folder, TRAINER)
    generations = {role: key.generation for role, key in state_of(folder).members.role_keys.items()}
    # The operators kept the trainers' key for a moment, and are not to have the next.
    assert generations == {
        "auditor": 0, "data-protection-officer": 0, EVERYBODY: 1, "operator": 0, "trainer": 2
    }  # fmt: skip
    # What nobody but the last trainer had cannot be taken from it; of newer keys it was given none.
    left = key_holders(folder).get(TRAINER.address, set())
    assert left <= held
    assert {generation for _, generation in left} <= {0}
    assert reads(folder, AUDITOR, old)
    audit(folder, OPERATOR)


def test_a_ledger_that_is_open_goes_on_after_others_changed_its_members(tmp_path):
    folder = ledger_of_four(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        change_member(folder, TRAINER)
        change_member(folder, AUDITOR)
        [number] = ledger.append(Draft(payload=payload_samples()["receipt"]))
        assert ledger.history.members.role_keys[EVERYBODY].generation == 2
        assert ledger.read(number, "to see").payload == payload_samples()["receipt"]
    audit(folder, OFFICER)


def test_the_last_officer_may_endorse_its_own_leaving(tmp_path):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        number = ledger.change_member(member_of(OFFICER))
    endorse(folder, OFFICER, number)
    assert set(state_of(folder).members.members) == {OPERATOR.address}
    assert OFFICER.address not in state_of(folder).members.members
    request = write(folder, OPERATOR, Draft(payload=payload_samples()["unlearning-request"]))
    assert reads(folder, OPERATOR, request)
    audit(folder, OPERATOR)


def test_the_last_operator_cannot_leave(tmp_path):
    folder = ledger_of_two(tmp_path)
    for gone in (member_of(OPERATOR), member_of(OPERATOR, Role.TRAINER)):
        with Ledger(folder, OFFICER) as ledger:
            with pytest.raises(RecordRefusedError, match="leave the ledger without an operator"):
                ledger.change_member(gone)
            assert ledger.history.size == 1
    # Nor where somebody writes it regardless.
    gone = MembershipChange(member=member_of(OPERATOR), role_keys={}, valid_from=0)
    number = write(folder, OFFICER, Draft(gone))
    endorse(folder, OPERATOR, number)
    state = state_of(folder)
    assert state.status(number) == "void"
    assert "without an operator" in state.void[number]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (member_of(STRANGER), f"{STRANGER.address} is no member"),
        (
            member_of(STRANGER, Role.AUDITOR).model_copy(
                update={"encryption": member_of(AUDITOR).encryption}
            ),
            "proof of 0x",
        ),
        (
            member_of(AUDITOR, Role.AUDITOR).model_copy(update={"address": STRANGER.address}),
            "proof of 0x",
        ),
        (
            member_of(STRANGER).model_copy(update={"roles": (Role.TRAINER, Role.AUDITOR)}),
            "not in order, or twice",
        ),
        (
            member_of(STRANGER).model_copy(update={"roles": (Role.TRAINER, Role.TRAINER)}),
            "not in order, or twice",
        ),
    ],
    ids=["a stranger leaves", "another's key", "another's name", "roles unsorted", "a role twice"],
)
def test_a_member_that_cannot_be_is_refused_and_void_where_it_is_written_regardless(
    member, said, tmp_path
):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        with pytest.raises(RecordRefusedError, match=said):
            ledger.change_member(member)
        change = MembershipChange(member=member, role_keys={}, valid_from=0)
        [number] = ledger.append(Draft(change))
    endorse(folder, OFFICER, number)
    state = state_of(folder)
    assert state.status(number) == "void"
    assert len(state.void[number].splitlines()) == 1
    assert set(state.members.members) == {OPERATOR.address, OFFICER.address}


# Rotation of a key


def rotate(folder, account, successor):
    with Ledger(folder, account) as ledger:
        return ledger.rotate_key(successor)


def test_after_a_rotation_the_new_key_is_the_member_and_the_old_one_is_not(tmp_path):
    folder = ledger_of_four(tmp_path)
    old = write(folder, TRAINER, Draft(payload=training_run()))
    held = key_holders(folder)[TRAINER.address]
    number = rotate(folder, TRAINER, SUCCESSOR)
    with Ledger(folder, OPERATOR) as ledger:
        assert ledger.leaf(number).author == TRAINER.address
        assert ledger.history.members.roles_of(SUCCESSOR.address) == (Role.TRAINER,)
    with pytest.raises(NotPermittedError, match=f"{TRAINER.address} is no member"):
        Ledger(folder, TRAINER)
    assert reads(folder, SUCCESSOR, old)
    assert reads(folder, SUCCESSOR, write(folder, SUCCESSOR, Draft(payload=training_run(2))))
    after = key_holders(folder)
    assert after[SUCCESSOR.address] == held
    assert TRAINER.address not in after
    assert audit(folder, SUCCESSOR).opened == 2


def test_the_only_member_of_a_ledger_survives_its_rotations(tmp_path):
    found(tmp_path, organization_id("shop"), OPERATOR)
    numbers, account = [], OPERATOR
    for step in range(3):
        numbers.append(write(tmp_path, account, Draft(payload=training_run(step))))
        following = account_of(f"successor {step}")
        rotate(tmp_path, account, following)
        # The records of before are read by nobody but the new key.
        assert [reads(tmp_path, following, number) for number in numbers] == [True] * len(numbers)
        with pytest.raises(NotPermittedError, match="is no member"):
            Ledger(tmp_path, account)
        account = following
    assert set(key_holders(tmp_path)) == {account.address}
    assert audit(tmp_path, account).opened == 3


def test_who_rotated_writes_nothing_more_by_the_ledger_it_has_open(tmp_path):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        ledger.rotate_key(SUCCESSOR)
        size = ledger.history.size
        for refuse in (
            lambda: ledger.append(Draft(payload=training_run())),
            lambda: ledger.rotate_key(STRANGER),
            lambda: ledger.change_member(member_of(STRANGER, Role.TRAINER)),
        ):
            with pytest.raises(NotPermittedError, match="no member"):
                refuse()
        assert ledger.history.size == size
    assert reads(folder, SUCCESSOR, write(folder, SUCCESSOR, Draft(payload=training_run())))


class _KilledError(Exception):
    pass


def cut_short(folder, account, successor):
    """Rotate, and be killed when the keys are on the disk and the block is not."""
    with suppress(_KilledError), Ledger(folder, account) as ledger, ledger.decided() as writer:
        writer.append(Draft(rotation_to(successor)))
        raise _KilledError


@pytest.mark.parametrize("opened_between", [True, False])
def test_a_rotation_that_was_cut_short_changes_nothing_and_is_done_again(opened_between, tmp_path):
    found(tmp_path, organization_id("shop"), OPERATOR)
    number = write(tmp_path, OPERATOR, Draft(payload=training_run()))
    with Ledger(tmp_path, OPERATOR) as ledger:
        cut_short(tmp_path, OPERATOR, SUCCESSOR)
        assert SUCCESSOR.address in key_holders(tmp_path)
        audit(tmp_path, OPERATOR)
        with pytest.raises(NotPermittedError, match="is no member"):
            Ledger(tmp_path, SUCCESSOR)
        if opened_between:
            # Whoever opens it next takes the keys from who is no member after all.
            assert reads(tmp_path, OPERATOR, number)
            assert set(key_holders(tmp_path)) == {OPERATOR.address}
        ledger.rotate_key(SUCCESSOR)
    assert reads(tmp_path, SUCCESSOR, number)
    assert set(key_holders(tmp_path)) == {SUCCESSOR.address}
    audit(tmp_path, SUCCESSOR)


def test_who_opens_a_ledger_during_a_rotation_does_not_take_the_successors_keys_away(tmp_path):
    found(tmp_path, organization_id("shop"), OPERATOR)
    number = write(tmp_path, OPERATOR, Draft(payload=training_run()))

    def open_it():
        with Ledger(tmp_path, OPERATOR) as ledger:
            return ledger.history.members.roles_of(SUCCESSOR.address)

    with ThreadPoolExecutor(1) as threads:
        with Ledger(tmp_path, OPERATOR) as ledger, ledger.decided() as writer:
            writer.append(Draft(rotation_to(SUCCESSOR)))
            # The keys are there and the block is not: it has to wait for that.
            opening = threads.submit(open_it)
            assert not wait([opening], timeout=0.5).done
        assert opening.result() == (Role.OPERATOR, Role.TRAINER)
    assert reads(tmp_path, SUCCESSOR, number)
    audit(tmp_path, SUCCESSOR)


@pytest.mark.parametrize("account", [OFFICER, OPERATOR], ids=["another member's", "its own"])
def test_nobody_goes_on_under_a_members_key(account, tmp_path):
    folder = ledger_of_four(tmp_path)
    before = key_holders(folder)
    with Ledger(folder, OPERATOR) as ledger:
        with pytest.raises(RecordRefusedError, match=f"{account.address} is a member already"):
            ledger.rotate_key(account)
        assert ledger.history.size == 1
    assert key_holders(folder) == before


def test_nobody_goes_on_under_a_key_that_did_not_agree(tmp_path):
    folder = ledger_of_four(tmp_path)
    theirs = rotation_to(AUDITOR).model_copy(update={"successor": STRANGER.address})
    for account in (OPERATOR, TRAINER):
        with pytest.raises(RecordRefusedError, match=f"proof of {STRANGER.address}"):
            write(folder, account, Draft(theirs))
    assert STRANGER.address not in key_holders(folder)


def test_of_two_rotations_at_once_the_second_is_void_and_says_why(tmp_path):
    folder = ledger_of_two(tmp_path)
    second = write(folder, OPERATOR, Draft(rotation_to(SUCCESSOR)), Draft(rotation_to(STRANGER)))
    with Ledger(folder, SUCCESSOR) as ledger:
        assert ledger.status(second) == "void"
        assert ledger.history.void[second].endswith(f"{OPERATOR.address} is no member any more")
    assert set(key_holders(folder)) == {SUCCESSOR.address, OFFICER.address}
    with pytest.raises(NotPermittedError, match="is no member"):
        Ledger(folder, STRANGER)


def test_a_rotation_hands_on_the_keys_of_a_change_that_does_not_count_yet(tmp_path):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        number = ledger.change_member(member_of(OFFICER))
        ledger.rotate_key(SUCCESSOR)
    endorse(folder, OFFICER, number)
    with Ledger(folder, SUCCESSOR) as ledger:
        key = ledger.history.members.role_keys[EVERYBODY]
        assert key.generation == 1
        assert len(ledger.keyring.private(EVERYBODY, key)) == 32
    assert reads(folder, SUCCESSOR, write(folder, SUCCESSOR, Draft(payload=training_run())))
    audit(folder, SUCCESSOR)


def test_a_rotation_hands_on_no_key_that_was_taken_away_meanwhile(tmp_path):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        # Kept for want of an auditor, and still in memory when there is one.
        assert ledger.keyring.private("auditor", ledger.history.members.role_keys["auditor"])
        change_member(folder, AUDITOR, Role.AUDITOR)
        assert state_of(folder, OPERATOR).members.with_role(Role.AUDITOR) == [AUDITOR.address]
        ledger.rotate_key(SUCCESSOR)
    roles = {role for role, _ in key_holders(folder)[SUCCESSOR.address]}
    assert roles == {"operator", "trainer", EVERYBODY}


def test_a_key_kept_for_others_reaches_them_even_if_its_keeper_rotates_first(tmp_path):
    folder = ledger_of_two(tmp_path)
    old = write(folder, OPERATOR, Draft(payload=payload_samples()["receipt"]))
    with Ledger(folder, OPERATOR) as ledger:
        change_member(folder, AUDITOR, Role.AUDITOR)
        ledger.rotate_key(SUCCESSOR)
    # The officer, who endorsed it, had no such key to hand on.
    assert not reads(folder, AUDITOR, old)
    with Ledger(folder, SUCCESSOR):
        pass
    assert reads(folder, AUDITOR, old)
    assert {role for role, _ in key_holders(folder)[SUCCESSOR.address]} == {
        "operator",
        "trainer",
        EVERYBODY,
    }


def test_a_rotated_officer_endorses_what_was_written_before(tmp_path):
    folder = ledger_of_two(tmp_path)
    number = write(folder, OPERATOR, Draft(payload=evidence()))
    rotate(folder, OFFICER, SUCCESSOR)
    with pytest.raises(NotPermittedError, match="is no member"):
        endorse(folder, OFFICER, number)
    with Ledger(folder, OPERATOR) as ledger:
        stale = endorsement_of(ledger, number, OFFICER, Role.OFFICER)
        with pytest.raises(RecordRefusedError, match=f"{OFFICER.address} is no data-protection"):
            ledger.append(Draft(stale))
    endorse(folder, SUCCESSOR, number)
    assert state_of(folder).status(number) == "effective"


# How a ledger begins


def test_an_organization_begins_its_ledger_once(tmp_path):
    folder = found_ledger(tmp_path)
    before = state_of(folder).head
    found(folder, organization_id("shop"), OPERATOR, roles=(Role.OPERATOR,))
    assert state_of(folder).head == before
    with Ledger(folder, OPERATOR) as ledger:
        assert ledger.leaf(0).role == Role.OPERATOR
        assert ledger.history.organization == organization_id("shop")
        assert ledger_id(ledger.leaf(0).part()) == ledger.history.ledger


def first_block(genesis, account, role=Role.OPERATOR):
    """A first block with a genesis, by an account; with signature and leaf."""
    leaf = Leaf(
        version=VERSION,
        ledger=ledger_id(genesis).hex(),
        record=0,
        type="genesis",
        time=1,
        author=account.address,
        role=role,
        body=genesis.checked(),
        sealed=None,
    ).encoded()
    # Hashed without asking whether its members could work with it.
    members = {member.address: member for member in genesis.members}
    block = Block(
        version=VERSION,
        ledger=ledger_id(genesis),
        height=0,
        previous=bytes(32),
        size=1,
        root=transparency_log.root([leaf]),
        policy=Policy(members, genesis.role_keys, genesis.rules).hash,
        time=1,
        author=account.address,
    )
    domain = replace(History().domain, contract=genesis.address)
    return block, sign_digest(block.digest(domain), account), [leaf]


def test_a_genesis_by_the_organization_begins_a_ledger():
    history = History()
    [leaf] = history.apply(*first_block(GENESIS, OPERATOR), lambda _: [])
    assert (history.height, history.size, leaf.record) == (1, 1, 0)
    assert set(history.members.members) == {member.address for member in GENESIS.members}


def genesis_with(**changes):
    return GENESIS.model_copy(update=changes)


def fewer(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


_WRONG_RULES = {
    "a writer missing": (
        DEFAULT_RULES.model_copy(update={"writers": fewer(DEFAULT_RULES.writers, "receipt")}),
        "writers: missing or surplus: receipt",
    ),
    "a writer surplus": (
        ruled(writers={"gossip": (Role.OPERATOR,)}),
        "writers: missing or surplus: gossip",
    ),
    "a reader missing": (
        DEFAULT_RULES.model_copy(update={"readers": fewer(DEFAULT_RULES.readers, "receipt")}),
        "readers: missing or surplus: receipt",
    ),
    "readers of a body": (
        ruled(readers={"erased": (Role.OPERATOR,)}),
        "readers: missing or surplus: erased",
    ),
    "roles unsorted": (
        ruled(writers={"receipt": (Role.TRAINER, Role.OPERATOR)}),
        "writers.receipt: not in order, or twice",
    ),
    "a role twice": (
        ruled(readers={"receipt": (Role.AUDITOR, Role.AUDITOR)}),
        "readers.receipt: not in order, or twice",
    ),
    "an endorsement of nothing": (
        ruled(endorsements={"gossip": {Role.OPERATOR: 1}}),
        "endorsements: of a type that there is not",
    ),
    "a payload for nobody": (ruled(readers={"receipt": ()}), "readers.receipt: nobody"),
    **{
        f"nobody writes {name}": (ruled(writers={name: ()}), f"writers.{name}: nobody")
        for name in ("membership", "policy", "endorsement")
    },
    **{
        f"{name} endorsed": (
            ruled(endorsements={name: {Role.OFFICER: 1}}),
            f"endorsements.{name}: these count at once",
        )
        for name in ("endorsement", "erased", "reads", "key-rotation")
    },
}
each_wrong_rules = pytest.mark.parametrize(
    ("rules", "said"), _WRONG_RULES.values(), ids=_WRONG_RULES.keys()
)


@each_wrong_rules
def test_a_ledger_does_not_begin_with_malformed_rules(rules, said, tmp_path):
    with pytest.raises(RecordRefusedError, match=f"rules: {said}"):
        found(tmp_path, organization_id("shop"), OPERATOR, rules=rules)
    with pytest.raises(InvalidLedgerError, match=f"genesis: rules: {said}"):
        History().apply(*first_block(genesis_with(rules=rules), OPERATOR), lambda _: [])
    # Nothing is there that would be in the way of the next try.
    found(tmp_path, organization_id("shop"), OPERATOR)
    assert state_of(tmp_path).size == 1


@each_wrong_rules
def test_malformed_rules_that_are_written_regardless_are_void_and_say_why(rules, said, tmp_path):
    folder = ledger_of_two(tmp_path)
    number = write(folder, OPERATOR, Draft(PolicyChange(rules=rules, valid_from=0)))
    endorse(folder, OFFICER, number)
    state = state_of(folder)
    assert state.status(number) == "void"
    assert said in state.void[number]
    assert state.members.rules == DEFAULT_RULES


_OTHER_PROOF = GENESIS.members[1].model_copy(update={"proof": GENESIS.members[0].proof})
_FALSE_BEGINNINGS = {
    "by another author": (first_block(GENESIS, OFFICER), "author: 0x"),
    "by a stranger": (first_block(GENESIS, STRANGER), "author: 0x"),
    "as no operator": (first_block(GENESIS, OPERATOR, Role.TRAINER), "role: trainer, expected op"),
    "without an operator": (
        first_block(genesis_with(members=GENESIS.members[1:]), OPERATOR),
        "as an operator",
    ),
    "of which another is the operator": (
        first_block(
            genesis_with(
                members=(member_of(OPERATOR, Role.TRAINER), member_of(OFFICER, Role.OPERATOR))
            ),
            OPERATOR,
        ),
        "as an operator",
    ),
    "a member twice": (
        first_block(genesis_with(members=(*GENESIS.members, GENESIS.members[0])), OPERATOR),
        "members: one is there twice",
    ),
    "another's proof": (
        first_block(genesis_with(members=(GENESIS.members[0], _OTHER_PROOF)), OPERATOR),
        "proof of 0x",
    ),
    "a role's key missing": (
        first_block(genesis_with(role_keys=fewer(GENESIS.role_keys, "auditor")), OPERATOR),
        "role_keys: expected auditor",
    ),
    "a surplus key": (
        first_block(
            genesis_with(role_keys={**GENESIS.role_keys, "guest": GENESIS.role_keys["auditor"]}),
            OPERATOR,
        ),
        "role_keys: expected auditor",
    ),
}


@pytest.mark.parametrize(
    ("beginning", "said"), _FALSE_BEGINNINGS.values(), ids=_FALSE_BEGINNINGS.keys()
)
def test_a_false_beginning_is_refused(beginning, said):
    with pytest.raises(InvalidLedgerError, match=said) as caught:
        History().apply(*beginning, lambda _: [])
    assert caught.value.block == 0


def test_a_change_for_a_key_that_was_replaced_meanwhile_does_not_bring_it_back(tmp_path):
    folder = ledger_of_four(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        number = ledger.change_member(member_of(TRAINER, Role.TRAINER, Role.OPERATOR))
    rotate(folder, TRAINER, SUCCESSOR)
    endorse(folder, OFFICER, number)
    state = state_of(folder)
    assert "was replaced by another" in state.void[number]
    assert TRAINER.address not in state.members.members
    assert SUCCESSOR.address in state.members.members


def test_new_role_keys_are_not_written_without_their_private_keys(tmp_path):
    folder = ledger_of_two(tmp_path)
    with Ledger(folder, OPERATOR) as ledger:
        number = ledger.change_member(member_of(AUDITOR, Role.AUDITOR))
        body = ledger.leaf(number).part()
        with pytest.raises(RecordRefusedError, match="expected the private key of each"):
            ledger.append(Draft(body))
        assert ledger.history.size == number + 1


def test_a_ledger_does_not_begin_with_anything_but_a_genesis():
    state = History()
    state.apply(*first_block(GENESIS, OPERATOR), lambda _: [])
    later = forged_block(state, OPERATOR, Role.TRAINER, Draft(payload=training_run()))
    with pytest.raises(InvalidLedgerError, match="genesis: the first record is none"):
        History().apply(*later, lambda _: [])


@pytest.mark.parametrize(
    ("roles", "others"),
    [
        ((Role.TRAINER,), []),
        ((Role.TRAINER,), [member_of(OFFICER, Role.OPERATOR)]),
        ((Role.OPERATOR,), [member_of(OPERATOR, Role.OPERATOR)]),
    ],
    ids=["no operator", "another operator", "itself again"],
)
def test_an_organization_is_the_operator_of_its_ledger_once(roles, others, tmp_path):
    with pytest.raises(RecordRefusedError, match="genesis: members: "):
        found(tmp_path, organization_id("shop"), OPERATOR, others, roles=roles)
    assert not list(tmp_path.glob("*.sqlite"))


def test_a_members_keys_open_nothing_in_another_ledger(tmp_path):
    one, other = found_ledger(tmp_path / "one"), found_ledger(tmp_path / "other")
    keyring = Keyring(state_of(one).ledger, OPERATOR)
    files = LedgerFiles(other, read_only=True)
    try:
        with files.secrets.reading() as connection, pytest.raises(InvalidLedgerError):
            keyring.load(connection)
    finally:
        files.close()
