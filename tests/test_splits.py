"""Splits by a keyed hash of the group: no group is cut, and no row moves another."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llm.records import Record
from llm.splits import OrganizationData, SplitShares, split_records

SHARES = SplitShares(validation=0.2, test=0.3, withheld=0.1)
NUMBERS = st.lists(st.integers(0, 10_000), unique=True, max_size=60)


def records_of(numbers):
    return [
        Record(f"r{n}", f"text {n}", "yes", group=f"g{n % 17}" if n % 3 else "") for n in numbers
    ]


def place_of(split):
    parts = ("train", "validation", "test", "withheld")
    return {record.id: part for part in parts for record in getattr(split, part)}


@given(NUMBERS, st.text(st.characters(codec="utf-8"), max_size=5))
def test_every_record_is_in_one_split_and_no_group_in_two(numbers, key):
    records = records_of(numbers)
    places = place_of(split_records(records, SHARES, key=key))
    assert places.keys() == {record.id for record in records}
    by_group = {(record.split_key, places[record.id]) for record in records}
    assert len(by_group) == len({record.split_key for record in records})


@given(NUMBERS, NUMBERS)
def test_other_records_do_not_move_a_record(some, others):
    alone = place_of(split_records(records_of(some), SHARES, key="k"))
    together = place_of(split_records(records_of(dict.fromkeys(others + some)), SHARES, key="k"))
    assert all(together[identifier] == place for identifier, place in alone.items())


def test_shares_hold_on_average_and_the_key_changes_the_split():
    records = [Record(f"r{number}", "text", "yes") for number in range(10_000)]
    split = split_records(records, SHARES, key="k")
    # Standard deviation of a share of 0.3 over 10,000 records: 46.
    for part, share in (("train", 0.4), ("validation", 0.2), ("test", 0.3), ("withheld", 0.1)):
        assert abs(len(getattr(split, part)) - share * 10_000) < 5 * 46
    assert split_records(records, SHARES, key="other") != split


@pytest.mark.parametrize(
    "shares",
    [{"validation": -0.1}, {"test": 1.0}, {"validation": 0.5, "test": 0.5}, {"test": float("nan")}],
)
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValidationError):
        SplitShares(**shares)


def test_an_organization_with_a_repeated_id_or_a_cut_group_is_refused():
    one = Record("a", "text", "yes", group="document")
    data = OrganizationData("shop", "reviews", (one,), (), ())
    with pytest.raises(ValueError, match="share the id 'a'"):
        replace(data, test=(one,))
    with pytest.raises(ValueError, match="group 'document' lies in test and in train"):
        replace(data, test=(replace(one, id="b"),))
