"""Terms: what was agreed is under the hash, where and how it is carried out is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.settings import RunSettings
from strategies.terms import differing_terms, terms_hash, terms_of

FINGERPRINT = "ab" * 32
LOCAL = {
    "home": "/elsewhere",
    "run-name": "other",
    "resume": True,
    "chain-url": "http://127.0.0.1:8546",
    "chain-port": 9000,
    "anchor-interval": 3,
    "participation": "always",
    "token-price": 11,
    "token-prices": "shop=12",
    "token-budget": 1000,
    "budget-epoch": 7,
    "backup-days": 8,
}
AGREED = {
    "bundle": "ef" * 32,
    "attestors": "shop",
    "challenge-window": 60,
    "response-window": 61,
    "challenge-bond": 5,
    "threads": 2,
    "seed": 43,
    "organizations": "cinema,microblog,shop",
    "data": "/data/{organization}.csv",
    "data-form": "chat",
    "data-fields": "text=body",
    "data-labels": "bad,good",
    "data-template": "{text}:",
    "partition-alpha": 0.5,
    "model": "/models/llama",
    "quantization": "none",
    "compute-dtype": "float32",
    "rank": 17,
    "ranks": "shop=8",
    "alpha": 33.0,
    "target-modules": "q_proj",
    "rounds": 7,
    "records-per-round": 129,
    "epochs": 2,
    "batch-size": 32,
    "micro-batch-size": 8,
    "learning-rate": 0.002,
    "warmup-steps": 3,
    "schedule": "linear",
    "round-schedule": "cosine",
    "max-gradient-norm": 2.0,
    "max-tokens": 128,
    "validation-records": 65,
    "public-validation": "none",
    "public-validation-records": 49,
    "score-method": "first-order",
    "score-bound": 2.0,
    "score-tolerance": 0.02,
    "reward-per-round": 5,
    "reward-constant": 0.02,
    "aggregation": "flora",
    "robust": "trimmed-mean",
    "clip-norm": 1.0,
    "byzantine": 2,
    "accumulator-rank": 4,
    "weight-cap": 0.5,
    "norm-bound": 1.0,
    "min-organizations": 3,
    "round-deadline": 60.0,
    "effort-by": "rank",
    "effort-levels": "10,20,30",
    "forgetting-method": "simnpo",
    "forgetting-epochs": 11,
    "forgetting-learning-rate": 0.003,
    "recovery-rounds": 5,
    "record-recovery-rounds": 1,
    "recovery-projection": True,
    "isolation": True,
    "privacy-epsilon": 8.0,
    "privacy-delta": 1e-6,
    "privacy-clip": 0.5,
}


def terms(run="treaty", fingerprint=FINGERPRINT, **settings):
    return terms_of(RunSettings.from_run_config(settings), run=run, model_fingerprint=fingerprint)


@pytest.mark.parametrize("key", sorted(LOCAL))
def test_where_a_run_is_carried_out_is_no_term(key):
    assert terms_hash(terms(**{key: LOCAL[key]})) == terms_hash(terms())


@pytest.mark.parametrize("key", sorted(AGREED))
def test_each_agreed_setting_changes_the_hash_and_is_named(key):
    before, now = terms(), terms(**{key: AGREED[key]})
    assert terms_hash(before) != terms_hash(now)
    (difference,) = differing_terms(before, now)
    assert difference.startswith(f"{key} was {before.get(key)!r}, is ")


def test_every_setting_is_either_agreed_or_local():
    # With `partition` and `chain-id`, which no default data set or chain goes with, and four that
    # go with each other alone.
    others = {"mode", "partition", "chain-id", "lineage", "requests", "unlearners", "leavers"}
    assert set(RunSettings().to_run_config()) == set(AGREED) | set(LOCAL) | others
    assert {"partition", "chain-id"} <= terms().keys()


def test_terms_that_say_nothing_of_unlearning_are_what_they_were_before_it_was_there():
    assert not {
        key
        for key in terms()
        if key.startswith(("forgetting-", "recovery-", "record-rec", "unlearn"))
    }


def test_two_runs_and_two_models_are_two_tasks():
    hashes = {
        terms_hash(terms()),
        terms_hash(terms(run="another")),
        terms_hash(terms(fingerprint="cd" * 32)),
    }
    assert len(hashes) == 3


@given(st.floats(min_value=1e-300, max_value=1, exclude_min=True))
def test_a_float_stands_in_the_terms_to_its_last_bit(rate):
    agreed = terms(**{"learning-rate": rate})
    assert float.fromhex(agreed["learning-rate"]) == rate
    assert len(terms_hash(agreed)) == 32


def test_equal_terms_differ_in_nothing():
    assert differing_terms(terms(), terms()) == []
    assert differing_terms({"a": 1}, {"b": 2}) == ["a was 1, is None", "b was None, is 2"]
