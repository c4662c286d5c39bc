"""Score tables: one form, one hash, and what an attestor holds against its own."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockchain.canonical import canonical_json
from strategies.scores import ScoreTable, agrees, micro_nats
from tests.chain_samples import digest

scores = st.dictionaries(st.text(min_size=1, max_size=6), st.integers(0, 2**53 - 1), max_size=8)


def table(scored, **changes):
    given_ = {
        "task": digest("task"),
        "round": 3,
        "validation": digest("rows"),
        "method": "leave-one-out",
    }
    return ScoreTable.of(scored, **{**given_, **changes})


@given(st.floats(0, 1000))
def test_micro_nats_are_the_nearest_whole_number(nats):
    rounded = micro_nats(nats)
    assert type(rounded) is int
    assert abs(Fraction(nats) * 10**6 - rounded) <= Fraction(1, 2)


def test_halves_round_to_even():
    half = 1 / 2**7  # 7812.5 micro-nats, exactly.
    assert [micro_nats(half), micro_nats(3 * half)] == [7812, 23438]


@given(scores)
def test_a_table_survives_the_round_trip_with_its_hash(scored):
    original = table(scored)
    copy = ScoreTable.from_json(json.loads(canonical_json(original.to_json())))
    assert copy == original
    assert copy.hash() == original.hash()
    assert copy.scores == scored


@given(scores)
def test_the_order_of_the_scores_does_not_matter(scored):
    assert table(dict(reversed(scored.items()))) == table(scored)


@given(scores.filter(bool), st.data())
def test_whatever_changes_changes_the_hash(scored, data):
    name = data.draw(st.sampled_from(sorted(scored)))
    others = [
        table(scored | {name: (scored[name] + 1) % 2**53}),
        table(scored, task=digest("other")),
        table(scored, round=4),
        table(scored, validation=digest("other")),
        table(scored, method="first-order"),
        table({**scored, "one more": 0}),
    ]
    assert len({other.hash() for other in [table(scored), *others]}) == 7


@given(scores, st.integers(0, 1000), st.data())
def test_tables_agree_within_the_tolerance_and_not_beyond(scored, tolerance, data):
    own = table(scored)
    drifts = {name: data.draw(st.integers(-tolerance, tolerance)) for name in scored}
    near = {name: min(2**53 - 1, max(0, value + drifts[name])) for name, value in scored.items()}
    assert agrees(own, table(near), tolerance) == []
    for name, value in scored.items():
        far = value + tolerance + 1 if value < 2**52 else value - tolerance - 1
        (reason,) = agrees(own, table(near | {name: far}), tolerance)
        assert reason.startswith(f"{name} has {far} micro-nats, expected {value}")


def test_every_other_difference_is_named_on_one_line():
    own = table({"a": 1, "b": 2})
    proposed = table(
        {"b": 2, "c\nd": 1},
        task=digest("t"),
        round=4,
        validation=digest("v"),
        method="first-order",
    )
    reasons = agrees(own, proposed, 5)
    assert all(len(reason.splitlines()) == 1 for reason in reasons)
    beginnings = ["task is ", "round is 4", "validation set is ", "method is first-order"]
    beginnings += ["a is missing", "'c\\nd' is not expected"]
    assert len(reasons) == len(beginnings)
    assert all(map(str.startswith, reasons, beginnings))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"task": "AB" * 32},
        {"task": "ab " * 32},
        {"task": 5},
        {"validation": "ab" * 31},
        {"round": 0},
        {"round": True},
        {"round": 1.0},
        {"round": 2**53},
        {"method": "shapley"},
        {"method": []},
        {"scores": {"a": 1}},
        {"scores": [["a", 1], ["a", 1]]},
        {"scores": [["b", 1], ["a", 1]]},
        {"scores": [["a", -1]]},
        {"scores": [["a", 1.0]]},
        {"scores": [["a", True]]},
        {"scores": [["a", 2**53]]},
        {"scores": [["a"]]},
        {"scores": [["", 1]]},
        {"scores": [[1, 1]]},
        {"scores": ["ab"]},
        {"more": 1},
    ],
)
def test_a_document_in_any_other_form_is_refused(change):
    with pytest.raises(ValueError, match="score"):
        ScoreTable.from_json(table({"a": 1, "b": 2}).to_json() | change)


@pytest.mark.parametrize("document", [None, [], "scores", {}])
def test_what_is_no_table_at_all_is_refused(document):
    with pytest.raises(ValueError, match="malformed"):
        ScoreTable.from_json(document)


def test_the_hash_is_pinned():
    pinned = ScoreTable.of(
        {"shop": 2, "cinema": 1},
        task=bytes([1]) * 32,
        round=3,
        validation=bytes([2]) * 32,
        method="leave-one-out",
    )
    assert pinned.hash().hex() == "b63b5c23ae1971ca2ec9e622bdec6519d5c9688426ae84f5b376cbe19d5f00f8"
