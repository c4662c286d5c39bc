"""Settings: one source for keys and defaults, and one clear line for whatever is wrong."""

import math
import tomllib
from pathlib import Path
from typing import get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.home import cache_folder, foedus_home
from strategies.run_chain import chain_settings
from strategies.run_parts import base_model_settings, training_settings
from strategies.settings import RunSettings, SettingsError
from strategies.settings_table import settings_table

ROOT = Path(__file__).parents[1]
FIELDS = {str(field.alias): field for field in RunSettings.model_fields.values()}
TEXT = st.text(max_size=200)
WRONG_TYPES = {
    bool: st.integers() | st.floats() | TEXT,
    int: st.booleans() | TEXT | st.floats().filter(lambda value: not value.is_integer()),
    float: st.booleans() | TEXT,
    str: st.booleans() | st.integers() | st.floats() | st.none() | st.lists(st.integers()),
}


def refusal(settings):
    """The line with which settings are refused."""
    with pytest.raises(SettingsError) as caught:
        RunSettings.from_run_config(settings)
    line = str(caught.value)
    assert line
    assert len(line.splitlines()) == 1, line
    assert len(line) < 600
    assert "Traceback" not in line
    assert "pydantic" not in line
    return line


def app_config():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return project["tool"]["flwr"]["app"]["config"]


def test_pyproject_holds_every_setting_with_its_default_and_no_other():
    defaults = RunSettings().to_run_config()
    config = app_config()
    assert list(config) == list(defaults)
    assert config == defaults
    assert {key: type(value) for key, value in config.items()} == {
        key: type(value) for key, value in defaults.items()
    }


def test_the_defaults_of_pyproject_are_accepted():
    assert RunSettings.from_run_config(app_config()) == RunSettings()


def test_the_readmes_table_is_the_one_printed_from_the_settings():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, rest = readme.partition("<!-- settings -->\n")
    table, marker, _ = rest.partition("<!-- /settings -->")
    assert marker, "README.md lacks the settings' table between its two markers"
    assert table.strip() == settings_table().strip()


def test_the_table_has_a_row_and_a_meaning_for_every_setting():
    rows = [line.split(" | ") for line in settings_table().splitlines()[2:]]
    assert [row[0].strip("|` ") for row in rows] == list(FIELDS)
    assert all(row[2].strip(" |").endswith(".") for row in rows)


@given(st.sampled_from(sorted(FIELDS)), st.data())
def test_a_value_of_another_type_is_refused_by_its_key(key, data):
    annotation = FIELDS[key].annotation
    kind = str if get_origin(annotation) is not None else annotation
    value = data.draw(WRONG_TYPES[kind])
    assert key in refusal({key: value})


@given(
    st.sampled_from([k for k, f in FIELDS.items() if get_origin(f.annotation) is not None]),
    st.text(max_size=300),
)
def test_a_value_that_is_not_among_the_choices_is_refused_with_the_choices(key, value):
    choices = get_args(FIELDS[key].annotation)
    if value in choices:
        return
    line = refusal({key: value})
    assert line.startswith(f"{key}: ")
    assert all(repr(choice) in line for choice in choices)


@given(st.text(max_size=80).filter(lambda key: key not in FIELDS))
def test_an_unknown_setting_is_named(key):
    assert refusal({key: 1}).startswith(f"unknown setting {key!r}"[:100])


@pytest.mark.parametrize("key", ["run_name", "learning_rate"])
def test_a_setting_goes_by_its_kebab_case_key_alone(key):
    with pytest.raises(SettingsError, match=f"unknown setting '{key}'"):
        RunSettings.from_run_config({key: FIELDS[key.replace("_", "-")].default})


@given(
    st.sampled_from([key for key, field in FIELDS.items() if field.annotation is float]),
    st.sampled_from([math.inf, -math.inf, math.nan, -1.0, -1e-300, 10**400]),
)
def test_a_number_that_is_not_finite_or_negative_is_refused(key, value):
    assert key in refusal({key: value})


@pytest.mark.parametrize("key", [key for key, field in FIELDS.items() if field.annotation is float])
def test_a_whole_number_stands_for_the_float(key):
    value = getattr(RunSettings.from_run_config({key: 1}), key.replace("-", "_"))
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"organizations": ""}, "organizations"),
        ({"organizations": " , "}, "organizations"),
        ({"organizations": "a,a"}, "organizations"),
        ({"organizations": "a,B"}, "'B'"),
        ({"organizations": "a,../b"}, "'../b'"),
        ({"organizations": "a,b\nc"}, "organizations"),
        ({"min-organizations": 5}, "min-organizations"),
        ({"ranks": "shop=17"}, "shop=17"),
        ({"ranks": "shop=0"}, "shop=0"),
        ({"ranks": "shop=" + "9" * 5000}, "ranks"),
        ({"ranks": "shop=٣"}, "ranks"),
        ({"ranks": "shop=1,shop=2"}, "ranks"),
        ({"ranks": "shop"}, "ranks"),
        ({"ranks": "nobody=4"}, "'nobody'"),
        ({"robust": "trimmed-mean", "aggregation": "fedit"}, "'trimmed-mean'"),
        ({"robust": "multi-krum"}, "byzantine=1 needs at least 5"),
        ({"robust": "trimmed-mean", "byzantine": 2}, "byzantine=2 needs at least 5"),
        ({"batch-size": 16, "micro-batch-size": 5}, "micro-batch-size"),
        ({"chain-id": 1}, "chain-id"),
        ({"chain-id": 2**63, "chain-url": "http://127.0.0.1:1"}, "chain-id"),
        ({"chain-url": "geth"}, "chain-url"),
        ({"chain-url": "ftp://node"}, "chain-url"),
        ({"chain-port": 65536}, "chain-port"),
        ({"data": "reviews.csv"}, "data"),
        ({"data": "hub:"}, "data"),
        ({"data": "/reviews.csv"}, "partition"),
        ({"partition": "iid"}, "partition"),
        ({"partition": "group", "data": "/{organization}.csv"}, "partition"),
        ({"data-labels": "one"}, "data-labels"),
        ({"data-labels": "0=a,1=a"}, "data-labels"),
        ({"data-labels": "0=,1=a"}, "data-labels"),
        ({"data-template": "no place for it"}, "data-template"),
        ({"data-template": "{text} {text}"}, "data-template"),
        ({"data-fields": "txt=body"}, "'txt'"),
        ({"data-fields": "text"}, "data-fields"),
        ({"home": "runs"}, "home"),
        ({"run-name": "a/b"}, "run-name"),
        ({"run-name": ".."}, "run-name"),
        ({"run-name": "x" * 65}, "run-name"),
        ({"weight-cap": 1.01}, "weight-cap"),
        ({"learning-rate": 1.01}, "learning-rate"),
        ({"epochs": 1001}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"public-validation": "rows.jsonl"}, "public-validation"),
        ({"public-validation": ""}, "public-validation"),
        ({"public-validation": "embedded:shop"}, "public-validation"),
        ({"public-validation-records": 0}, "public-validation-records"),
        ({"score-bound": 0.0}, "score-bound"),
        ({"score-bound": 1001.0}, "score-bound"),
        ({"score-tolerance": 1001.0}, "score-tolerance"),
        ({"reward-constant": 9e-7}, "reward-constant"),
        ({"reward-per-round": -1}, "reward-per-round"),
        ({"reward-per-round": 2**53}, "reward-per-round"),
        ({"score-method": "first-order", "aggregation": "flora"}, "first-order"),
    ],
)  # fmt: skip
def test_values_that_do_not_go_together_are_refused_by_name(settings, named):
    assert named in refusal(settings)


def test_a_password_in_the_chains_address_is_not_repeated():
    assert "secret" not in refusal({"chain-url": "htp://user:secret@node"})


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "learning-rate": st.floats(),
            "batch-size": st.integers(0, 10_000),
            "micro-batch-size": st.integers(0, 10_000),
            "epochs": st.integers(0, 10_000),
            "warmup-steps": st.integers(-1, 10_000),
            "max-gradient-norm": st.floats(),
            "max-tokens": st.integers(0, 10_000),
            "chain-url": st.sampled_from(["http://127.0.0.1:8545", "https://node", "http://"]),
        },
    )
)
def test_whatever_is_accepted_can_be_trained_with(config):
    try:
        settings = RunSettings.from_run_config(config)
    except SettingsError:
        return
    training_settings(settings, settings.rounds)
    base_model_settings(settings)
    if settings.chain_url != "managed":
        chain_settings(settings)


def test_steps_grow_smaller_over_the_rounds_of_a_run_but_not_in_rounds_of_recovery():
    plain = RunSettings(rounds=4, learning_rate=0.008)
    rates = [training_settings(plain, number).learning_rate for number in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.008, 0.006, 0.004, 0.002])
    alike = RunSettings(rounds=4, learning_rate=0.008, round_schedule="constant")
    assert {training_settings(alike, number).learning_rate for number in (1, 4)} == {0.008}
    fast = RunSettings(
        rounds=8,
        learning_rate=0.008,
        lineage=f"0x{'11' * 32}:4",
        requests=f"0x{'22' * 32}",
        unlearners="shop",
        record_recovery_rounds=2,
    )
    # Of the run's own rounds the first unlearns, two recover, and one was still to come.
    rates = [training_settings(fast, number).learning_rate for number in (2, 3, 4)]
    assert rates == pytest.approx([0.008, 0.008, 0.001])


def test_home_and_cache_come_from_setting_then_environment_then_default(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("FOEDUS_HOME", raising=False)
    monkeypatch.delenv("FOEDUS_CACHE", raising=False)
    assert foedus_home() == tmp_path / "user" / ".foedus"
    monkeypatch.setenv("FOEDUS_HOME", str(tmp_path / "environment"))
    assert foedus_home() == tmp_path / "environment"
    assert foedus_home(str(tmp_path / "setting")) == tmp_path / "setting"
    assert foedus_home("~/here") == tmp_path / "user" / "here"
    assert cache_folder(tmp_path) == tmp_path / "cache"
    monkeypatch.setenv("FOEDUS_CACHE", str(tmp_path / "shared"))
    assert cache_folder(tmp_path) == tmp_path / "shared"
