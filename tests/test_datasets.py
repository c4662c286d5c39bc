"""Own data: valid rows come back as they were, malformed ones are refused by file and line."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llm import rows
from llm.datasets import (
    DataSettings,
    content_id,
    load_organization,
    load_records,
    organization_of,
    withheld_records,
)
from llm.records import Message
from llm.rows import DataError, read_rows

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
STARS = {"1": "negative", "2": "negative", "4": "positive", "5": "positive"}
FORMS = {
    "text-label": {"kind": "text-label", "words": {"0": "negative", "1": "positive"}},
    "prompt-completion": {"kind": "prompt-completion"},
    "chat": {"kind": "chat"},
}

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.strip)
TURN = st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": TEXT})
ANSWER = st.fixed_dictionaries({"role": st.just("assistant"), "content": TEXT})
CONTENT = {
    "text-label": st.fixed_dictionaries({"text": TEXT, "label": st.sampled_from([0, 1, "0", "1"])}),
    "prompt-completion": st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT}),
    "chat": st.builds(
        lambda pairs: {"messages": [turn for pair in pairs for turn in pair]},
        st.lists(st.tuples(TURN, ANSWER), min_size=1, max_size=3),
    ),
}
ANY_FORM = st.sampled_from(sorted(FORMS)).flatmap(
    lambda form: st.tuples(st.just(form), st.lists(CONTENT[form], min_size=1, max_size=6))
)
FILES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def data_settings(path, form, **more):
    return DataSettings.model_validate(
        {"name": "own", "source": {"kind": "file", "path": path, "form": form, **more}}
    )


def load(path, form, **more):
    return load_records(data_settings(path, form, **more), cache=Path("unused"))


def write_jsonl(path, objects):
    path.write_bytes(b"".join(json.dumps(each).encode() + b"\n" for each in objects))
    return path


def write_csv(path, objects):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, objects[0].keys())
    writer.writeheader()
    writer.writerows(objects)
    path.write_bytes(text.getvalue().encode())
    return path


@FILES
@given(ANY_FORM)
def test_valid_json_rows_become_records_that_say_what_the_rows_said(tmp_path, case):
    form, contents = case
    numbered = [{"id": n, **content} for n, content in enumerate(contents)]
    records = load(write_jsonl(tmp_path / "own.jsonl", numbered), FORMS[form], id_field="id")
    assert [record.id for record in records] == [str(n) for n in range(len(contents))]
    for content, record in zip(contents, records, strict=True):
        if form == "text-label":
            assert record.prompt == content["text"] + "\nLabel:"
            assert record.completion == (" negative", " positive")[int(content["label"])]
            assert record.choices == (" negative", " positive")
        elif form == "prompt-completion":
            assert (record.prompt, record.completion) == (content["prompt"], content["completion"])
        else:
            *prompt, last = content["messages"]
            assert record.prompt == tuple(Message(m["role"], m["content"]) for m in prompt)
            assert record.completion == last["content"]


@FILES
@given(st.lists(CONTENT["prompt-completion"], min_size=1, max_size=6))
def test_a_csv_file_gives_the_records_of_the_json_file_with_the_same_rows(tmp_path, contents):
    from_json = load(write_jsonl(tmp_path / "own.jsonl", contents), FORMS["prompt-completion"])
    from_csv = load(write_csv(tmp_path / "own.csv", contents), FORMS["prompt-completion"])
    assert from_csv == from_json


@FILES
@given(ANY_FORM, st.randoms(use_true_random=False))
def test_derived_ids_are_distinct_and_depend_on_content_alone(tmp_path, case, random):
    form, contents = case
    repeated = contents + contents[:2]
    records = load(write_jsonl(tmp_path / "own.jsonl", repeated), FORMS[form])
    random.shuffle(repeated)
    shuffled = load(write_jsonl(tmp_path / "own.jsonl", repeated), FORMS[form])
    assert len({record.id for record in records}) == len(records)
    assert set(records) == set(shuffled)


def _without(field):
    return lambda row: {name: value for name, value in row.items() if name != field}


def _with(field, value):
    return lambda row: {**row, field: value}


CHANGES = {
    "text-label": [
        (_without("id"), "field 'id' is missing"),
        (_without("text"), "field 'text' is missing"),
        (_without("label"), "field 'label' is missing"),
        (_with("id", 1.5), "field 'id' is float"),
        (_with("id", True), "field 'id' is bool"),
        (_with("id", "x" * 201), "id is not a name"),
        (_with("id", "0"), "the id is used already"),
        (_with("text", 3), "field 'text' is int"),
        (_with("text", " \t"), "field 'text' is empty"),
        (_with("text", None), "field 'text' is NoneType"),
        (_with("text", "\ud800"), "half a character"),
        (_with("label", 2), "unknown label"),
        (_with("label", True), "field 'label' is bool"),
        (_with("label", 1.0), "field 'label' is float"),
        (_with("label", [1]), "field 'label' is list"),
    ],
    "prompt-completion": [
        (_without("completion"), "field 'completion' is missing"),
        (_with("completion", ""), "field 'completion' is empty"),
        (_with("prompt", ["a"]), "field 'prompt' is list"),
    ],
    "chat": [
        (_without("messages"), "field 'messages'"),
        (_with("messages", "hello"), "field 'messages'"),
        (_with("messages", []), "field 'messages'"),
        (_with("messages", [{"role": "assistant", "content": "hi"}]), "field 'messages'"),
        (lambda row: {**row, "messages": row["messages"][:-1] * 2}, "last message must be"),
        (lambda row: {**row, "messages": [*row["messages"], row["messages"][-1]]}, "prompt ends"),
        (lambda row: {**row, "messages": ["hi", *row["messages"]]}, "message 1: expected"),
        (lambda row: {**row, "messages": [{"role": "user"}, *row["messages"]]}, "message 1: exp"),
        (
            lambda row: {**row, "messages": [{"role": [], "content": "x"}, *row["messages"]]},
            "message 1: message role",
        ),
        (
            lambda row: {**row, "messages": [{"role": "user", "content": 5}, *row["messages"]]},
            "message 1: message content",
        ),
    ],
}
BROKEN_LINES = [
    (lambda line: line[:-1], "not JSON"),
    (lambda line: b"[" + line + b"]", "expected a JSON object, got list"),
    (lambda line: b"null", "expected a JSON object, got NoneType"),
    (lambda line: line[:-1] + b', "id": "again"}', "a field occurs twice"),
    (lambda line: line[:-1] + b', "more": NaN}', "NaN is not a JSON number"),
    (lambda line: line[:-1] + b', "more": ' + b"9" * 5000 + b"}", "not acceptable JSON"),
    (lambda line: line[:-1] + b', "more": ' + b"[" * 100_000 + b"}", "not acceptable JSON"),
    (lambda line: line[:-1] + b', "more": "\xff"}', "invalid UTF-8 at byte"),
    (lambda line: line[:-1] + b', "more": "' + b"x" * rows.MAX_ROW_BYTES + b'"}', "longer than"),
]


@pytest.mark.parametrize(
    ("form", "change", "reason"),
    [(form, *change) for form, changes in CHANGES.items() for change in changes],
)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_row_is_refused_by_file_line_and_reason(tmp_path, form, change, reason, data):
    contents = data.draw(st.lists(CONTENT[form], min_size=2, max_size=5))
    objects = [{"id": str(n), **content} for n, content in enumerate(contents)]
    where = data.draw(st.integers(1, len(objects) - 1))
    objects[where] = change(objects[where])
    path = write_jsonl(tmp_path / "own.jsonl", objects)
    with pytest.raises(DataError) as refused:
        load(path, FORMS[form], id_field="id")
    assert str(refused.value).startswith(f"{path}:{where + 1}: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize(("change", "reason"), BROKEN_LINES)
@pytest.mark.parametrize("where", [0, 2])
def test_a_broken_line_is_refused_by_file_line_and_reason(tmp_path, change, reason, where):
    objects = [{"id": str(n), "prompt": f"prompt {n}", "completion": "yes"} for n in range(3)]
    path = write_jsonl(tmp_path / "own.jsonl", objects)
    lines = path.read_bytes().splitlines()
    lines[where] = change(lines[where])
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError) as refused:
        load(path, FORMS["prompt-completion"], id_field="id")
    assert str(refused.value).startswith(f"{path}:{where + 1}: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (b"prompt,completion\na,b\nc\n", 3, "1 fields, but the header names 2"),
        (b"prompt,completion\na,b,c\n", 2, "3 fields, but the header names 2"),
        (b'prompt,completion\n"two\nlines",b\nc,d,e\n', 4, "3 fields"),
        (b'prompt,completion\na,"never closed\n', 2, "not CSV"),
        (b'prompt,completion\n"a"x,b\n', 2, "not CSV"),
        (b"prompt,prompt\na,b\n", 1, "the header's names"),
        (b"prompt,\na,b\n", 1, "the header's names"),
        (b"prompt,completion\na,\xe9\n", 2, "invalid UTF-8 at byte 3"),
        (b"prompt,completion\na,b\n ,b\n", 3, "field 'prompt' is empty"),
        (
            b"prompt,completion\n" + b'"' + (b"x\n" * 50_000 + b'","') * 11 + b'"\n',
            2,
            "longer than",
        ),
        (b"prompt,completion\na," + b"x" * 140_000 + b"\n", 2, "not CSV: field larger"),
    ],
)
def test_a_malformed_csv_row_is_refused_by_file_line_and_reason(tmp_path, data, line, reason):
    path = tmp_path / "own.csv"
    path.write_bytes(data)
    with pytest.raises(DataError) as refused:
        load(path, FORMS["prompt-completion"])
    assert reason in str(refused.value)
    assert str(refused.value).startswith(f"{path}:{line}: ")


@FILES
@given(
    st.sampled_from(["own.jsonl", "own.csv"]),
    st.binary() | st.text('{}[]":,ab\n\r\\u').map(str.encode),
)
def test_any_bytes_are_rows_or_a_refusal_by_line_and_nothing_else(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    refusal = f"{path}:"
    try:
        names = [name for row in read_rows(path) for name in row.fields]
    except DataError as error:
        names, refusal = [], str(error)
    assert refusal.startswith(f"{path}:")
    assert all(isinstance(name, str) for name in names)


def test_no_refusal_repeats_the_text_of_a_row(tmp_path):
    objects = [{"id": "secret", "text": "secret", "label": "secret"}]
    path = write_jsonl(tmp_path / "own.jsonl", objects)
    with pytest.raises(DataError) as refused:
        load(path, FORMS["text-label"])
    assert "secret" not in str(refused.value)


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\n{"prompt": "a", "completion": "b"}\r\n\n  \n')
    assert [row.place for row in read_rows(path)] == [f"{path}:2"]


def test_a_file_that_is_missing_empty_of_another_kind_or_too_long_is_refused(tmp_path, monkeypatch):
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    for path, reason in [
        (tmp_path / "absent.jsonl", "no such file"),
        (tmp_path, "ending in .jsonl or .csv"),
        (empty, "no rows"),
    ]:
        with pytest.raises(DataError, match=reason):
            load(path, FORMS["prompt-completion"])
    long = write_jsonl(tmp_path / "long.jsonl", [{"prompt": "a", "completion": "b"}] * 4)
    monkeypatch.setattr(rows, "MAX_ROWS", 3)
    with pytest.raises(DataError, match=":4: more than 3 rows"):
        load(long, FORMS["prompt-completion"])
    monkeypatch.setattr(rows, "MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match="at most 10"):
        load(long, FORMS["prompt-completion"])


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "text-label", "words": {"0": "no"}},
        {"kind": "text-label", "words": {"0": "no", "1": "no"}},
        {"kind": "text-label", "words": {"0": "no", "1": " yes"}},
        {"kind": "text-label", "words": {"0": "no", "1": ""}},
        {"kind": "text-label", "words": {"0": "no", "1": "yes"}, "template": "Label:"},
        {"kind": "text-label", "words": {"0": "no", "1": "yes"}, "template": "{text} {text}"},
        {"kind": "chat", "message": "messages"},
        {"kind": "table"},
        None,
    ],
)
def test_an_impossible_form_is_refused_before_any_row_is_read(form):
    with pytest.raises(ValidationError):
        data_settings(Path("own.jsonl"), form)


def test_a_text_with_braces_is_put_into_the_template_as_it_is(tmp_path):
    path = write_jsonl(tmp_path / "own.jsonl", [{"text": "{text} {0}", "label": 0}])
    assert load(path, FORMS["text-label"])[0].prompt == "{text} {0}\nLabel:"


def test_copies_of_a_text_are_in_one_group_whatever_their_ids_and_case(tmp_path):
    texts = ["Good value!", "good  value", "GOOD VALUE...", "bad value"]
    objects = [{"id": n, "text": text, "label": 1} for n, text in enumerate(texts)]
    path = write_jsonl(tmp_path / "own.jsonl", objects)
    groups = [record.group for record in load(path, FORMS["text-label"], id_field="id")]
    assert len(set(groups[:3])) == 1
    assert groups[3] != groups[0]


def test_the_example_csv_of_reviews_is_read_with_its_ids_and_groups():
    records = load(
        EXAMPLES / "reviews.csv",
        {"kind": "text-label", "label": "stars", "words": STARS, "template": "{text}\nThis is"},
        id_field="id",
        group_field="product",
    )
    assert [record.id for record in records] == [f"r-100{n}" for n in range(1, 7)]
    assert [record.group for record in records] == ["kettle"] * 2 + ["lamp"] * 2 + ["radio"] * 2
    assert [record.completion for record in records] == [" positive", " negative"] * 3
    assert "\nNobody answered" in records[1].prompt
    assert '"better than my old set"' in records[4].prompt


def test_the_example_file_of_completions_is_read():
    records = load(
        EXAMPLES / "completions.jsonl",
        {"kind": "prompt-completion"},
        id_field="id",
        group_field="article",
    )
    assert [record.id for record in records] == ["1", "2", "3", "4"]
    assert {record.group for record in records} == {"opening hours", "loans"}
    assert all(record.choices == () for record in records)


def test_the_example_file_of_chats_is_read_with_derived_ids():
    records = load(EXAMPLES / "chats.jsonl", {"kind": "chat"})
    assert [len(record.prompt) for record in records] == [2, 3, 1]
    assert records[1].completion == "The rear one, from the age of nine months."
    assert records[0].id == content_id(records[0]) == "content-f8881ffc8f79048703adde9d8099e40c"


def test_a_hub_data_set_is_read_from_a_folder_as_from_the_hub(tmp_path):
    write_jsonl(
        tmp_path / "train.jsonl", [{"text": f"text {n}", "label": n % 2} for n in range(20)]
    )
    source = {"kind": "hub", "path": str(tmp_path), "form": FORMS["text-label"]}
    hub = DataSettings.model_validate({"name": "own", "source": source})
    records = load_records(hub, cache=tmp_path)
    assert [record.prompt for record in records] == [f"text {n}\nLabel:" for n in range(20)]
    source["form"] = {**FORMS["text-label"], "words": {"1": "yes", "2": "no"}}
    wrong = DataSettings.model_validate({"name": "own", "source": source})
    with pytest.raises(DataError, match=r"\[train\] row 1: unknown label"):
        load_records(wrong, cache=tmp_path)


def test_a_hub_data_set_that_cannot_be_loaded_is_one_clear_line(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a", "label": 1}])
    source = {
        "kind": "hub",
        "path": str(tmp_path),
        "split": "absent",
        "form": FORMS["text-label"],
    }
    with pytest.raises(DataError, match=r"could not be loaded: .* Check name, config and split"):
        load_records(DataSettings.model_validate({"name": "own", "source": source}), cache=tmp_path)


def test_an_own_file_is_split_and_a_split_that_stays_empty_is_refused(tmp_path):
    objects = [{"prompt": f"prompt {n}", "completion": "yes"} for n in range(200)]
    path = write_jsonl(tmp_path / "own.jsonl", objects)
    chosen = data_settings(path, FORMS["prompt-completion"], shares={"test": 0.3, "withheld": 0.1})
    data = load_organization(chosen, cache=tmp_path)
    records = load_records(chosen, cache=tmp_path)
    parts = [data.train, data.validation, data.test, withheld_records(chosen, records)]
    assert sorted(record.id for part in parts for record in part) == sorted(r.id for r in records)
    assert all(parts)
    with pytest.raises(DataError, match="no record falls into the"):
        organization_of(chosen, "own", records[:1])
