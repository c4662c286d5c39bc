import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.json_nesting import MAX_NESTING, check_nesting

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(value, depth):
    for _ in range(depth):
        value = [value]
    return value


@given(VALUES)
def test_any_ordinary_value_passes(value):
    check_nesting(json.dumps(value))


@given(st.text(), st.integers(0, 5))
def test_brackets_within_a_string_do_not_count(text, depth):
    check_nesting(json.dumps(nested("[{" * 500 + text, depth)))


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_the_deepest_allowed_passes_and_one_level_more_does_not(opening):
    closing = "]" if opening == "[" else "}"
    check_nesting(opening * MAX_NESTING + "1" + closing * MAX_NESTING)
    with pytest.raises(ValueError, match="nested deeper than 100"):
        check_nesting(opening * (MAX_NESTING + 1) + "1" + closing * (MAX_NESTING + 1))


@given(st.text())
def test_a_text_that_never_closes_what_it_opens_is_refused(text):
    with pytest.raises(ValueError, match="nested deeper"):
        check_nesting("[" * 200_000 + json.dumps(text)[:-1])
