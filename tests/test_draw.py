"""The draw of a round's records: forgetting one moves no other."""

import hashlib
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.draw import draw
from llm.keyed_hash import encoded, keyed_hash
from llm.records import Record

IDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=12)
RECORDS = st.lists(IDS, unique=True, max_size=40).map(lambda ids: [record(i) for i in ids])
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
PARTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=6) | INT64, max_size=4)
PINNED_DRAW = ["shop-715", "shop-560", "shop-194", "shop-749", "shop-104"]
PINNED_HASH = "b38a3d2fc6ea040d16d26415015b32b2ecf43e31031e54f23c98349226619199"


def record(identifier):
    return Record(identifier, "prompt", "completion")


def ids(records):
    return [each.id for each in records]


@given(RECORDS, st.integers(0, 45), INT64, INT64, IDS, st.randoms(use_true_random=False))
def test_the_draw_does_not_depend_on_the_order_of_the_records(
    records, count, seed, round_, organization, random
):
    drawn = draw(records, count, seed=seed, round=round_, organization=organization)
    shuffled = random.sample(records, len(records))
    assert draw(shuffled, count, seed=seed, round=round_, organization=organization) == drawn
    assert len(drawn) == min(count, len(records))
    assert len(set(ids(drawn))) == len(drawn)


@given(RECORDS, st.integers(0, 45), st.integers(0, 5))
def test_taking_out_a_record_that_was_not_drawn_changes_nothing(records, count, round_):
    drawn = draw(records, count, seed=1, round=round_, organization="shop")
    for left_out in set(records) - set(drawn):
        rest = [each for each in records if each != left_out]
        assert draw(rest, count, seed=1, round=round_, organization="shop") == drawn


@given(RECORDS, st.integers(0, 45), st.integers(0, 5))
def test_taking_out_a_drawn_record_lets_the_next_smallest_in_and_keeps_the_others(
    records, count, round_
):
    longer = draw(records, count + 1, seed=1, round=round_, organization="shop")
    for left_out in longer[:count]:
        rest = [each for each in records if each != left_out]
        expected = tuple(each for each in longer if each != left_out)
        assert draw(rest, count, seed=1, round=round_, organization="shop") == expected


def test_the_draw_is_pinned():
    records = [record(f"shop-{number}") for number in range(1000)]
    drawn = draw(records, 5, seed=2026, round=3, organization="shop")
    assert ids(drawn) == PINNED_DRAW


def test_the_drawn_records_are_those_of_the_formula_in_the_docstring():
    key = hashlib.sha256(encoded("foedus/draw/v1", 7)).digest()

    def value(identifier):
        message = encoded("foedus/draw/v1", 2, "cinema", identifier)
        return hmac.new(key, message, hashlib.sha256).digest()

    names = [f"cinema-{number}" for number in range(200)]
    drawn = draw(map(record, names), 50, seed=7, round=2, organization="cinema")
    assert ids(drawn) == sorted(names, key=value)[:50]


def test_seed_round_and_organization_each_give_another_draw():
    records = [record(f"r{number}") for number in range(200)]
    first = draw(records, 20, seed=1, round=1, organization="shop")
    assert draw(records, 20, seed=2, round=1, organization="shop") != first
    assert draw(records, 20, seed=1, round=2, organization="shop") != first
    assert draw(records, 20, seed=1, round=1, organization="cinema") != first


def test_every_record_is_about_equally_often_drawn():
    records = [record(f"r{number}") for number in range(100)]
    times = dict.fromkeys(ids(records), 0)
    for round_ in range(1000):
        for each in draw(records, 25, seed=5, round=round_, organization="shop"):
            times[each.id] += 1
    # Binomial(1000, 1/4): mean 250, standard deviation 13.7; five of them for 100 records.
    assert all(abs(count - 250) < 5 * 13.7 for count in times.values())


def test_drawing_takes_little_more_than_the_hashes_it_needs():
    """At most three times one HMAC a record: no sort of all, no second walk."""
    records = [record(f"cinema-{number}") for number in range(10_000)]
    drawing, hashing = [], []
    for round_ in range(5):
        start = time.process_time()
        draw(records, 128, seed=1, round=round_, organization="cinema")
        drawn = time.process_time()
        for each in records:
            hmac.digest(b"key", each.id.encode(), "sha256")
        drawing.append(drawn - start)
        hashing.append(time.process_time() - drawn)
    assert min(drawing) < 3 * min(hashing)


def test_a_negative_count_and_a_repeated_id_are_refused():
    with pytest.raises(ValueError, match="at least 0"):
        draw([], -1, seed=1, round=1, organization="shop")
    with pytest.raises(ValueError, match="distinct ids"):
        draw([record("a"), Record("a", "b", "c")], 1, seed=1, round=1, organization="shop")


@given(PARTS, PARTS)
def test_different_sequences_are_encoded_differently(one, other):
    assert (encoded(*one) == encoded(*other)) == (one == other)


@given(PARTS, PARTS)
def test_an_encoding_is_the_encodings_of_its_parts_one_after_the_other(one, other):
    assert encoded(*one) + encoded(*other) == encoded(*one, *other)


def test_the_keyed_hash_is_pinned_and_its_purposes_are_apart():
    assert keyed_hash(b"key", "purpose", "a", -1).hex() == PINNED_HASH
    assert keyed_hash(b"key", "other", "a", -1).hex() != PINNED_HASH
    assert keyed_hash(b"kez", "purpose", "a", -1).hex() != PINNED_HASH


def test_an_integer_beyond_64_bits_is_refused():
    with pytest.raises(ValueError, match="64 bits"):
        encoded(1 << 63)
