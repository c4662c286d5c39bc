"""An organization's own data, as the settings name it: whose rows, which fields, which part."""

import csv
import json

import pytest

from client_app.own_data import data_settings, load_own_data
from llm.rows import DataError
from strategies.settings import RunSettings
from tests.organization_cases import write_reviews


def settings(**changes):
    config = {"organizations": "shop", "min-organizations": 1}
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    return RunSettings.from_run_config({**config, **named})


def ids(data):
    return [record.id for part in (data.train, data.validation, data.test) for record in part]


def test_the_organizations_name_stands_in_the_path(tmp_path):
    for name in ("shop", "cinema"):
        write_reviews(tmp_path / f"{name}.jsonl", 40 if name == "shop" else 60)
    chosen = settings(organizations="shop,cinema", data=f"{tmp_path}/{{organization}}.jsonl")
    assert len(ids(load_own_data(chosen, "shop", tmp_path))) == 40
    assert len(ids(load_own_data(chosen, "cinema", tmp_path))) == 60


def test_a_labelled_file_is_read_with_the_settings_fields_words_and_template(tmp_path):
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "doc", "body", "stars"])
        rows.writerows([f"k{n}", f"d{n // 2}", f"text {n}", n % 2] for n in range(80))
    data = load_own_data(
        settings(
            data=str(path),
            data_fields="text=body,label=stars,id=key,group=doc",
            data_labels="0=bad,1=good",
            data_template="Review: {text}\nVerdict:",
        ),
        "shop",
        tmp_path,
    )
    assert sorted(ids(data)) == sorted(f"k{n}" for n in range(80))
    record = next(r for r in data.train if int(r.id[1:]) % 2)
    number = record.id[1:]
    assert record.prompt == f"Review: text {number}\nVerdict:"
    assert (record.completion, record.group) == (" good", f"d{int(number) // 2}")
    assert set(record.choices) == {" bad", " good"}


@pytest.mark.parametrize(
    ("form", "fields", "row"),
    [
        ("prompt-completion", "prompt=q,completion=a", lambda n: {"q": f"why {n}?", "a": f"{n}"}),
        (
            "chat",
            "messages=turns",
            lambda n: {
                "turns": [
                    {"role": "user", "content": f"why {n}?"},
                    {"role": "assistant", "content": f"because {n}"},
                ]
            },
        ),
    ],
)
def test_prompts_and_chats_are_read_by_the_settings_fields(tmp_path, form, fields, row):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row(n)) + "\n" for n in range(60)))
    chosen = settings(data=str(path), data_form=form, data_fields=fields)
    data = load_own_data(chosen, "shop", tmp_path)
    assert len(ids(data)) == 60
    assert str(data.train[0].prompt).count("why") == 1


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "group"])
def test_one_data_set_is_dealt_out_whole_and_the_same_way_every_time(tmp_path, kind):
    path = tmp_path / "all.jsonl"
    with path.open("w") as file:
        for n in range(240):
            label = ("positive", "negative")[n % 2]
            row = {"id": f"r{n}", "doc": f"d{n // 2}", "text": f"text {n}", "label": label}
            file.write(json.dumps(row) + "\n")
    chosen = settings(
        organizations="a,b,c",
        data=str(path),
        data_fields="id=id,group=doc",
        partition=kind,
        partition_alpha=10.0,
    )
    parts = {name: ids(load_own_data(chosen, name, tmp_path)) for name in ("a", "b", "c")}
    assert sorted(record for part in parts.values() for record in part) == sorted(
        f"r{n}" for n in range(240)
    )
    again = chosen.model_copy(update={"rank": 8})
    assert {name: ids(load_own_data(again, name, tmp_path)) for name in parts} == parts
    assert all(parts.values())


def test_an_embedded_organization_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DataError, match="no embedded data of 'bank': expected one of cinema"):
        data_settings(settings(organizations="bank"), "bank")


def test_one_embedded_organization_can_be_split(tmp_path):
    chosen = settings(organizations="a,b", data="embedded:shop", partition="iid")
    assert data_settings(chosen, "a").source.organization == "shop"
    assert data_settings(chosen, "a").domain == "product reviews"


def test_a_hub_data_set_is_named_with_its_configuration(tmp_path):
    source = data_settings(settings(data="hub:owner/name:config"), "shop").source
    assert (source.path, source.config) == ("owner/name", "config")
    assert data_settings(settings(data="hub:owner/name"), "shop").source.config is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("own.jsonl", '{"text": "a", "label": "positive"}\n{"text": 1}\n', "own.jsonl:2"),
        ("own.jsonl", "{\n", "own.jsonl:1"),
        ("own.csv", "text,label\na,positive,x\n", "own.csv:2"),
        ("own.jsonl", "", "own.jsonl: no rows"),
        ("own.txt", "a\n", "own.txt: expected a file ending in"),
        ("own.jsonl", None, "own.jsonl: no such file"),
        ("own.jsonl", '{"text": "a", "label": "positive"}\n', "no record falls into"),
    ],
)
def test_data_that_cannot_be_used_is_refused_by_file_and_line(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_own_data(settings(data=str(path)), "shop", tmp_path)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
