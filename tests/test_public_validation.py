"""The public validation set: the same rows for everybody, balanced, and known by their hash."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.embedded_data import ORGANIZATIONS, embedded_organization, public_validation
from llm.records import Message, Record
from llm.rows import DataError
from strategies.public_validation import (
    PublicValidation,
    balanced_draw,
    public_validation_set,
    validation_terms,
)
from strategies.settings import RunSettings
from tests.real_model import application_cache

sizes = st.dictionaries(st.text("abc", max_size=2), st.integers(0, 12), max_size=5)
seeds = st.integers(0, 2**63 - 1)


def settings(**changes):
    return RunSettings.from_run_config({key.replace("_", "-"): v for key, v in changes.items()})


def made_up(counts):
    return {
        domain: [Record(f"{domain}/{k}", f"prompt {k}", "completion") for k in range(count)]
        for domain, count in counts.items()
    }


def per_domain(drawn):
    return Counter(record.id.rpartition("/")[0] for record in drawn)


@given(sizes, st.integers(1, 40), seeds)
def test_domains_are_drawn_from_as_evenly_as_their_records_allow(counts, count, seed):
    drawn = balanced_draw(made_up(counts), count, seed=seed)
    assert len(drawn) == min(count, sum(counts.values()))
    assert [record.id for record in drawn] == sorted({record.id for record in drawn})
    taken = per_domain(drawn)
    most = max(taken.values(), default=0)
    # Only a domain that has no more gives fewer, but for one record each of the last ones by name.
    assert all(taken[domain] >= min(counts[domain], most - 1) for domain in counts)


@given(sizes, st.integers(1, 40), seeds, st.randoms(use_true_random=False))
def test_neither_the_order_nor_a_record_that_is_not_drawn_changes_the_draw(
    counts, count, seed, random
):
    domains = made_up(counts)
    drawn = balanced_draw(domains, count, seed=seed)
    kept = {}
    for domain, records in domains.items():
        kept[domain] = [r for r in records if r in drawn or random.random() < 0.5]
        random.shuffle(kept[domain])
    shuffled = dict(random.sample(sorted(kept.items()), len(kept)))
    assert balanced_draw(shuffled, count, seed=seed) == drawn


def test_another_seed_draws_others():
    domains = made_up({"a": 100})
    assert balanced_draw(domains, 10, seed=1) != balanced_draw(domains, 10, seed=2)


CHAT = Record("x", (Message("user", "hello"),), "a king")
TEXT = Record("x", "prompt", " yes", (" yes", " no"), group="document")


@pytest.mark.parametrize(
    "changed",
    [
        replace(TEXT, id="y"),
        replace(TEXT, prompt="prompt "),
        replace(TEXT, completion=" no"),
        replace(TEXT, choices=(" no", " yes")),
        replace(TEXT, choices=()),
        CHAT,
        replace(CHAT, prompt=(Message("tool", "hello"),)),
        replace(CHAT, prompt=(Message("system", ""), Message("user", "hello"))),
    ],
)
def test_ids_and_contents_are_under_the_hash(changed):
    assert PublicValidation((changed,)).hash() != PublicValidation((TEXT,)).hash()
    assert len(PublicValidation((changed,)).hash()) == 32


def test_the_document_a_row_was_taken_from_is_not_under_the_hash():
    alone = replace(TEXT, group="")
    assert PublicValidation((alone,)).hash() == PublicValidation((TEXT,)).hash()


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_file_is_read_in_the_form_of_the_data(tmp_path):
    path = tmp_path / "public.jsonl"
    rows = [{"key": f"k{n}", "body": f"text {n}", "label": "bad"} for n in range(30)]
    write_rows(path, rows)
    chosen = settings(
        data="/data/{organization}.jsonl",
        data_fields="text=body,id=key",
        data_labels="bad,good",
        data_template="{text} Verdict:",
        public_validation=str(path),
        public_validation_records=20,
    )
    drawn = public_validation_set(chosen, tmp_path)
    assert len(drawn.records) == 20
    assert {record.id for record in drawn.records} <= {f"k{n}" for n in range(30)}
    assert all(record.prompt.endswith(" Verdict:") for record in drawn.records)
    write_rows(path, rows[::-1])
    assert public_validation_set(chosen, tmp_path).hash() == drawn.hash()


def test_a_missing_or_malformed_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"public\.jsonl: no such file"):
        public_validation_set(settings(public_validation=f"{tmp_path}/public.jsonl"), tmp_path)
    write_rows(tmp_path / "public.jsonl", [{"text": "no label"}])
    with pytest.raises(DataError, match=r"public\.jsonl:1"):
        public_validation_set(settings(public_validation=f"{tmp_path}/public.jsonl"), tmp_path)


def test_without_a_set_nothing_is_loaded_and_the_terms_say_so(tmp_path):
    own = {"data": "/data/{organization}.jsonl"}
    for changes in ({"public_validation": "none"}, own, {**own, "public_validation": "none"}):
        assert public_validation_set(settings(**changes), tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert validation_terms(None) == {"public-validation-hash": ""}


@pytest.mark.real
def test_the_embedded_set_is_balanced_public_and_pinned():
    cache = application_cache()
    drawn = public_validation_set(settings(), cache)
    names = Counter(record.id.partition("-")[0] for record in drawn.records)
    assert names == dict.fromkeys(ORGANIZATIONS, 12)
    public = {record.id for rows in public_validation(cache).values() for record in rows}
    assert {record.id for record in drawn.records} <= public
    held = embedded_organization("shop", cache)
    assert public.isdisjoint(r.id for part in (held.train, held.validation) for r in part)
    assert validation_terms(drawn) == {"public-validation-hash": drawn.hash().hex()}
    assert drawn.hash().hex() == "32d37a0efa00498754b7422be81725fc852fb47976da639befa704eca5b3ee7c"
    everything = public_validation_set(settings(public_validation_records=10**6), cache)
    assert {record.id for record in everything.records} == public


@pytest.mark.real
def test_an_experiment_on_one_domain_is_scored_on_that_domain():
    chosen = settings(data="embedded:cinema", partition="iid", organizations="a,b")
    drawn = public_validation_set(chosen, application_cache())
    assert {record.id.partition("-")[0] for record in drawn.records} == {"cinema"}
    unknown = settings(data="embedded:theatre", partition="iid", organizations="a,b")
    with pytest.raises(DataError, match="no embedded data of 'theatre'"):
        public_validation_set(unknown, application_cache())
