"""A round's outcome: its manifest there and back, a leaf for each reply, all under one hash."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockchain import merkle
from strategies.replies import Verdict
from strategies.rewards import RewardTable
from strategies.round_outcome import Entry, RoundOutcome

TASK = bytes(range(32))
ENTRY = Entry("shop", 0, TASK, TASK, 4, 2**40, bytes(65), 0.5)
HASH = st.binary(min_size=32, max_size=32)
NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
ENTRIES = st.builds(
    Entry,
    organization=NAME,
    verdict=st.sampled_from([int(verdict) for verdict in Verdict]),
    digest=HASH,
    commitment=HASH,
    num_examples=st.integers(0, 2**53 - 1),
    deadline=st.integers(0, 2**53 - 1),
    signature=st.sampled_from([b"", bytes(range(65))]),
    weight=st.floats(0, 1),
)
OUTCOMES = st.builds(
    RoundOutcome,
    round=st.integers(0, 10_000),
    parent_round=st.integers(0, 10_000),
    rule=st.sampled_from(["ffa", "flora"]),
    parent=HASH,
    adapter=HASH,
    state=HASH,
    entries=st.lists(ENTRIES, max_size=5, unique_by=lambda e: e.organization).map(
        lambda entries: tuple(sorted(entries, key=lambda e: e.organization))
    ),
    absent=st.dictionaries(NAME, st.sampled_from(["late", "failed"]), max_size=3),
    rewards=st.builds(
        RewardTable,
        task=st.just(TASK),
        round=st.integers(0, 10_000),
        amounts=st.dictionaries(st.sampled_from(["shop", "cinema"]), st.integers(0, 2**90)),
    ),
    files=st.dictionaries(NAME, st.text("0123456789abcdef", min_size=64, max_size=64), max_size=3),
)


FIELDS = (*("round", "parent_round", "rule", "parent", "adapter", "state", "absent", "rewards"),)


@given(OUTCOMES)
def test_a_manifest_is_read_back_with_every_bit_of_every_weight(outcome):
    again = RoundOutcome.from_manifest(outcome.manifest(TASK))
    assert again == outcome
    assert again.manifest_hash(TASK) == outcome.manifest_hash(TASK)


@given(OUTCOMES, st.data())
def test_no_field_can_change_without_the_manifests_hash(outcome, data):
    before = outcome.manifest_hash(TASK)
    field = data.draw(st.sampled_from(FIELDS))
    other = data.draw(OUTCOMES)
    changed = replace(outcome, **{field: getattr(other, field)})
    assert (changed.manifest_hash(TASK) == before) == (changed == outcome)
    assert outcome.manifest_hash(bytes(32)) != before


@given(OUTCOMES)
def test_every_signed_update_accepted_or_not_has_a_leaf_that_can_be_proved(outcome):
    leaves = outcome.leaves()
    root = merkle.root(leaves)
    assert len(leaves) == len(outcome.entries)
    for index, (leaf, entry) in enumerate(zip(leaves, outcome.entries, strict=True)):
        assert (leaf.index, leaf.verdict, leaf.digest) == (index, entry.verdict, entry.digest)
        assert merkle.verify(root, leaf, merkle.proof(leaves, index))
        assert not merkle.verify(
            root, replace(leaf, verdict=leaf.verdict + 1), merkle.proof(leaves, index)
        )


@given(OUTCOMES, st.data())
def test_a_manifest_that_lacks_a_field_or_holds_another_type_is_refused(outcome, data):
    manifest = outcome.manifest(TASK)
    key = data.draw(st.sampled_from(sorted(set(manifest) - {"task"})))
    lacking = {name: value for name, value in manifest.items() if name != key}
    with pytest.raises(ValueError, match="malformed"):
        RoundOutcome.from_manifest(lacking)
    with pytest.raises(ValueError, match=r"malformed|version|hexadecimal|invalid literal"):
        RoundOutcome.from_manifest({**manifest, key: None if key != "rule" else 1, "version": None})


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": 999},
        {"verdict": "ACCEPTED"},
        {"digest": "zz"},
        {"digest": 7},
        {"digest": "00"},
        {"commitment": "00" * 31},
        {"signature": "0"},
        {"deadline": "never"},
        {"weight": 0.5},
        {"weight": "half"},
        {"weight": "0x1p99999"},
        {"weight": "nan"},
        {"weight": "-0x1p-1"},
        {"examples": "many"},
    ],
    ids=str,
)
def test_a_line_of_a_manifest_that_is_not_in_order_is_refused(change):
    outcome = RoundOutcome(1, 0, "ffa", TASK, TASK, TASK, (ENTRY,), {}, RewardTable.empty(TASK), {})
    manifest = outcome.manifest(TASK)
    manifest["updates"] = [{**manifest["updates"][0], **change}]
    with pytest.raises(ValueError):
        RoundOutcome.from_manifest(manifest)


def test_an_entry_of_one_that_takes_no_part_bears_its_id_for_a_name():
    stranger = Entry.unavailable("0x" + TASK.hex(), bytes(32))
    assert stranger.organization_id == TASK
    assert ENTRY.organization_id == merkle.organization_id("shop")


def test_codes_of_verdicts_stay_what_they_were():
    # They stand in sealed leaves: a code may be added, never changed.
    assert {verdict.name: int(verdict) for verdict in Verdict} == {
        "ACCEPTED": 0,
        "WRONG_ORGANIZATION": 1,
        "WRONG_ROUND": 2,
        "MALFORMED": 3,
        "WRONG_NAMES": 4,
        "WRONG_SHAPE": 5,
        "NOT_FINITE": 6,
        "WRONG_HASH": 7,
        "NORM_EXCEEDED": 8,
        "TOO_FEW": 9,
        "NO_AGGREGATE": 10,
        "WRONG_COMMITMENT": 11,
        "CONTRADICTED": 12,
        "PAYLOAD_UNAVAILABLE": 13,
        "DECLINED": 14,
    }
