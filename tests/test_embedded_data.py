"""The four embedded organizations, from the real package: counts, ids, and nothing leaks."""

from collections import Counter

import numpy as np
import pytest
from scipy.sparse import csr_array

from llm.datasets import DataError, DataSettings, load_organization, load_records
from llm.embedded_data import (
    NEGATIVE,
    ORGANIZATIONS,
    POSITIVE,
    _parse,
    embedded_organization,
    embedded_records,
    public_validation,
)
from llm.near_duplicates import normalized
from llm.partition import DirichletPartition, partition

pytestmark = pytest.mark.real

NAMES = ["cinema", "microblog", "shop", "newspaper"]
#: Rows in train, validation, test and public validation.
COUNTS = {
    "cinema": (9306, 251, 426, 89),
    "microblog": (2549, 278, 487, 118),
    "shop": (2093, 223, 534, 135),
    "newspaper": (2182, 195, 481, 112),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def splits(cache):
    public = public_validation(cache)
    loaded = {name: embedded_organization(name, cache) for name in NAMES}
    return {
        name: (data.train, data.validation, data.test, public[name])
        for name, data in loaded.items()
    }


def text_of(record):
    return record.prompt.split(": ", 1)[1].removesuffix("\nSentiment:")


def test_there_are_four_organizations_with_the_documented_counts(splits):
    assert list(ORGANIZATIONS) == NAMES
    assert {name: tuple(map(len, parts)) for name, parts in splits.items()} == COUNTS


@pytest.mark.parametrize("name", NAMES)
def test_every_labelled_row_is_in_one_split_under_its_own_id(cache, splits, name):
    ids = [record.id for part in splits[name] for record in part]
    assert Counter(ids) == Counter(record.id for record in embedded_records(name, cache))
    assert len(set(ids)) == len(ids)
    assert all(identifier.startswith(f"{name}-") for identifier in ids)


@pytest.mark.parametrize("name", NAMES)
def test_no_document_is_in_two_splits(splits, name):
    documents = [{r.id.split("_")[0] for r in part} for part in splits[name]]
    assert sum(map(len, documents)) == len(set().union(*documents))


@pytest.mark.parametrize("name", NAMES)
def test_no_text_resembles_one_of_another_split(splits, name):
    rows = [(number, record) for number, part in enumerate(splits[name]) for record in part]
    sets = [set(normalized(text_of(record)).split()) for _, record in rows]
    words = {word: column for column, word in enumerate(sorted(set().union(*sets)))}
    columns = [words[word] for each in sets for word in each]
    sizes = np.array([len(each) for each in sets])
    pointers = np.concatenate([[0], np.cumsum(sizes)])
    table = csr_array((np.ones(len(columns), np.int32), columns, pointers))
    part_of = np.array([part for part, _ in rows])
    held_out = np.flatnonzero(part_of != 0)
    shared = (table[held_out] @ table.T).tocoo()
    left, right = held_out[shared.coords[0]], shared.coords[1]
    similarity = shared.data / (sizes[left] + sizes[right] - shared.data)
    assert similarity[part_of[left] == part_of[right]].max() == 1
    assert similarity[part_of[left] != part_of[right]].max() < 0.8


@pytest.mark.parametrize("name", NAMES)
def test_both_labels_are_common_in_every_split(splits, name):
    for part in splits[name]:
        positive = sum(record.completion == POSITIVE for record in part) / len(part)
        assert 0.3 < positive < 0.75


def test_a_record_asks_for_the_sentiment_of_its_text(splits):
    record = next(r for r in splits["newspaper"][0] if r.id == "newspaper-1_3")
    assert record.prompt == (
        "Newspaper editorial: It's mainly a holiday celebration - toys from the sacks will be "
        "distributed to homeless kids.\nSentiment:"
    )
    assert record.completion == POSITIVE
    assert record.choices == (NEGATIVE, POSITIVE)


def test_no_html_entity_of_the_tweets_is_left(splits):
    texts = [text_of(record) for part in splits["microblog"] for record in part]
    assert any("&" in text for text in texts)
    assert not any("&amp;" in text or "&lt;" in text for text in texts)


def test_the_data_are_found_again_without_a_network(cache, splits, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert embedded_organization("shop", cache).train == splits["shop"][0]


def test_an_embedded_organization_is_loaded_by_settings_and_partitioned(cache, splits):
    source = {"kind": "embedded", "organization": "shop"}
    settings = DataSettings.model_validate({"name": "store", "source": source})
    data = load_organization(settings, cache)
    assert (data.name, data.domain) == ("store", "product reviews")
    assert (data.train, data.validation, data.test) == splits["shop"][:3]
    records = load_records(settings, cache)
    parts = partition(records, ["a", "b", "c"], DirichletPartition(alpha=1), seed=1)
    assert sorted(r.id for part in parts.values() for r in part) == sorted(r.id for r in records)


def test_an_unknown_organization_is_refused_by_name(cache):
    with pytest.raises(ValueError, match="no embedded organization 'bank'"):
        embedded_records("bank", cache)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"2\t1.0", "2 fields"),
        (b"2\t1.0\ta\tb", "4 fields"),
        (b"2\tnan\ttext", "not a number"),
        (b"2\thigh\ttext", "not a number"),
        (b"", "1 fields"),
    ],
)
def test_a_malformed_line_of_the_published_file_is_refused(line, reason):
    with pytest.raises(DataError, match=rf"^ratings\.txt:2: .*{reason}"):
        _parse(b"1\t-0.5\tfine\r\n" + line, "ratings.txt")
