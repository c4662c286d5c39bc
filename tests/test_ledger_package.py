"""Disclosure packages: checked by themselves, each corruption refused, nothing else disclosed."""

import copy
import hashlib
import json
import shutil
from dataclasses import dataclass

import pytest

from blockchain.canonical import canonical_json, hash_json
from blockchain.private import data_sets, package
from blockchain.private.drafts import Draft
from blockchain.private.encoding import member_of
from blockchain.private.errors import InvalidLedgerError, LedgerError, NotPermittedError
from blockchain.private.ledger import Ledger
from blockchain.private.package import AnchoredRoot, read_package
from blockchain.private.package_making import make_package
from blockchain.private.record_types import (
    PAYLOADS,
    Role,
)
from blockchain.typed_data import sign_digest
from tests.ledger_cases import (
    AUDITOR,
    OFFICER,
    OPERATOR,
    STRANGER,
    found_ledger,
    payload_samples,
    training_run,
)

#: What the discloser says of itself and of the chain: for whoever reads it to hold against that.
STATED = {"time", "chain_id", "contract", "block"}
NAMES = [f"customer-number-{n}" for n in range(6)]


def digest(name):
    return hashlib.sha256(name.encode()).digest()


def anchored(history, size=None):
    size = size or history.size
    return AnchoredRoot(
        size=size,
        root=history.tree.root(size).hex(),
        chain_id=31337,
        contract="0x" + "00" * 20,
        block=12,
    )


@dataclass
class Made:
    folder: object
    first_set: int
    second_set: int
    runs: list
    samples: list
    erased: int
    pending_erased: int


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = found_ledger(tmp_path_factory.mktemp("packages") / "ledger")
    with Ledger(folder, OPERATOR) as ledger:
        records = {name: digest(name) for name in NAMES[:5]}
        early = data_sets.commit(ledger, "early.csv", {NAMES[0]: records[NAMES[0]]}).record
        runs = ledger.append(Draft(payload=training_run(1, data_set=early, seed=1)))
        first = data_sets.commit(ledger, "records.csv", records).record
        for number in (2, 3):
            runs += ledger.append(Draft(payload=training_run(number, data_set=first)))
        data_sets.bury(ledger, [NAMES[2]], request=bytes([9]) * 32)
        del records[NAMES[2]]
        second = data_sets.commit(ledger, "records.csv", records).record
        for number in (4, 5):
            runs += ledger.append(Draft(payload=training_run(number, data_set=second)))
        samples = ledger.append(*(Draft(payload=one) for one in payload_samples().values()))
        erased, unfinished = ledger.append(
            Draft(payload=training_run(6, data_set=second)),
            Draft(payload=payload_samples()["unlearning-evidence"]),
        )
        ledger.erase("retention", record_numbers=[erased, unfinished])
        admission = ledger.change_member(member_of(AUDITOR, Role.AUDITOR))
    with Ledger(folder, OFFICER) as ledger:
        ledger.endorse(admission)
    Ledger(folder, OPERATOR).close()
    return Made(folder, first, second, runs, samples, erased, unfinished)


@pytest.fixture(scope="module")
def ledger(made):
    with Ledger(made.folder, OPERATOR) as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(ledger):
    """Records of each sort, and a forgotten and a standing record of the training set."""
    history = ledger.history
    return make_package(ledger, anchored(history), range(history.size), [NAMES[2], NAMES[1]])


@pytest.fixture(scope="module")
def small(ledger, made):
    """As little as has every part."""
    return make_package(ledger, anchored(ledger.history), made.samples[:1], [NAMES[2]])


def sealed_again(document, account=OPERATOR):
    """What a discloser that lies would hand out: as it says, and rightly signed."""
    unsigned = {key: value for key, value in document.items() if key != "signature"}
    signature = sign_digest(hash_json(unsigned), account).hex()
    return canonical_json({**unsigned, "signature": signature}) + b"\n"


def refused(content):
    with pytest.raises(InvalidLedgerError) as caught:
        read_package(content)
    assert "\n" not in str(caught.value)
    return caught.value


def fault(content):
    try:
        read_package(content)
    except InvalidLedgerError as error:
        return error
    return None


# What is shown


def test_a_package_of_records_of_each_sort_is_checked_without_the_ledger(ledger, whole, tmp_path):
    path = tmp_path / "package.json"
    path.write_bytes(whole.encoded())
    shown = read_package(path.read_bytes())
    history = ledger.history
    assert shown.anchor.size == history.size
    assert shown.anchor.root == history.tree.root()
    assert list(shown.leaves.values()) == ledger.leaves()
    for number, payload in shown.payloads.items():
        assert payload == ledger.read(number, "to compare").payload
    types = {shown.leaves[number].type for number in shown.payloads}
    # The key of a data set would open all of it.
    assert types == set(PAYLOADS) - {"data-set"}


def test_a_forgotten_record_is_shown_to_have_been_in_the_set_and_since_not_to_be(made, small):
    shown = read_package(small.encoded())
    [entry] = shown.package.entries
    assert (entry.id, entry.digest) == (NAMES[2], digest(NAMES[2]).hex())
    assert (entry.data_set, entry.without) == (made.first_set, made.second_set)
    rounds = {
        number: payload.round
        for number, payload in shown.payloads.items()
        if payload.record_type == "training-run" and number in made.runs
    }
    # The last round on a set with it, and the first on one without.
    assert rounds == {made.runs[2]: 3, made.runs[3]: 4}


def test_a_standing_record_is_shown_to_be_in_the_newest_set(ledger, made):
    shown = read_package(make_package(ledger, anchored(ledger.history), [], [NAMES[1]]).encoded())
    [entry] = shown.package.entries
    assert (entry.data_set, entry.without, entry.proof_without) == (made.second_set, None, ())
    assert set(shown.payloads) == {made.runs[4]}


def test_no_training_run_on_a_set_from_before_a_record_was_there_is_passed_off_as_on_it(tmp_path):
    folder = found_ledger(tmp_path / "ledger")
    with Ledger(folder, OPERATOR) as ledger:
        first = data_sets.commit(ledger, "one.csv", {NAMES[0]: digest(NAMES[0])}).record
        ledger.append(Draft(payload=training_run(1, data_set=first)))
        data_sets.commit(ledger, "two.csv", {name: digest(name) for name in NAMES[:2]})
        shown = read_package(
            make_package(ledger, anchored(ledger.history), [], [NAMES[1]]).encoded()
        )
    assert shown.payloads == {}


def test_an_erased_record_is_disclosed_as_its_leaf_alone(ledger, made):
    numbers = [made.erased, made.pending_erased]
    shown = read_package(make_package(ledger, anchored(ledger.history), numbers).encoded())
    assert shown.payloads == {}
    assert set(shown.leaves) == {0, *numbers}
    assert all(shown.leaves[number].sealed for number in numbers)


def test_nothing_else_of_the_ledger_is_in_a_package(ledger, made, small):
    content = small.encoded()
    shown = read_package(content)
    disclosed = {entry.id for entry in small.entries}
    for entry in data_sets.open_entries(ledger, "to know what to look for"):
        for secret in (entry.id, entry.digest.hex(), entry.salt.hex()):
            assert (secret.encode() in content) == (entry.id in disclosed)
    searched = 0
    for leaf in ledger.leaves():
        if leaf.sealed is None or leaf.record in {made.erased, made.pending_erased}:
            continue
        opened = ledger.read(leaf.record, "to know what to look for")
        is_disclosed = leaf.record in shown.payloads
        assert (opened.salt.hex().encode() in content) == is_disclosed
        assert (opened.payload.canonical() in content) == is_disclosed
        assert (leaf.sealed.commitment.encode() in content) == (leaf.record in shown.leaves)
        searched += not is_disclosed
        if leaf.type == "data-set":
            assert opened.payload.key.encode() not in content
            assert opened.payload.source.encode() not in content
    assert searched > 8


def test_disclosing_is_logged_as_a_read(ledger, made):
    before = len(ledger.reads())
    make_package(ledger, anchored(ledger.history), made.samples[:1], purpose="for the authority")
    [read] = ledger.reads()[before:]
    assert (read.purpose, read.records) == ("for the authority", str(made.samples[0]))


# What is not disclosed


def test_records_beyond_the_anchor_are_refused(ledger, made):
    history = ledger.history
    size = made.samples[0]
    make_package(ledger, anchored(history, size), [size - 1])
    for number in (size, history.size - 1, history.size, 10_000):
        with pytest.raises(LedgerError, match=f"record {number} is not anchored yet"):
            make_package(ledger, anchored(history, size), [number])
    with pytest.raises(LedgerError, match="there is no record -1"):
        make_package(ledger, anchored(history), [-1])


def test_an_anchor_of_another_ledger_is_refused(ledger):
    right = anchored(ledger.history)
    for changes in ({"root": "00" * 32}, {"size": right.size - 1}, {"size": right.size + 1}):
        with pytest.raises(LedgerError, match="is not of this ledger"):
            make_package(ledger, right.model_copy(update=changes), [0])


def test_ids_that_are_in_no_set_are_refused(ledger):
    with pytest.raises(LedgerError, match="in no training set, or erased since: a, b"):
        make_package(ledger, anchored(ledger.history), [], ["b", NAMES[0], "a"])


def test_a_role_that_may_not_read_discloses_nothing(made, tmp_path):
    folder = shutil.copytree(made.folder, tmp_path / "ledger")
    decision = made.samples[list(payload_samples()).index("agent-decision")]
    with Ledger(folder, AUDITOR) as ledger:
        root = anchored(ledger.history)
        for numbers, ids in (([decision], []), ([], [NAMES[0]])):
            with pytest.raises(NotPermittedError):
                make_package(ledger, root, numbers, ids)
        assert set(read_package(make_package(ledger, root, made.runs).encoded()).payloads) == set(
            made.runs
        )


# Corruptions


def paths(value, path=()):
    """Every place of a document, the deeper ones of it after it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from paths(inner, (*path, key))
        else:
            yield (*path, key)


def at(document, path):
    for key in path:
        document = document[key]
    return document


def altered(value):
    """Other values of the same kind."""
    if isinstance(value, bool) or value is None:
        return [0]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, str):
        last = "1" if value[-1:] == "0" else "0"
        return [value[:-1] + last, value[1:], ""]
    if isinstance(value, list):
        others = [value[:-1], value[::-1], [*value, *value[-1:]], [*value, "00" * 32]]
        return [other for other in others if other != value]
    return [{**value, "more": 1}, {}]


def corruptions(document):
    """Each place of a document changed, or removed, by name."""
    for path in paths(document):
        if not path:
            continue
        value = at(document, path)
        for i, other in enumerate(altered(value)):
            changed = copy.deepcopy(document)
            at(changed, path[:-1])[path[-1]] = other
            yield f"{path} changed ({i})", path, changed
        changed = copy.deepcopy(document)
        del at(changed, path[:-1])[path[-1]]
        yield f"{path} removed", path, changed


def encoded(document):
    return canonical_json(document) + b"\n"


def test_a_corruption_of_any_place_is_refused_whoever_made_it(small):
    document, seen = json.loads(small.encoded()), 0
    for _, _, changed in corruptions(document):
        refused(encoded(changed))
        seen += 1
    assert seen > 400


def test_a_lie_in_any_place_is_refused_even_where_it_is_rightly_signed(small):
    document, taken = json.loads(small.encoded()), set()
    for name, path, changed in corruptions(document):
        if path[0] in {"signature", "discloser"} or path[-1] in STATED & set(document["anchor"]):
            continue
        error = fault(sealed_again(changed))
        if error is None:
            taken.add(name)
        else:
            assert "\n" not in str(error)
            assert error.field not in {"signature", ""}, name
    # When it was made is the discloser's own word. A root does not bind its size: the anchor on
    # the chain does. Fewer records, or in another order, and no entry are no lie either.
    optional = [
        i
        for i, record in enumerate(document["records"])
        if json.loads(record["leaf"])["type"] not in {"genesis", "data-set"}
    ]
    assert taken == {
        "('time',) changed (0)",
        "('anchor', 'size') changed (0)",
        "('records',) changed (0)",
        "('records',) changed (1)",
        *(f"('records', {i}) removed" for i in optional),
        "('entries',) changed (0)",
        "('entries', 0) removed",
    }


@pytest.mark.parametrize("field", ["leaf", "proof", "payload", "salt"])
def test_parts_of_two_records_exchanged_are_refused(whole, field):
    document = json.loads(whole.encoded())
    with_payload = [i for i, one in enumerate(document["records"]) if one["payload"]]
    one, other = with_payload[0], with_payload[-1]
    records = document["records"]
    records[one][field], records[other][field] = records[other][field], records[one][field]
    error = refused(sealed_again(document))
    assert error.record in {json.loads(records[i]["leaf"])["record"] for i in (one, other)}
    assert error.field in {"proof", "payload"}


def test_a_record_that_is_there_twice_is_refused(small):
    document = json.loads(small.encoded())
    document["records"].append(document["records"][-1])
    assert refused(sealed_again(document)).field == "record"


def test_parts_of_two_entries_exchanged_are_refused(whole):
    document = json.loads(whole.encoded())
    for field in ("position", "id", "digest", "salt", "proof"):
        changed = copy.deepcopy(document)
        one, other = changed["entries"]
        one[field], other[field] = other[field], one[field]
        assert refused(sealed_again(changed)).field == "entries", field


def test_a_set_with_a_record_is_not_passed_off_as_one_without(whole, made):
    document = json.loads(whole.encoded())
    [entry] = [one for one in document["entries"] if one["id"] == NAMES[2]]
    entry["data_set"], entry["without"] = entry["without"], entry["data_set"]
    entry["proof"], entry["proof_without"] = entry["proof_without"], entry["proof"]
    assert refused(sealed_again(document)).field == "entries"
    entry["data_set"] = entry["without"] = made.first_set
    assert refused(sealed_again(document)).field in {"entries", "without"}


def test_the_genesis_of_another_ledger_is_refused(small, tmp_path):
    with Ledger(found_ledger(tmp_path / "ledger", name="north"), OPERATOR) as other:
        foreign = json.loads(make_package(other, anchored(other.history), []).encoded())
    document = json.loads(small.encoded())
    for name in ("ledger", "organization", "records"):
        changed = {**document, name: foreign[name]}
        assert refused(sealed_again(changed)).field in {
            "ledger",
            "organization",
            "proof",
            "entries",
        }
    document["records"][0] = foreign["records"][0]
    assert refused(sealed_again(document)).field == "ledger"
    document["records"] = document["records"][1:]
    assert (refused(sealed_again(document)).field, refused(sealed_again(document)).record) == (
        "genesis",
        0,
    )


def test_a_signature_by_another_key_is_refused(small):
    document = json.loads(small.encoded())
    assert refused(sealed_again(document, STRANGER)).field == "signature"
    document["discloser"] = OFFICER.address
    assert refused(encoded(document)).field == "signature"
    assert refused(sealed_again(document)).field == "signature"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"format":"foedus.ledger.package.v1"}',
        b"[" * 100_000,
        b'{"a":' * 5000,
        b"1e999999",
        b'"\\ud800"',
    ],
    ids=lambda content: repr(content[:20]),
)
def test_what_is_no_package_is_refused(content):
    refused(content)


def test_a_package_that_is_too_large_is_refused_unread(small, monkeypatch):
    monkeypatch.setattr(package, "MAX_PACKAGE_BYTES", len(small.encoded()))
    read_package(small.encoded())
    error = refused(small.encoded() + b" ")
    assert error.field == "package"
    assert "expected at most" in error.detail


def test_a_package_in_another_form_than_the_canonical_one_is_refused(small):
    content = small.encoded()
    document = json.loads(content)
    for other in (
        content + b"\n",
        content[:-1],
        b" " + content,
        json.dumps(document).encode() + b"\n",
        json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode() + b"\n",
        content.replace(b'"entries":', b'"entries":[],"entries":', 1),
        content.replace(b"customer", b"\\u0063ustomer", 1),
    ):
        error = refused(other)
        assert (error.field, error.detail) == ("package", "not in canonical form")
    hostile = content.replace(b'"payload":{', b'"payload":{"x":1.5,', 1)
    assert refused(hostile).field == "signature"
