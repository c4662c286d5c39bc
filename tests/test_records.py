"""A record holds only what can be trained on and named later."""

from dataclasses import replace

import pytest

from llm.records import MAX_NAME_CHARACTERS, Message, Record, RecordError

CLASSIFIED = Record("a-1", "Review: fine\nSentiment:", " good", (" bad", " good"), "a")
CHAT = Record("c-1", (Message("system", ""), Message("user", "Hello?")), "Hello.")


def test_a_record_without_group_is_split_by_its_id_and_one_with_group_by_the_group():
    assert CHAT.split_key == "c-1"
    assert CLASSIFIED.split_key == "a"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": ""}, "id"),
        ({"id": "x" * (MAX_NAME_CHARACTERS + 1)}, "id"),
        ({"id": "two\nlines"}, "id"),
        ({"id": 7}, "id"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ()}, "prompt"),
        ({"prompt": ("Hello?",)}, "prompt"),
        ({"prompt": (Message("user", "Hello?"), Message("assistant", "Yes?"))}, "prompt"),
        ({"prompt": "half a character: \ud800"}, "prompt"),
        ({"completion": ""}, "completion"),
        ({"completion": " middling"}, "completion"),
        ({"choices": (" good",)}, "choices"),
        ({"choices": (" good", " good")}, "choices"),
        ({"choices": [" good", " bad"]}, "choices"),
        ({"choices": (" good", "")}, "choice"),
        ({"group": "\t"}, "group"),
    ],
)
def test_a_malformed_record_is_refused_by_the_name_of_its_field(change, named):
    with pytest.raises(RecordError, match=f"^{named}"):
        replace(CLASSIFIED, **change)


@pytest.mark.parametrize(
    ("role", "content"), [("User", "hi"), ("", "hi"), (["user"], "hi"), ("user", " "), ("user", 3)]
)
def test_a_malformed_message_is_refused(role, content):
    with pytest.raises(RecordError, match=r"^message"):
        Message(role, content)


def test_a_refusal_does_not_repeat_the_data():
    for change in ({"id": "secret\n"}, {"group": "secret\n"}, {"completion": "secret"}):
        with pytest.raises(RecordError) as refused:
            replace(CLASSIFIED, **change)
        assert "secret" not in str(refused.value)
