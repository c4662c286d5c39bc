"""One data set among several organizations: every record to exactly one of them."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from llm.partition import (
    DirichletPartition,
    GroupPartition,
    IidPartition,
    Partition,
    partition,
)
from llm.records import Record
from llm.rows import DataError

NAMES = ["ash", "birch", "cedar", "dogwood"]
CHOICES = (" bad", " good")
RULES = [IidPartition(), DirichletPartition(alpha=0.5, least=1), GroupPartition()]


def records_of(count):
    return [
        Record(f"r{n}", f"text {n}", CHOICES[n % 3 == 0], CHOICES, group=f"g{n % 11}")
        for n in range(count)
    ]


def shares_of_good(parts):
    return [sum(r.completion == " good" for r in part) / len(part) for part in parts.values()]


@pytest.mark.parametrize("how", RULES, ids=lambda how: how.kind)
@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(40, 120),
    organizations=st.integers(1, 4),
    seed=st.integers(-(1 << 63), (1 << 63) - 1),
    random=st.randoms(use_true_random=False),
)
def test_every_record_is_in_exactly_one_part_whatever_the_order(
    how, count, organizations, seed, random
):
    records = records_of(count)
    names = NAMES[:organizations]
    parts = partition(records, names, how, seed=seed)
    assert list(parts) == names
    given_out = Counter(record.id for part in parts.values() for record in part)
    assert given_out == Counter(record.id for record in records)
    assert all(parts.values())
    shuffled = random.sample(records, count)
    assert partition(shuffled, names, how, seed=seed) == parts


@pytest.mark.parametrize("how", RULES[:2], ids=lambda how: how.kind)
def test_another_seed_gives_other_parts(how):
    records = records_of(200)
    assert partition(records, NAMES, how, seed=1) != partition(records, NAMES, how, seed=2)


def test_iid_parts_are_equal_in_size_and_alike_in_labels():
    parts = partition(records_of(4000), NAMES, IidPartition(), seed=3)
    assert [len(part) for part in parts.values()] == [1000] * 4
    # A third is good; the standard deviation of that share in 1,000 records is 0.015.
    assert all(abs(share - 1 / 3) < 0.075 for share in shares_of_good(parts))


def test_a_small_alpha_gives_unlike_labels_and_a_large_one_alike_labels():
    records = records_of(4000)
    unlike = shares_of_good(partition(records, NAMES, DirichletPartition(alpha=0.1), seed=3))
    alike = shares_of_good(partition(records, NAMES, DirichletPartition(alpha=1000), seed=3))
    assert max(unlike) - min(unlike) > 0.5
    assert max(alike) - min(alike) < 0.1


def test_a_group_is_never_cut_and_groups_are_spread_evenly():
    parts = partition(records_of(110), NAMES, GroupPartition(), seed=3)
    groups = [{record.group for record in part} for part in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 11
    assert {len(each) for each in groups} == {2, 3}


def test_what_cannot_be_split_is_refused():
    with pytest.raises(DataError, match="3 records cannot be split among 4"):
        partition(records_of(3), NAMES, IidPartition(), seed=1)
    with pytest.raises(DataError, match="11 groups cannot be split among 12"):
        partition(records_of(99), list("abcdefghijkl"), GroupPartition(), seed=1)
    with pytest.raises(DataError, match="distinct names"):
        partition(records_of(9), ["ash", "ash"], IidPartition(), seed=1)
    free_text = [Record(f"r{n}", "text", "yes") for n in range(9)]
    with pytest.raises(DataError, match="needs records with labels"):
        partition(free_text, ["ash"], DirichletPartition(alpha=1), seed=1)
    with pytest.raises(DataError, match="9 records cannot be split among 4 by"):
        partition(records_of(9), NAMES, DirichletPartition(alpha=1, least=9), seed=1)


@pytest.mark.parametrize(
    "how",
    [
        {"kind": "dirichlet"},
        {"kind": "dirichlet", "alpha": 0},
        {"kind": "dirichlet", "alpha": float("nan")},
        {"kind": "iid", "alpha": 1},
        {"kind": "random"},
    ],
)
def test_an_impossible_rule_is_refused(how):
    with pytest.raises(ValidationError):
        TypeAdapter(Partition).validate_python(how)
