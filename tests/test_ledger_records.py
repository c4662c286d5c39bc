"""Records: every type round-trips, and nothing that is not exactly one of them is taken."""

import copy
import json
import math
import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from blockchain.canonical import canonical_float, canonical_json
from blockchain.private.drafts import Draft
from blockchain.private.encoding import Leaf, Sealed, member_of, read_leaf
from blockchain.private.errors import RecordRefusedError
from blockchain.private.policy import DEFAULT_RULES
from blockchain.private.record_fields import MAX_BYTES, Part
from blockchain.private.record_types import (
    BODIES,
    PAYLOADS,
    TYPES,
    DataSet,
    DataSetKey,
    Endorsement,
    Erased,
    ErasePending,
    Genesis,
    KeyRotation,
    MembershipChange,
    PolicyChange,
    ReadsSoFar,
    Role,
    RoleKey,
    Tombstone,
    TombstoneDetails,
    TrainingRun,
    check_parts,
    read_body,
    read_payload,
)
from tests.ledger_cases import (
    AUDITOR,
    OFFICER,
    OPERATOR,
    STRANGER,
    digest,
    payload_samples,
    training_run,
)

_KEYS = {"member": RoleKey(generation=0, public=digest("member's key"))}
_STRANGER = member_of(STRANGER)

BODY_SAMPLES = (
    Genesis(
        organization=digest("organization"),
        address=OPERATOR.address,
        nonce=digest("nonce"),
        members=(member_of(OPERATOR, Role.OPERATOR, Role.TRAINER), member_of(OFFICER)),
        role_keys=_KEYS,
        rules=DEFAULT_RULES,
    ),
    MembershipChange(member=member_of(AUDITOR, Role.AUDITOR), role_keys=_KEYS, valid_from=3),
    PolicyChange(rules=DEFAULT_RULES, valid_from=0),
    KeyRotation(
        successor=_STRANGER.address, encryption=_STRANGER.encryption, proof=_STRANGER.proof
    ),
    Endorsement(
        record=1,
        leaf=digest("leaf"),
        member=OFFICER.address,
        role=Role.OFFICER,
        signature="ab" * 65,
    ),
    DataSet(added=2, size=5, root=digest("root")),
    Tombstone(positions=(0, 3)),
    ErasePending(records=(4, 6), entries=(0, 1), reason="unlearning"),
    Erased(pending=7),
    ReadsSoFar(count=2, head=digest("head")),
)

PAYLOAD_SAMPLES = (
    *payload_samples().values(),
    DataSetKey(source="records.jsonl", key=digest("key")),
    TombstoneDetails(
        request=digest("request"),
        task=digest("task"),
        since_round=4,
        generation=0,
        suppressed=(digest("one id"), digest("another")),
    ),
)

#: Every part of a record there is, and what reads it.
SAMPLES = [
    *((sample, read_body) for sample in BODY_SAMPLES),
    *((sample, read_payload) for sample in PAYLOAD_SAMPLES),
]
each_part = pytest.mark.parametrize(
    ("sample", "read"), SAMPLES, ids=[type(sample).__name__ for sample, _ in SAMPLES]
)

_OTHER_KINDS = (None, True, 0.5, 7, "x", [], {})


def places(value, path=()):
    """Every value in a part, with the path to it."""
    yield path, value
    if isinstance(value, Part):
        fields = type(value).model_fields.keys() - value.added_later
        inner = [(name, getattr(value, name)) for name in sorted(fields)]
    elif isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, tuple):
        inner = list(enumerate(value))
    else:
        inner = []
    for step, one in inner:
        yield from places(one, (*path, step))


def put(document, path, value):
    """A copy of a JSON document with another value at a path."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return changed


def without(document, path):
    """A copy of a JSON document without the field at a path."""
    changed = copy.deepcopy(document)
    at = changed
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return changed


def kind_of(value):
    """What JSON would call it."""
    if isinstance(value, Part | dict):
        return dict
    return list if isinstance(value, tuple) else str if isinstance(value, str) else type(value)


def is_setting(path):
    """Whether a place is one that takes any text, integer or truth value."""
    return len(path) == 2 and path[0] == "configuration"


def may_be_missing(path):
    """Whether a place may hold null: only an agent's first decision says what it began with."""
    return path == ("founding",)


def is_ascending(value):
    """Whether it is a list of numbers that has to be in order."""
    are_numbers = isinstance(value, tuple) and all(type(one) is int for one in value)
    return are_numbers and value != () and list(value) == sorted(set(value))


def texts_instead(value):
    """What may not stand in the place of a text."""
    yield "nothing", ""
    yield "two lines", f"{value}\nx"
    if re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{130}", value):
        yield "one digit short", value[:-1]
        yield "one digit long", f"{value}0"
        yield "upper case", value.upper() if re.search("[a-f]", value) else f"A{value[1:]}"
        yield "prefixed", f"0x{value[2:]}"
    elif re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        yield "no checksum", value.lower()
        yield "another checksum", value.swapcase().replace("0X", "0x")
        yield "a byte short", value[:-2]
    elif re.fullmatch(r"-?0x[01]\..*p[+-]\d+", value):
        others = ("nan", "inf", "-inf", "0.5", "1e3", "0x1p0", f" {value}", "0" * 40)
        for real in (*others, value.replace("p", "0p"), value.upper()):
            yield f"real {real}", real
        yield "a float", float.fromhex(value)


def numbers_instead(value):
    """What may not stand in the place of a number."""
    for number in (-1, 2**53, 2**64, 10**400, float(value), value + 0.5, str(value)):
        yield f"number {str(number)[:30]}", number


def value_faults(path, value):
    """What may not stand in the place of a value, named."""
    for other in _OTHER_KINDS:
        if other is None and may_be_missing(path):
            continue
        if kind_of(other) is not kind_of(value) and not (
            is_setting(path) and type(other) in (str, int, bool)
        ):
            yield f"is {json.dumps(other)}", other
    if is_setting(path):
        yield "is beyond 2**53", 2**53
        yield "is beyond -2**53", -(2**53)
    elif type(value) is int:
        yield from numbers_instead(value)
    elif isinstance(value, str):
        yield from texts_instead(value)
    elif is_ascending(value):
        yield "has one twice", [*value, value[-1]]
        yield "is unsorted", [value[-1] + 1, *value]


def faults(sample):
    """Every way derived from a valid sample to write a document that is none, named."""
    document = sample.checked()
    for path, value in places(sample):
        where = ".".join(map(str, path)) or "all of it"
        for name, other in value_faults(path, value):
            yield f"{where} {name}", put(document, path, other)
        if isinstance(value, Part):
            for field in type(value).model_fields.keys() - value.added_later:
                yield f"{where} without {field}", without(document, (*path, field))
            for surplus in ("surplus", "two\nlines", "x" * 3000):
                yield f"{where} with {surplus[:9]!r}", put(document, (*path, surplus), 1)
        elif isinstance(value, dict):
            some = next(iter(value.values()))
            plain = some.model_dump(mode="json") if isinstance(some, Part) else some
            for key in ("Upper", "two words", "two\nlines", "", "a" * 65):
                yield f"{where} with key {key[:9]!r}", put(document, (*path, key), plain)


def refusal(read, record_type, encoded):
    """What is said when it is refused; that it is, in one line that names the type."""
    with pytest.raises(RecordRefusedError) as caught:
        read(record_type, encoded)
    said = str(caught.value)
    assert said.startswith(f"{record_type}: "), said
    assert len(said.splitlines()) == 1, said
    assert len(said) < 400, said
    return said


def test_there_is_a_sample_of_every_part_of_every_type():
    assert {type(sample) for sample in BODY_SAMPLES} == set(BODIES.values())
    assert {type(sample) for sample in PAYLOAD_SAMPLES} == set(PAYLOADS.values())
    assert set(TYPES) == {sample.record_type for sample, _ in SAMPLES}


@each_part
def test_a_valid_part_reads_back_from_its_bytes(sample, read):
    encoded = sample.canonical()
    again = read(sample.record_type, encoded)
    assert again == sample
    assert again.canonical() == encoded == canonical_json(sample.checked())


@each_part
def test_whatever_is_changed_about_a_valid_part_is_refused(sample, read):
    made = list(faults(sample))
    names = [name for name, _ in made]
    assert len(names) == len(set(names)) >= 20
    for name, document in made:
        encoded = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
        try:
            refusal(read, sample.record_type, encoded)
        except BaseException as error:
            error.add_note(f"{type(sample).__name__}: {name}")
            raise


def test_a_field_that_came_later_is_left_out_where_it_holds_nothing():
    [before] = [one for one in PAYLOAD_SAMPLES if one.record_type == "agent-decision"]
    assert b"put_back" not in before.canonical()
    explicit = canonical_json(before.checked() | {"put_back": None})
    assert "canonical form" in refusal(read_payload, "agent-decision", explicit)
    after = before.model_copy(update={"put_back": 3})
    assert read_payload("agent-decision", after.canonical()) == after
    for wrong in (-1, 2**53, "3", True, [3]):
        document = json.dumps(after.checked() | {"put_back": wrong}).encode()
        refusal(read_payload, "agent-decision", document)


def rewritten(sample):
    """The same document in other bytes, named."""
    document, encoded = sample.checked(), sample.canonical()
    backwards = dict(reversed(document.items()))
    yield "spaces", json.dumps(document, sort_keys=True).encode()
    yield "indented", json.dumps(document, sort_keys=True, indent=1).encode()
    yield "a line's end", encoded + b"\n"
    yield "a space before", b" " + encoded
    first = min(document)
    again = json.dumps({first: document[first]}, separators=(",", ":"), sort_keys=True)
    yield "a key twice", again[:-1].encode() + b"," + encoded[1:]
    yield "escapes", encoded.replace(first.encode(), f"\\u{ord(first[0]):04x}{first[1:]}".encode())
    if len(document) > 1:
        ordered = {key: document[key] for key in sorted(document, reverse=True)}
        yield "keys in another order", json.dumps(ordered, separators=(",", ":")).encode()
        yield "fields in reverse", json.dumps(backwards, separators=(",", ":")).encode()


@each_part
def test_the_same_part_in_any_other_bytes_is_refused(sample, read):
    made = dict(rewritten(sample))
    assert len(made) >= 6
    for name, encoded in made.items():
        if encoded == sample.canonical():
            # Where the fields' order in reverse happens to be the canonical one.
            assert name == "fields in reverse"
            continue
        assert "canonical form" in refusal(read, sample.record_type, encoded), name


@each_part
@pytest.mark.parametrize(
    "encoded",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b"NaN", b"{}", b"[" * 5000, b'{"a\\ud800":1}'],
    ids=lambda encoded: repr(encoded[:12]),
)
def test_what_is_no_such_document_is_refused(sample, read, encoded):
    refusal(read, sample.record_type, encoded)


@each_part
def test_more_bytes_than_the_limit_are_refused_before_they_are_read(sample, read):
    said = refusal(read, sample.record_type, b" " * (MAX_BYTES + 1))
    assert f"{MAX_BYTES + 1:,} bytes, expected at most {MAX_BYTES:,}" in said


def test_a_part_beyond_the_limit_is_not_written():
    large = training_run(drawn=tuple(range(200_000)))
    for encode in (large.canonical, large.checked):
        with pytest.raises(
            RecordRefusedError, match=r"training-run: .* expected at most 1,048,576"
        ):
            encode()


def test_a_part_of_just_the_limit_is_written_and_read():
    empty = training_run(configuration={"note": ""})
    full = training_run(configuration={"note": "x" * (MAX_BYTES - len(empty.canonical()))})
    assert len(full.canonical()) == MAX_BYTES
    assert read_payload("training-run", full.canonical()) == full


reals = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.integers(0, 2**53 - 1)
settings_of_a_run = st.dictionaries(
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True),
    st.one_of(st.booleans(), st.text(), st.integers(1 - 2**53, 2**53 - 1)),
    max_size=8,
)


@settings(max_examples=80)
@given(
    drawn=st.sets(numbers, max_size=20),
    seed=numbers,
    real=reals,
    configuration=settings_of_a_run,
)
def test_any_valid_training_run_reads_back(drawn, seed, real, configuration):
    run = training_run(
        drawn=tuple(sorted(drawn)),
        seed=seed,
        seconds=canonical_float(real),
        configuration=configuration,
    )
    again = read_payload("training-run", run.canonical())
    assert isinstance(again, TrainingRun)
    assert again == run
    # 1 == True == 1.0 in Python, and not here.
    kinds = {name: type(value) for name, value in configuration.items()}
    assert {name: type(value) for name, value in again.configuration.items()} == kinds
    assert math.copysign(1, float.fromhex(again.seconds)) == math.copysign(1, real)


@settings(max_examples=80)
@given(text=st.text(max_size=40))
def test_only_what_float_hex_writes_is_a_real(text):
    try:
        written = float.fromhex(text).hex()
    except (ValueError, OverflowError):
        written = None
    if text == written and math.isfinite(float.fromhex(text)):
        assert training_run(seconds=text).seconds == text
        return
    with pytest.raises(ValidationError):
        training_run(seconds=text)


@pytest.mark.parametrize("unknown", ["", "Genesis", "genesis ", "membership-change", "two\nlines"])
def test_a_type_that_there_is_not_is_refused(unknown):
    for refuse in (
        lambda: read_body(unknown, b"{}"),
        lambda: read_payload(unknown, b"{}"),
        lambda: check_parts(unknown, body=True, payload=False),
        lambda: read_leaf(leaf(unknown, body={}).encoded()),
    ):
        with pytest.raises(RecordRefusedError) as caught:
            refuse()
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("record_type", TYPES)
def test_a_type_without_a_part_does_not_read_it(record_type):
    for models, read, what in ((BODIES, read_body, "body"), (PAYLOADS, read_payload, "payload")):
        if record_type not in models:
            with pytest.raises(RecordRefusedError, match=f"'{record_type}' has no {what}"):
                read(record_type, b"{}")


@pytest.mark.parametrize("record_type", TYPES)
def test_a_record_has_exactly_the_parts_of_its_type(record_type):
    right = (record_type in BODIES, record_type in PAYLOADS)
    check_parts(record_type, body=right[0], payload=right[1])
    for body, payload in product((True, False), repeat=2):
        if (body, payload) == right:
            continue
        said = rf"{record_type}: (a surplus|expected a) (body|payload)"
        with pytest.raises(RecordRefusedError, match=said):
            check_parts(record_type, body=body, payload=payload)


# Leaves and drafts: where parts come together

_BY_TYPE = {sample.record_type: sample for sample in BODY_SAMPLES}
_PAYLOAD_OF = {sample.record_type: sample for sample in PAYLOAD_SAMPLES}
_SEALED = Sealed(commitment=digest("commitment"), ciphertext=digest("ciphertext"))


def leaf(record_type, body=None, sealed=None):
    """A leaf whose fields are well-formed each, whatever they are together."""
    fields = {
        "version": 1,
        "ledger": digest("ledger"),
        "record": 3,
        "type": record_type,
        "time": 1_800_000_000,
        "author": OPERATOR.address,
        "role": Role.OPERATOR,
        "body": body,
        "sealed": sealed,
    }
    return Leaf.model_construct(**fields)


def valid_leaf(record_type):
    body = _BY_TYPE.get(record_type)
    return leaf(
        record_type,
        None if body is None else body.checked(),
        _SEALED if record_type in PAYLOADS else None,
    )


@pytest.mark.parametrize("record_type", TYPES)
def test_a_leaf_of_every_type_reads_back(record_type):
    written = valid_leaf(record_type)
    again = read_leaf(written.encoded())
    assert again.encoded() == written.encoded()
    assert again.part() == _BY_TYPE.get(record_type)
    assert again.sealed == written.sealed


@pytest.mark.parametrize("record_type", TYPES)
def test_a_leaf_with_a_part_missing_or_surplus_is_refused(record_type):
    valid = valid_leaf(record_type)
    other_body = {} if valid.body is None else None
    other_sealed = _SEALED if valid.sealed is None else None
    for changed in (
        leaf(record_type, other_body, valid.sealed),
        leaf(record_type, valid.body, other_sealed),
    ):
        with pytest.raises(RecordRefusedError, match=rf"{record_type}: (a surplus|expected a) "):
            read_leaf(changed.encoded())


def leaf_faults():
    """Every way to write a leaf that is none, from a valid one with both parts; named."""
    document = json.loads(valid_leaf("data-set").encoded())
    for name in document:
        yield f"without {name}", without(document, (name,))
        for other in _OTHER_KINDS:
            # Checked as parts of its type elsewhere.
            if kind_of(other) is not kind_of(document[name]):
                yield f"{name} is {json.dumps(other)}", put(document, (name,), other)
    yield "surplus field", {**document, "surplus": 1}
    yield "surplus field of two lines", {**document, "two\nlines": 1}
    yield "another version", {**document, "version": 2}
    yield "surplus in sealed", put(document, ("sealed", "surplus"), 1)
    yield "surplus in the body", put(document, ("body", "surplus"), 1)
    yield "body without its root", without(document, ("body", "root"))
    yield "body with a float", put(document, ("body", "size"), 5.0)
    yield "body with no number", put(document, ("body", "size"), math.nan)
    yield "short commitment", put(document, ("sealed", "commitment"), "00" * 31)
    yield "address without checksum", {**document, "author": OPERATOR.address.lower()}
    yield "no role", {**document, "role": "chief"}
    yield "negative record", {**document, "record": -1}
    yield "record beyond 2**53", {**document, "record": 2**53}
    yield "nested without end", put(document, ("body", "root"), json.loads("[" * 90 + "]" * 90))


@pytest.mark.parametrize(("name", "document"), list(leaf_faults()), ids=lambda v: str(v)[:40])
def test_whatever_is_changed_about_a_valid_leaf_is_refused(name, document):
    encoded = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    with pytest.raises(RecordRefusedError) as caught:
        read_leaf(encoded)
    assert len(str(caught.value).splitlines()) == 1, name


def test_a_leaf_in_any_other_bytes_is_refused():
    encoded = valid_leaf("data-set").encoded()
    document = json.loads(encoded)
    for other in (
        encoded + b"\n",
        json.dumps(document, sort_keys=True).encode(),
        json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode(),
        encoded.replace(b'"author"', b'"\\u0061uthor"'),
    ):
        assert json.loads(other) == document
        with pytest.raises(RecordRefusedError, match="not in canonical form"):
            read_leaf(other)


@pytest.mark.parametrize("record_type", TYPES)
def test_a_draft_has_the_parts_of_one_type(record_type):
    body, payload = _BY_TYPE.get(record_type), _PAYLOAD_OF.get(record_type)
    assert Draft(body, payload).type == record_type
    if body and payload:
        for half in (Draft(body), Draft(payload=payload)):
            with pytest.raises(RecordRefusedError, match=f"{record_type}: expected a "):
                _ = half.type


def test_a_draft_of_nothing_of_two_types_or_with_parts_exchanged_is_refused():
    run, erased, part = training_run(), Erased(pending=1), DataSet(added=0, size=0, root="00" * 32)
    for wrong, said in (
        (Draft(), "parts of none"),
        (Draft(erased, run), "parts of erased, training-run"),
        (Draft(part, run), "parts of data-set, training-run"),
        (Draft(run), "training-run: a surplus body"),
        (Draft(payload=erased), "erased: expected a body"),
        (Draft(member_of(OPERATOR)), "is no type of record"),
    ):
        with pytest.raises(RecordRefusedError, match=said):
            _ = wrong.type


@pytest.mark.parametrize(
    ("record_type", "changes", "said"),
    [
        ("agent-decision", {"action": 4}, "action: expected one of 4"),
        ("agent-decision", {"permitted": [True]}, "expected one for each of the actions"),
        ("agent-decision", {"probabilities": []}, "expected one for each of the actions"),
        ("unlearning-request", {"positions": []}, "positions: expected some"),
        ("unlearning-request", {"scope": "organization"}, "positions: expected some"),
    ],
)
def test_parts_that_contradict_one_another_are_refused(record_type, changes, said):
    document = json.loads(payload_samples()[record_type].canonical())
    with pytest.raises(RecordRefusedError, match=said):
        read_payload(record_type, canonical_json({**document, **changes}))
